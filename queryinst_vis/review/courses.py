"""Tracks as sequences of boxes, and how well one goes on where another ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from queryinst_vis.review.colours import Colours
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
        rows: ``(N,)`` of the index.
        sources: ``(N,)`` the track of the results that each comes from.
        embedding: ``(D,)`` mean embedding of length 1; None: there is none.
        by_hand: ``(M,)`` further frames, in which it is drawn or interpolated.
        colours: of the regions; None: they are not compared.
    """

    track_id: int
    frames: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    rows: np.ndarray
    sources: np.ndarray
    embedding: np.ndarray | None
    by_hand: np.ndarray
    colours: Colours | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def part(self, start: int, stop: int | None = None) -> Course:
        """Observations ``start`` to ``stop`` (exclusive)."""
        return Course(
            self.track_id,
            self.frames[start:stop],
            self.boxes[start:stop],
            self.scores[start:stop],
            self.rows[start:stop],
            self.sources[start:stop],
            self.embedding,
            self.by_hand,
            self.colours,
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

    @cached_property
    def start(self) -> Tip:
        """Its first observations."""
        return _tip(self.part(0, NEAR), 0)

    @cached_property
    def end(self) -> Tip:
        """Its last observations."""
        return _tip(self.part(max(0, len(self) - NEAR)), -1)


class Tip(NamedTuple):
    """An end of a course.

    Attributes:
        frame: of the outermost observation.
        x, y: its centre in pixels.
        height: median of the observations, in pixels.
        speed: ``(x, y)`` pixels per frame.
        colours: ``(D,)`` mean descriptor; None: not known.
    """

    frame: int
    x: float
    y: float
    height: float
    speed: tuple[float, float]
    colours: np.ndarray | None


def _tip(course: Course, at: int) -> Tip:
    height = median(course.heights.tolist())
    colours = None if course.colours is None else course.colours.of(course.rows)
    x, y = course.centres[at].tolist()
    return Tip(int(course.frames[at]), x, y, height, _speed(course, height), colours)


def course_of(
    index: TrackIndex,
    track: ReviewedTrack,
    embeddings: Mapping[int, np.ndarray],
    colours: Colours | None = None,
) -> Course:
    """The course of a corrected track.

    Args:
        index: of the results.
        track: one of a state.
        embeddings: ``(D,)`` mean embedding by track of the results.
        colours: of the regions; None: they are not compared.
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
        chosen,
        np.concatenate(sources) if sources else np.zeros(0, dtype=int),
        _mean(weighted),
        frames_of(index, tuple(p for p in track.pieces if not isinstance(p.source, Stored))),
        colours,
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
        contrast: 1 - Bhattacharyya coefficient of the colours, 0..1; NaN where they are not known.
    """

    gap: int
    distance: float
    miss: float
    size: float
    unlikeness: float
    contrast: float


def link(before: Course, after: Course) -> Link:
    """Compare the end of one course with the beginning of a later one; both have observations."""
    end, start = before.end, after.start
    gap = start.frame - end.frame
    height = math.sqrt(end.height * start.height)
    x, y = start.x - end.x, start.y - end.y
    look = min(gap, _LONGEST_LOOK) / 2
    missed = [
        step - look * (forward + backward)
        for step, forward, backward in zip((x, y), end.speed, start.speed, strict=True)
    ]
    return Link(
        gap,
        math.hypot(x, y) / height,
        math.hypot(*missed) / height,
        abs(math.log(end.height / start.height)),
        _one_minus_product(before.embedding, after.embedding),
        _one_minus_product(end.colours, start.colours),
    )


def _one_minus_product(first: np.ndarray | None, second: np.ndarray | None) -> float:
    return math.nan if first is None or second is None else 1 - min(float(first @ second), 1.0)


def _speed(course: Course, height: float) -> tuple[float, float]:
    """Pixels per frame, by least squares; 0 where too little is known."""
    if len(course) < 3:
        return 0.0, 0.0
    times = course.frames - course.frames.sum() / len(course)
    x, y = ((times @ course.centres) / (times @ times)).tolist()
    slower = min(1.0, _FASTEST * height / max(math.hypot(x, y), 1e-9))
    return x * slower, y * slower
