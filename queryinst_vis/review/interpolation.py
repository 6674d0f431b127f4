"""Inserting drawn regions into tracks, and interpolating between regions."""

from __future__ import annotations

from collections.abc import Iterable, Set
from itertools import pairwise

import numpy as np

from queryinst_vis.formats.cvat_video import outline_of
from queryinst_vis.formats.losses import Losses
from queryinst_vis.review.actions import Draw, Filling
from queryinst_vis.review.index import TrackIndex
from queryinst_vis.review.pieces import (
    Drawn,
    Interpolated,
    Piece,
    Pieces,
    Spans,
    Stored,
    joined,
    outlines_at,
    spans_of,
    within,
    without,
)
from queryinst_vis.review.polygons import Polygons
from queryinst_vis.review.state import frames_of


def draw_region(index: TrackIndex, pieces: Pieces, action: Draw) -> tuple[Pieces, int]:
    """Insert a drawn region into a track.

    Frames that were interpolated between drawn regions are updated between it and the nearest drawn
    regions of the track; ``action.fill`` decides about other frames.

    Args:
        index: index of the results.
        pieces: pieces of the track.
        action: the region and its frame.

    Returns:
        The new pieces, and the number of drawn and interpolated regions.
    """
    frame = action.frame
    drawn = Piece(frame, frame + 1, Drawn(action.polygons))
    keys = [piece for piece in pieces if isinstance(piece.source, Drawn)]
    key_frames = {frame, *map(_start, keys)}
    before = max((key for key in keys if key.start < frame), key=_start, default=None)
    after = min((key for key in keys if key.start > frame), key=_start, default=None)
    pieces = joined(without(pieces, [(frame, frame + 1)]), (drawn,))
    count = 1
    for first, last in ((before, drawn), (drawn, after)):
        if first is not None and last is not None:
            filled = _between(index, pieces, first, last, action.fill, key_frames)
            spans = [(piece.start, piece.stop) for piece in filled]
            pieces = joined(without(pieces, spans), filled)
            count += sum(stop - start for start, stop in spans)
    return pieces, count


def fill_gaps(index: TrackIndex, pieces: Pieces, spans: Spans) -> tuple[Pieces, int]:
    """Interpolate a track in frames that lack it, from its regions before and after.

    Args:
        index: index of the results.
        pieces: pieces of the track.
        spans: frames that may be filled.

    Returns:
        The new pieces, and the number of interpolated regions. Empty regions are no ends: a gap
        with no other region on one side stays.
    """
    frames = frames_of(index, pieces).tolist()
    filled: list[Piece] = []
    for number, (first, last) in enumerate(pairwise(frames), 1):
        if last - first == 1:
            continue
        inside = [(max(a, first + 1), min(b, last)) for a, b in spans if a < last and b > first + 1]
        if not inside:
            continue
        before = _first_outline(index, pieces, reversed(frames[:number]))
        after = _first_outline(index, pieces, frames[number:])
        if before is not None and after is not None:
            source = Interpolated(*before, *after)
            filled += (Piece(start, stop, source) for start, stop in inside)
    kept = without(pieces, [(piece.start, piece.stop) for piece in filled])
    return joined(kept, tuple(filled)), sum(piece.stop - piece.start for piece in filled)


def _first_outline(
    index: TrackIndex, pieces: Pieces, frames: Iterable[int]
) -> tuple[int, Polygons] | None:
    """The first of these frames in which the track's region is not empty, and its outlines."""
    for frame in frames:
        polygons = _outline_at(index, pieces, frame)
        if any(polygons):
            return frame, polygons
    return None


def _outline_at(index: TrackIndex, pieces: Pieces, frame: int) -> Polygons:
    """Outlines of a track's region in a frame; for stored regions, of the largest component."""
    [piece] = within(pieces, frame, frame + 1)
    if not isinstance(piece.source, Stored):
        return outlines_at(piece.source, frame)
    mask = index.read(frame)[piece.source.track_id].segmentation
    return (tuple(side for point in outline_of(mask, Losses()) for side in point),)


def _start(piece: Piece) -> int:
    return piece.start


def _between(
    index: TrackIndex,
    pieces: Pieces,
    first: Piece,
    last: Piece,
    fill: Filling,
    key_frames: Set[int],
) -> Pieces:
    """The frames to interpolate between two drawn regions, as pieces.

    Gaps that were filled between other regions keep these ends.
    """
    assert isinstance(first.source, Drawn) and isinstance(last.source, Drawn)
    source = Interpolated(first.start, first.source.polygons, last.start, last.source.polygons)
    inside = within(pieces, first.stop, last.start)
    wanted = np.ones(last.start - first.stop, dtype=bool)
    if fill != "all":
        wanted[:] = fill == "gaps"
        wanted[frames_of(index, inside) - first.stop] = False
        for piece in inside:
            old = piece.source
            if isinstance(old, Interpolated) and {old.first, old.last} <= key_frames:
                wanted[piece.start - first.stop : piece.stop - first.stop] = True
    frames = np.flatnonzero(wanted) + first.stop
    return tuple(Piece(start, stop, source) for start, stop in spans_of(frames))
