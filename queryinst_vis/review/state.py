"""Immutable states of the corrected tracks, so that undo is cheap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.review.index import TrackIndex
from queryinst_vis.review.pieces import Piece, Pieces, Spans, Stored


@dataclass(frozen=True)
class ReviewedTrack:
    """A track after the corrections so far.

    Attributes:
        track_id: id from the results, or a new one.
        pieces: the sources of its regions.
        class_name: class set by the user, or kept from before the track lost its last region from
            the results; None: majority vote of these regions.
        name: name of the identity; may be empty.
        is_checked: whether it was marked as checked.
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
        tracks: tracks by id.
        next_id: id of the next new track; ids are not reused.
        class_names: classes of the results, and added ones.
        checked: frames marked as checked.
        dismissed: ids of dismissed suggestions.
    """

    tracks: Mapping[int, ReviewedTrack]
    next_id: int
    class_names: tuple[str, ...]
    checked: Spans = ()
    dismissed: frozenset[str] = frozenset()

    def with_tracks(self, *changed: ReviewedTrack, without: int | None = None) -> ReviewState:
        """The state with tracks added or replaced; tracks without pieces are removed.

        Args:
            changed: the tracks.
            without: id of a further track to remove.
        """
        tracks = {**self.tracks, **{track.track_id: track for track in changed}}
        kept = {
            track_id: track
            for track_id, track in tracks.items()
            if track.pieces and track_id != without
        }
        return replace(self, tracks=dict(sorted(kept.items())))

    def track(self, track_id: int) -> ReviewedTrack:
        """The track with an id.

        Raises:
            InputError: it does not exist, or no longer.
        """
        if track_id not in self.tracks:
            reason = "no longer exists" if track_id < self.next_id else "does not exist"
            raise InputError(f"track {track_id} {reason}")
        return self.tracks[track_id]


def initial_state(index: TrackIndex) -> ReviewState:
    """The tracks of the results, without corrections."""
    tracks = {}
    for number, track_id in enumerate(index.track_ids.tolist()):
        first, last = index.frames[[index.starts[number], index.starts[number + 1] - 1]].tolist()
        piece = Piece(first, last + 1, Stored(track_id))
        tracks[track_id] = ReviewedTrack(track_id, (piece,))
    return ReviewState(tracks, max(tracks, default=-1) + 1, tuple(index.video.class_names))


def class_of(index: TrackIndex, state: ReviewState, track: ReviewedTrack) -> str:
    """The class of a track: set by the user, or the majority vote of its regions in the results."""
    if track.class_name is not None:
        return track.class_name
    labels = np.concatenate(
        [
            index.labels[index.rows(piece.source.track_id, piece.start, piece.stop)]
            for piece in track.pieces
            if isinstance(piece.source, Stored)
        ]
    )
    return state.class_names[int(np.bincount(labels).argmax())]


def frames_of(index: TrackIndex, pieces: Pieces) -> np.ndarray:
    """``(N,)`` frames in which the pieces have a region, ascending."""
    parts = [
        index.frames[index.rows(piece.source.track_id, piece.start, piece.stop)]
        if isinstance(piece.source, Stored)
        else np.arange(piece.start, piece.stop, dtype=np.int32)
        for piece in pieces
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
