"""The components of a corrected track: pieces of tracked regions, and drawn regions."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from queryinst_vis.review.polygons import Polygons, interpolate

Spans = tuple[tuple[int, int], ...]
"""Ranges of frames, ``(first, stop)`` with ``stop`` exclusive, ascending and not adjacent."""


@dataclass(frozen=True)
class Stored:
    """Regions of the track ``track_id`` in the result file."""

    track_id: int


@dataclass(frozen=True)
class Drawn:
    """A drawn region."""

    polygons: Polygons


@dataclass(frozen=True)
class Interpolated:
    """Regions interpolated between two others.

    Attributes:
        first, last: frames of the two, which may no longer belong to the track.
        before, after: their outlines.
    """

    first: int
    before: Polygons
    last: int
    after: Polygons


@dataclass(frozen=True)
class Piece:
    """The source of a track's regions in frames ``start`` to ``stop`` (exclusive).

    A piece of stored regions may have frames without a region; others have one in each frame.
    """

    start: int
    stop: int
    source: Stored | Drawn | Interpolated


Pieces = tuple[Piece, ...]
"""By ascending frame, without overlap."""


def outlines_at(source: Drawn | Interpolated, frame: int) -> Polygons:
    """The outlines of a drawn or interpolated region in a frame."""
    if isinstance(source, Drawn):
        return source.polygons
    share = (frame - source.first) / (source.last - source.first)
    return interpolate(source.before, source.after, share)


def within(pieces: Pieces, start: int, stop: int) -> Pieces:
    """The parts of pieces in frames ``start`` to ``stop`` (exclusive)."""
    return tuple(
        replace(piece, start=max(piece.start, start), stop=min(piece.stop, stop))
        for piece in pieces
        if piece.start < stop and piece.stop > start
    )


def without(pieces: Pieces, spans: Iterable[tuple[int, int]]) -> Pieces:
    """The parts of pieces outside ranges of frames."""
    for start, stop in spans:
        pieces = within(pieces, 0, start) + within(pieces, stop, sys.maxsize)
    return pieces


def joined(*groups: Pieces) -> Pieces:
    """Merge groups of non-overlapping pieces.

    Adjacent pieces of the same source become one, except drawn ones, which cover one frame.
    """
    pieces: list[Piece] = []
    for piece in sorted((p for group in groups for p in group), key=lambda piece: piece.start):
        before = pieces[-1] if pieces else None
        goes_on = before and (before.stop, before.source) == (piece.start, piece.source)
        if before and goes_on and not isinstance(piece.source, Drawn):
            pieces[-1] = replace(before, stop=piece.stop)
        else:
            pieces.append(piece)
    return tuple(pieces)


def spans_of(frames: np.ndarray) -> Spans:
    """``(N,)`` ascending frames as ranges."""
    breaks = np.flatnonzero(np.diff(frames) != 1) + 1
    return tuple((int(run[0]), int(run[-1]) + 1) for run in np.split(frames, breaks) if len(run))


def union(spans: Spans, start: int, stop: int) -> Spans:
    """The ranges with another one added."""
    apart = [span for span in spans if span[1] < start or span[0] > stop]
    touching = [span for span in spans if span[1] >= start and span[0] <= stop]
    start = min([start, *(first for first, _ in touching)])
    stop = max([stop, *(last for _, last in touching)])
    return tuple(sorted([*apart, (start, stop)]))


def difference(spans: Spans, start: int, stop: int) -> Spans:
    """The ranges without the frames of another one."""
    return tuple(_remains(spans, start, stop))


def _remains(spans: Spans, start: int, stop: int) -> Iterator[tuple[int, int]]:
    for first, last in spans:
        if first < min(last, start):
            yield first, min(last, start)
        if max(first, stop) < last:
            yield max(first, stop), last
