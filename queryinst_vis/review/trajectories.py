"""Tracks as sequences of boxes, and the cues for linking one to the end of another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from queryinst_vis.review.colours import ColourDescriptors
from queryinst_vis.review.index import TrackIndex
from queryinst_vis.review.pieces import Stored
from queryinst_vis.review.state import ReviewedTrack, frames_of

ENDPOINT_LENGTH = 8
"""Observations at an end of a trajectory from which its velocity, height and colours are taken."""

_MAX_SPEED = 0.5  # heights per frame; faster estimates are noise
_MAX_EXTRAPOLATION = 10  # frames


@dataclass(frozen=True)
class Trajectory:
    """The detected regions of a corrected track, or some of them; N observations.

    Attributes:
        track_id: id of the corrected track.
        frames: ``(N,)`` ascending.
        boxes: ``(N, 4)`` xyxy in pixels.
        scores: ``(N,)`` 0..1.
        rows: ``(N,)`` rows of the index.
        sources: ``(N,)`` ids of their tracks in the results.
        embedding: ``(D,)`` mean embedding of unit length; None if unknown.
        manual_frames: ``(M,)`` further frames, in which it is drawn or interpolated.
        colours: colour descriptors of the regions; None: colours are not compared.
    """

    track_id: int
    frames: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    rows: np.ndarray
    sources: np.ndarray
    embedding: np.ndarray | None
    manual_frames: np.ndarray
    colours: ColourDescriptors | None = None

    def __len__(self) -> int:
        """The number of observations."""
        return len(self.frames)

    def part(self, start: int, stop: int | None = None) -> Trajectory:
        """Observations ``start`` to ``stop`` (exclusive)."""
        return Trajectory(
            self.track_id,
            self.frames[start:stop],
            self.boxes[start:stop],
            self.scores[start:stop],
            self.rows[start:stop],
            self.sources[start:stop],
            self.embedding,
            self.manual_frames,
            self.colours,
        )

    @cached_property
    def source_ids(self) -> frozenset[int]:
        """Ids of the tracks in the results that it is made of."""
        return frozenset(np.unique(self.sources).tolist())

    @cached_property
    def centres(self) -> np.ndarray:
        """``(N, 2)`` box centres."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @cached_property
    def heights(self) -> np.ndarray:
        """``(N,)`` box heights, at least 1 pixel."""
        return np.maximum(self.boxes[:, 3] - self.boxes[:, 1], 1.0)

    @cached_property
    def start(self) -> Endpoint:
        """Its first observations."""
        return _endpoint(self.part(0, ENDPOINT_LENGTH), 0)

    @cached_property
    def end(self) -> Endpoint:
        """Its last observations."""
        return _endpoint(self.part(max(0, len(self) - ENDPOINT_LENGTH)), -1)


class Endpoint(NamedTuple):
    """The start or end of a trajectory.

    Attributes:
        frame: frame of the outermost observation.
        x, y: centre of its box in pixels.
        height: median box height in pixels.
        velocity: ``(x, y)`` in pixels per frame.
        colours: ``(D,)`` mean colour descriptor; None if unknown.
    """

    frame: int
    x: float
    y: float
    height: float
    velocity: tuple[float, float]
    colours: np.ndarray | None


def _endpoint(trajectory: Trajectory, outermost: int) -> Endpoint:
    height = median(trajectory.heights.tolist())
    colours = None if trajectory.colours is None else trajectory.colours.mean(trajectory.rows)
    x, y = trajectory.centres[outermost].tolist()
    velocity = _velocity(trajectory, height)
    return Endpoint(int(trajectory.frames[outermost]), x, y, height, velocity, colours)


def trajectory_of(
    index: TrackIndex,
    track: ReviewedTrack,
    embeddings: Mapping[int, np.ndarray],
    colours: ColourDescriptors | None = None,
) -> Trajectory:
    """The trajectory of a corrected track.

    Args:
        index: index of the results.
        track: the track.
        embeddings: ``(D,)`` mean embeddings by track id in the results.
        colours: colour descriptors of the regions; None: colours are not compared.
    """
    parts = [
        (piece.source.track_id, index.rows(piece.source.track_id, piece.start, piece.stop))
        for piece in track.pieces
        if isinstance(piece.source, Stored)
    ]
    rows = [np.arange(part.start, part.stop) for _, part in parts]
    chosen = np.concatenate(rows) if rows else np.zeros(0, dtype=int)
    sources = [np.full(len(own), source) for (source, _), own in zip(parts, rows, strict=True)]
    weighted = [
        (embeddings.get(source), len(own)) for (source, _), own in zip(parts, rows, strict=True)
    ]
    return Trajectory(
        track.track_id,
        index.frames[chosen],
        index.boxes[chosen].astype(np.float64),
        index.scores[chosen],
        chosen,
        np.concatenate(sources) if sources else np.zeros(0, dtype=int),
        _mean(weighted),
        frames_of(index, tuple(p for p in track.pieces if not isinstance(p.source, Stored))),
        colours,
    )


def _mean(weighted: Sequence[tuple[np.ndarray | None, int]]) -> np.ndarray | None:
    """The weighted mean of the known embeddings, scaled to unit length."""
    known = [(embedding, weight) for embedding, weight in weighted if embedding is not None]
    if not known:
        return None
    total = np.sum([embedding * weight for embedding, weight in known], axis=0)
    norm = float(np.linalg.norm(total))
    return total / norm if norm > 0 else None


def embeddings_of_run(run: Mapping[str, Any] | None) -> dict[int, np.ndarray]:
    """The mean embeddings in a ``run.json``, by track id, scaled to unit length.

    Malformed ones are left out; if their sizes differ, all are.
    """
    stored = (run or {}).get("embeddings")
    embeddings = {}
    for key, values in (stored if isinstance(stored, dict) else {}).items():
        try:
            vector = np.array(values, dtype=np.float64)
        except (TypeError, ValueError):
            continue
        norm = np.linalg.norm(vector)
        if key.isdecimal() and vector.ndim == 1 and np.isfinite(norm) and norm > 0:
            embeddings[int(key)] = vector / norm
    sizes = {len(vector) for vector in embeddings.values()}
    return embeddings if len(sizes) == 1 else {}


class Link(NamedTuple):
    """Cues for whether a trajectory continues an earlier one.

    Attributes:
        gap: frames from the last observation of one to the first of the other, at least 1.
        distance: between these two box centres, in box heights.
        motion_error: distance between the two positions extrapolated at constant velocity to the
            middle of the gap, in box heights.
        size_change: absolute log ratio of the box heights.
        embedding_distance: cosine distance of the mean embeddings, 0..2; NaN if unknown.
        colour_distance: 1 - Bhattacharyya coefficient of the colours, 0..1; NaN if unknown.
    """

    gap: int
    distance: float
    motion_error: float
    size_change: float
    embedding_distance: float
    colour_distance: float


def link(before: Trajectory, after: Trajectory) -> Link:
    """Compare the end of a trajectory with the start of a later one; neither may be empty."""
    end, start = before.end, after.start
    gap = start.frame - end.frame
    height = math.sqrt(end.height * start.height)
    x, y = start.x - end.x, start.y - end.y
    half = min(gap, _MAX_EXTRAPOLATION) / 2
    error = [
        step - half * (forward + backward)
        for step, forward, backward in zip((x, y), end.velocity, start.velocity, strict=True)
    ]
    return Link(
        gap,
        math.hypot(x, y) / height,
        math.hypot(*error) / height,
        abs(math.log(end.height / start.height)),
        _distance(before.embedding, after.embedding),
        _distance(end.colours, start.colours),
    )


def _distance(first: np.ndarray | None, second: np.ndarray | None) -> float:
    """1 - dot product of two unit vectors; NaN if one is unknown."""
    return math.nan if first is None or second is None else 1 - min(float(first @ second), 1.0)


def _velocity(trajectory: Trajectory, height: float) -> tuple[float, float]:
    """Pixels per frame, by least squares; 0 for fewer than three observations."""
    if len(trajectory) < 3:
        return 0.0, 0.0
    times = trajectory.frames - trajectory.frames.sum() / len(trajectory)
    x, y = ((times @ trajectory.centres) / (times @ times)).tolist()
    limit = min(1.0, _MAX_SPEED * height / max(math.hypot(x, y), 1e-9))
    return x * limit, y * limit
