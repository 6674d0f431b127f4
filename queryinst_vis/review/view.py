"""Views of corrected tracks, per track and per frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from queryinst_vis.formats.track_store import Observation
from queryinst_vis.masks import RLE, bounding_box
from queryinst_vis.masks import to_rle as polygons_to_rle
from queryinst_vis.review.index import TrackIndex
from queryinst_vis.review.pieces import (
    Drawn,
    Interpolated,
    Piece,
    Spans,
    Stored,
    outlines_at,
    spans_of,
)
from queryinst_vis.review.polygons import Polygons
from queryinst_vis.review.state import ReviewedTrack, ReviewState, class_of, frames_of

Origin = Literal["found", "drawn", "interpolated"]


@dataclass(frozen=True)
class ShownRegion:
    """A track in one frame.

    Attributes:
        track_id: id of the track.
        class_name: class of the track.
        score: 0..1; 1 for drawn and interpolated regions.
        box: xyxy in pixels.
        segmentation: the mask.
        origin: found by the tracker, drawn, or interpolated.
        polygons: outlines of drawn and interpolated regions.
    """

    track_id: int
    class_name: str
    score: float
    box: tuple[float, float, float, float]
    segmentation: RLE
    origin: Origin
    polygons: Polygons = ()


@dataclass(frozen=True)
class FrameView:
    """A frame and its regions.

    Attributes:
        frame: index among the frames of the results, from 0.
        number: frame number in the video, from 0.
        seconds: its time; None if unknown.
        is_checked: whether it was marked as checked.
        regions: the regions by ascending track id.
    """

    frame: int
    number: int
    seconds: float | None
    is_checked: bool
    regions: tuple[ShownRegion, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class TrackView:
    """A track over the whole video.

    Attributes:
        track_id: its id.
        class_name: class set by the user, or the majority vote of the results.
        name: name of the identity; may be empty.
        score: mean over its frames, 0..1.
        frames: number of its frames.
        spans: ranges of its frames, ``(first, stop)`` with ``stop`` exclusive.
        drawn: frames with drawn regions.
        interpolated: ranges of frames with interpolated regions, as ``spans``.
        is_checked: whether it was marked as checked.
    """

    track_id: int
    class_name: str
    name: str
    score: float
    frames: int
    spans: Spans
    drawn: tuple[int, ...]
    interpolated: Spans
    is_checked: bool

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        return asdict(self)


class ReviewView:
    """A view of one state of the tracks; data shared by all frames are computed once.

    Args:
        index: index of the results.
        state: the tracks.
    """

    def __init__(self, index: TrackIndex, state: ReviewState) -> None:
        self._index, self.state = index, state

    def tracks(self) -> list[TrackView]:
        """All tracks by ascending id."""
        return [self.track(track_id) for track_id in self.state.tracks]

    def track(self, track_id: int) -> TrackView:
        """The track with an id.

        Raises:
            InputError: there is none.
        """
        track = self.state.track(track_id)
        frames = frames_of(self._index, track.pieces)
        interpolated: Spans = tuple(
            (piece.start, piece.stop)
            for piece in track.pieces
            if isinstance(piece.source, Interpolated)
        )
        scores = self.column(track, "scores")
        manual = len(frames) - len(scores)  # drawn or interpolated
        return TrackView(
            track_id,
            self._class_names[track_id],
            track.name,
            round(float((scores.sum() + manual) / len(frames)), 4),
            len(frames),
            spans_of(frames),
            tuple(piece.start for piece in track.pieces if isinstance(piece.source, Drawn)),
            interpolated,
            track.is_checked,
        )

    def frame(self, frame: int) -> FrameView:
        """The view of a frame; its masks are read from the file.

        Args:
            frame: 0-based index.

        Raises:
            InputError: the file of the results has changed.
        """
        found = self._index.read(frame)
        regions = [
            self._region(piece, track_id, found, frame)
            for track_id, piece in self._pieces_at(found, frame)
        ]
        seconds = float(self._index.seconds[frame])
        return FrameView(
            frame,
            int(self._index.numbers[frame]),
            None if np.isnan(seconds) else seconds,
            self.is_checked(frame),
            tuple(sorted((r for r in regions if r is not None), key=lambda r: r.track_id)),
        )

    def frames(self) -> Iterator[FrameView]:
        """All frames, in order."""
        return (self.frame(frame) for frame in range(len(self._index)))

    def is_checked(self, frame: int) -> bool:
        """Whether a frame was marked as checked."""
        return any(start <= frame < stop for start, stop in self.state.checked)

    def column(self, track: ReviewedTrack, name: str) -> np.ndarray:
        """A column of the index for the stored regions of a track, by ascending frame.

        Args:
            track: one of the state.
            name: ``"frames"``, ``"labels"``, ``"scores"``, ``"areas"`` or ``"boxes"``.
        """
        values: np.ndarray = getattr(self._index, name)
        parts = [
            values[self._index.rows(piece.source.track_id, piece.start, piece.stop)]
            for piece in track.pieces
            if isinstance(piece.source, Stored)
        ]
        return np.concatenate(parts) if parts else values[:0]

    @cached_property
    def _class_names(self) -> dict[int, str]:
        return {
            track_id: class_of(self._index, self.state, track)
            for track_id, track in self.state.tracks.items()
        }

    @cached_property
    def _owners(self) -> dict[int, list[tuple[int, Piece]]]:
        """For every track of the file, its pieces and the corrected tracks that they belong to."""
        owners: dict[int, list[tuple[int, Piece]]] = defaultdict(list)
        for track_id, track in self.state.tracks.items():
            for piece in track.pieces:
                if isinstance(piece.source, Stored):
                    owners[piece.source.track_id].append((track_id, piece))
        return owners

    @cached_property
    def _manual_pieces(self) -> list[tuple[int, Piece]]:
        return [
            (track_id, piece)
            for track_id, track in self.state.tracks.items()
            for piece in track.pieces
            if not isinstance(piece.source, Stored)
        ]

    def _pieces_at(self, found: dict[int, Observation], frame: int) -> list[tuple[int, Piece]]:
        candidates = [owned for track_id in found for owned in self._owners.get(track_id, [])]
        return [
            (track_id, piece)
            for track_id, piece in [*candidates, *self._manual_pieces]
            if piece.start <= frame < piece.stop
        ]

    def _region(
        self, piece: Piece, track_id: int, found: dict[int, Observation], frame: int
    ) -> ShownRegion | None:
        """A track's region in a frame; None if an interpolated one is outside the frame."""
        name, source = self._class_names[track_id], piece.source
        if isinstance(source, Stored):
            region = found[source.track_id]
            return ShownRegion(
                track_id, name, region.score, region.box, region.segmentation, "found"
            )
        polygons = outlines_at(source, frame)
        origin: Origin = "drawn" if isinstance(source, Drawn) else "interpolated"
        mask = polygons_to_rle([list(each) for each in polygons], *self._index.size, "drawn")
        x0, y0, x1, y1 = bounding_box(mask)
        if x0 == x1:
            return None
        return ShownRegion(track_id, name, 1.0, (x0, y0, x1, y1), mask, origin, polygons)
