"""A drawn region in a track, and what is interpolated up to the drawn ones beside it."""

from __future__ import annotations

import numpy as np

from queryinst_vis.review.actions import Draw, Fill
from queryinst_vis.review.index import TrackIndex
from queryinst_vis.review.pieces import (
    Drawn,
    Interpolated,
    Piece,
    Pieces,
    joined,
    spans_of,
    within,
    without,
)
from queryinst_vis.review.state import frames_of


def draw_region(index: TrackIndex, pieces: Pieces, action: Draw) -> tuple[Pieces, int]:
    """Put a drawn region into a track.

    Frames between it and the nearest drawn ones of the track that were interpolated already are
    interpolated anew; ``action.fill`` decides about the others.

    Args:
        index: of the results.
        pieces: of the track.
        action: which region in which frame.

    Returns:
        The pieces with it, and how many regions were drawn and interpolated.
    """
    frame = action.frame
    drawn = Piece(frame, frame + 1, Drawn(action.polygons))
    keys = [piece for piece in pieces if isinstance(piece.source, Drawn)]
    before = max((key for key in keys if key.start < frame), key=_start, default=None)
    after = min((key for key in keys if key.start > frame), key=_start, default=None)
    pieces = joined(without(pieces, [(frame, frame + 1)]), (drawn,))
    count = 1
    for first, last in ((before, drawn), (drawn, after)):
        if first is not None and last is not None:
            filled = _stretch(index, pieces, first, last, action.fill)
            spans = [(piece.start, piece.stop) for piece in filled]
            pieces = joined(without(pieces, spans), filled)
            count += sum(stop - start for start, stop in spans)
    return pieces, count


def _start(piece: Piece) -> int:
    return piece.start


def _stretch(index: TrackIndex, pieces: Pieces, first: Piece, last: Piece, fill: Fill) -> Pieces:
    """The interpolated pieces between two drawn ones."""
    assert isinstance(first.source, Drawn) and isinstance(last.source, Drawn)
    source = Interpolated(first.start, first.source.polygons, last.start, last.source.polygons)
    inside = within(pieces, first.stop, last.start)
    wanted = np.ones(last.start - first.stop, dtype=bool)
    if fill != "all":
        wanted[:] = fill == "gaps"
        found = tuple(piece for piece in inside if not isinstance(piece.source, Interpolated))
        wanted[frames_of(index, found) - first.stop] = False
        for piece in inside:
            if isinstance(piece.source, Interpolated):
                wanted[piece.start - first.stop : piece.stop - first.stop] = True
    frames = np.flatnonzero(wanted) + first.stop
    return tuple(Piece(start, stop, source) for start, stop in spans_of(frames))
