"""Corrected tracks at one moment: values that no action changes, so that undoing costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.review.index import TrackIndex
from queryinst_vis.review.pieces import Piece, Pieces, Spans, Stored


@dataclass(frozen=True)
class ReviewedTrack:
    """A track as it stands after the corrections so far.

    Attributes:
        track_id: of the results, or one that a correction made.
        pieces: where its regions come from.
        class_name: that a person has given; None: the majority of what was found.
        name: of the identity; empty: nobody has named it.
        is_checked: a person has looked at it.
    """

    track_id: int
    pieces: Pieces
    class_name: str | None = None
    name: str = ""
    is_checked: bool = False


@dataclass(frozen=True)
class ReviewState:
    """All tracks of a video after the corrections so far.

    Attributes:
        tracks: by id.
        next_id: of the next new track; no id is used twice.
        class_names: those of the results, and new ones.
        checked: frames that a person has marked as checked.
        dismissed: ids of suggestions.
    """

    tracks: Mapping[int, ReviewedTrack]
    next_id: int
    class_names: tuple[str, ...]
    checked: Spans = ()
    dismissed: frozenset[str] = frozenset()

    def with_tracks(self, *changed: ReviewedTrack, without: int | None = None) -> ReviewState:
        """The state with tracks put in or replaced; those without a piece left go.

        Args:
            changed: the tracks.
            without: id of a track that goes as well.
        """
        tracks = {**self.tracks, **{track.track_id: track for track in changed}}
        kept = {
            track_id: track
            for track_id, track in tracks.items()
            if track.pieces and track_id != without
        }
        return replace(self, tracks=dict(sorted(kept.items())))

    def track(self, track_id: int) -> ReviewedTrack:
        """The track of an id.

        Raises:
            InputError: there is none (any more).
        """
        if track_id not in self.tracks:
            reason = "is gone" if track_id < self.next_id else "does not exist"
            raise InputError(f"track {track_id} {reason}")
        return self.tracks[track_id]


def initial_state(index: TrackIndex) -> ReviewState:
    """The tracks as the results have them."""
    tracks = {}
    for place, track_id in enumerate(index.track_ids.tolist()):
        first, last = index.frames[[index.starts[place], index.starts[place + 1] - 1]].tolist()
        piece = Piece(first, last + 1, Stored(track_id))
        tracks[track_id] = ReviewedTrack(track_id, (piece,))
    return ReviewState(tracks, max(tracks, default=-1) + 1, tuple(index.video.class_names))


def frames_of(index: TrackIndex, pieces: Pieces) -> np.ndarray:
    """``(N,)`` ascending frames in which pieces have a region."""
    parts = [
        index.frames[index.rows(piece.source.track_id, piece.start, piece.stop)]
        if isinstance(piece.source, Stored)
        else np.arange(piece.start, piece.stop, dtype=np.int32)
        for piece in pieces
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
