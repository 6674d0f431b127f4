"""Tracks as sequences of boxes, and how well one goes on where another ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from queryinst_vis.review.index import TrackIndex
from queryinst_vis.review.pieces import Stored
from queryinst_vis.review.state import ReviewedTrack, frames_of

NEAR = 8
"""Observations next to an end of which its speed and size are measured."""

_FASTEST = 0.5  # of its height that an instance may move in a frame; beyond, the estimate is noise
_LONGEST_LOOK = 10  # frames over which a speed is extrapolated


@dataclass(frozen=True)
class Course:
    """The regions of a track that were found, or some of them.

    Attributes:
        track_id: of the corrected track.
        frames: ``(N,)`` ascending.
        boxes: ``(N, 4)`` xyxy in pixels.
        scores: ``(N,)`` 0..1.
        sources: ``(N,)`` the track of the results that each comes from.
        embedding: ``(D,)`` mean embedding of length 1; None: there is none.
        by_hand: ``(M,)`` further frames, in which it is drawn or interpolated.
    """

    track_id: int
    frames: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    sources: np.ndarray
    embedding: np.ndarray | None
    by_hand: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def part(self, start: int, stop: int | None = None) -> Course:
        """Observations ``start`` to ``stop`` (exclusive)."""
        return Course(
            self.track_id,
            self.frames[start:stop],
            self.boxes[start:stop],
            self.scores[start:stop],
            self.sources[start:stop],
            self.embedding,
            self.by_hand,
        )

    @cached_property
    def origins(self) -> frozenset[int]:
        """The tracks of the results that it consists of."""
        return frozenset(np.unique(self.sources).tolist())

    @cached_property
    def centres(self) -> np.ndarray:
        """``(N, 2)`` centres of the boxes."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @cached_property
    def heights(self) -> np.ndarray:
        """``(N,)`` heights of the boxes, at least a pixel."""
        return np.maximum(self.boxes[:, 3] - self.boxes[:, 1], 1.0)


def course_of(
    index: TrackIndex, track: ReviewedTrack, embeddings: Mapping[int, np.ndarray]
) -> Course:
    """The course of a corrected track.

    Args:
        index: of the results.
        track: one of a state.
        embeddings: ``(D,)`` mean embedding by track of the results.
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
    return Course(
        track.track_id,
        index.frames[chosen],
        index.boxes[chosen].astype(np.float64),
        index.scores[chosen],
        np.concatenate(sources) if sources else np.zeros(0, dtype=int),
        _mean(weighted),
        frames_of(index, tuple(p for p in track.pieces if not isinstance(p.source, Stored))),
    )


def _mean(weighted: Sequence[tuple[np.ndarray | None, int]]) -> np.ndarray | None:
    known = [(embedding, weight) for embedding, weight in weighted if embedding is not None]
    if not known:
        return None
    total = np.sum([embedding * weight for embedding, weight in known], axis=0)
    length = float(np.linalg.norm(total))
    return total / length if length > 0 else None


def embeddings_of_run(run: Mapping[str, Any] | None) -> dict[int, np.ndarray]:
    """The mean embeddings in a ``run.json``, of length 1, by track, without broken ones."""
    found = (run or {}).get("embeddings")
    embeddings = {}
    for key, values in (found if isinstance(found, dict) else {}).items():
        try:
            vector = np.array(values, dtype=np.float64)
        except (TypeError, ValueError):
            continue
        length = np.linalg.norm(vector)
        if key.isdecimal() and vector.ndim == 1 and np.isfinite(length) and length > 0:
            embeddings[int(key)] = vector / length
    sizes = {len(vector) for vector in embeddings.values()}
    return embeddings if len(sizes) == 1 else {}


class Link(NamedTuple):
    """How a course begins, seen from the end of another one before it.

    Attributes:
        gap: frames from the last observation to the first, 1 or more.
        distance: of the two boxes' centres, in heights of the instance.
        miss: distance of where either is expected from its speed, in the middle of the gap.
        size: absolute logarithm of the ratio of their heights.
        unlikeness: 1 - cosine of the mean embeddings, 0..2; NaN where one is not known.
    """

    gap: int
    distance: float
    miss: float
    size: float
    unlikeness: float


def link(before: Course, after: Course) -> Link:
    """Compare the end of one course with the beginning of a later one; both have observations."""
    before, after = before.part(max(0, len(before) - NEAR)), after.part(0, NEAR)
    gap = int(after.frames[0]) - int(before.frames[-1])
    end_size, start_size = float(np.median(before.heights)), float(np.median(after.heights))
    height = (end_size * start_size) ** 0.5
    step = after.centres[0] - before.centres[-1]
    look = min(gap, _LONGEST_LOOK) / 2
    forward = look * _speed(before.frames, before.centres, height)
    backward = look * _speed(after.frames, after.centres, height)
    unlikeness = np.nan
    if before.embedding is not None and after.embedding is not None:
        unlikeness = 1 - float(before.embedding @ after.embedding)
    return Link(
        gap,
        float(np.hypot(*step)) / height,
        float(np.hypot(*(step - forward - backward))) / height,
        abs(float(np.log(end_size / start_size))),
        unlikeness,
    )


def _speed(frames: np.ndarray, centres: np.ndarray, height: float) -> np.ndarray:
    """``(2,)`` pixels a frame, by least squares; 0 where too little is known."""
    if len(frames) < 3:
        return np.zeros(2)
    times = frames - frames.mean()
    speed = times @ (centres - centres.mean(axis=0)) / (times @ times)
    fastest = _FASTEST * height
    return speed * min(1.0, fastest / max(float(np.hypot(*speed)), 1e-9))
