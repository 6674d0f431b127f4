"""ByteTrack and OC-SORT from roboflow's ``trackers``: rules that use only boxes and scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from queryinst_vis.config import TrackingConfig
from queryinst_vis.structures import Detections

if TYPE_CHECKING:
    import supervision as sv

EXPIRE_AFTER = 30
"""Default of ``tracking.expire_after`` in frames, as in ByteTrack and OC-SORT: the error of a
predicted box grows without bound."""

_FRAME_RATE = 30.0  # frames per second that the library's motion noise is tuned for
_UNLIMITED = 10**9  # frames until the library drops a track; MotionAssociator does that instead


def bytetrack(settings: TrackingConfig) -> MotionAssociator:
    """ByteTrack: high-score detections are matched first; others can only continue a track."""
    from trackers import ByteTrackTracker

    make = partial(
        ByteTrackTracker,
        lost_track_buffer=_UNLIMITED,
        frame_rate=_FRAME_RATE,
        track_activation_threshold=_high_score(settings),
        minimum_consecutive_frames=settings.min_hits,
        minimum_iou_threshold=_match_threshold(settings),
        high_conf_det_threshold=_high_score(settings),
    )
    return MotionAssociator(make, settings)


def ocsort(settings: TrackingConfig) -> MotionAssociator:
    """OC-SORT: motion is re-estimated from observations; low-score detections are dropped."""
    from trackers import OCSORTTracker

    make = partial(
        OCSORTTracker,
        lost_track_buffer=_UNLIMITED,
        frame_rate=_FRAME_RATE,
        # the library counts from the second detection of a track
        minimum_consecutive_frames=max(1, settings.min_hits - 1),
        minimum_iou_threshold=_match_threshold(settings),
        high_conf_det_threshold=_high_score(settings),
    )
    return MotionAssociator(make, settings)


def _high_score(settings: TrackingConfig) -> float:
    """Null means no threshold beyond ``inference.score_threshold``."""
    return 0.0 if settings.high_score is None else settings.high_score


def _match_threshold(settings: TrackingConfig) -> float:
    if settings.match_threshold is None:
        raise ValueError("a rule begins with settings whose match_threshold is filled in")
    return settings.match_threshold


class LibraryTracker(Protocol):
    """The common interface of the library's trackers."""

    tracks: list[Any]

    def update(
        self, detections: sv.Detections, frame: Any = None, timestamp: float | None = None
    ) -> sv.Detections:
        """Fill in ``tracker_id``; the order of the detections changes."""


class MotionAssociator:
    """One tracker of the library per class, since they ignore labels.

    Args:
        make: makes a tracker of the library.
        settings: the limits of the memory.
    """

    memory: None = None

    def __init__(self, make: Callable[[], LibraryTracker], settings: TrackingConfig) -> None:
        self._make = make
        self._settings = settings
        self._trackers: dict[int, LibraryTracker] = {}  # by label
        self._ids: dict[tuple[int, int], int] = {}  # by label and the library's id
        self._births = count()  # replaces the library's own counter
        self._next_id = 0
        self._time: float | None = None

    def assign(self, observed: Detections, time: float | None) -> Tensor:
        """See ``Associator``. Detections of one frame never share an identity."""
        self._forget_unseen(time)
        self._time = time
        keys = torch.full((len(observed),), -1)
        for label in sorted({*self._trackers, *observed.labels.tolist()}):
            rows = torch.where(observed.labels == label)[0]
            keys[rows] = self._assign_class(label, observed[rows], time)
        pairs = zip(observed.labels.tolist(), keys.tolist(), strict=True)
        ids = [-1 if key == -1 else self._identity(label, key) for label, key in pairs]
        return torch.tensor(ids, dtype=torch.int64)

    def forget(self) -> None:
        """Drop all tracks; identities are not reused."""
        self._trackers, self._ids = {}, {}

    def _assign_class(self, label: int, observed: Detections, time: float | None) -> Tensor:
        """The library's ids of the N detections of one class: ``(N,)``, -1 without a track."""
        import supervision as sv

        if label not in self._trackers:
            self._trackers[label] = self._make()
        tracker = self._trackers[label]
        given = sv.Detections(
            xyxy=observed.boxes.double().numpy(),
            confidence=observed.scores.double().numpy(),
            data={"row": np.arange(len(observed))},  # the library changes their order
        )
        found = tracker.update(given, timestamp=time)
        keys = torch.full((len(observed),), -1)
        if len(found) > 0:
            ids = np.asarray(found.tracker_id)
            if self._settings.min_hits == 1:
                self._confirm_newborn(tracker, ids, observed.scores.numpy()[found.data["row"]])
            keys[found.data["row"]] = torch.from_numpy(ids)
        return keys

    def _confirm_newborn(
        self, tracker: LibraryTracker, ids: np.ndarray, scores: np.ndarray
    ) -> None:
        """Confirm tracks immediately; the library waits for their second detection.

        New tracks are in the order of the high-score detections without a track, whose ``ids``
        are filled in.
        """
        newborn = [track for track in tracker.tracks if track.tracker_id == -1]
        strong = scores.astype(float) >= _high_score(self._settings)
        parents = np.flatnonzero(strong & (ids == -1))
        for track, parent in zip(newborn, parents, strict=True):
            track.tracker_id = ids[parent] = next(self._births)

    def _identity(self, label: int, key: int) -> int:
        """The identity of the track with the library's id ``key`` in a class."""
        if (label, key) not in self._ids:
            self._ids[label, key] = self._next_id
            self._next_id += 1
        return self._ids[label, key]

    def _forget_unseen(self, time: float | None) -> None:
        """Drop tracks unseen for too long, and the least recently seen of too many."""
        frames = self._settings.expire_after or EXPIRE_AFTER
        seconds = self._settings.expire_seconds or math.inf
        elapsed = 0.0 if time is None or self._time is None else time - self._time
        tracks = [
            (label, track)
            for label, tracker in self._trackers.items()
            for track in tracker.tracks
            if track.time_since_update < frames
            and track.time_since_update_seconds + elapsed < seconds
        ]
        freshest_first = sorted(tracks, key=lambda track: track[1].time_since_update)
        kept = freshest_first[: self._settings.max_tracks]
        for label, tracker in self._trackers.items():
            alive = {id(track) for of_label, track in kept if of_label == label}
            tracker.tracks = [track for track in tracker.tracks if id(track) in alive]
        keys = {(label, track.tracker_id) for label, track in kept}
        self._ids = {key: identity for key, identity in self._ids.items() if key in keys}
