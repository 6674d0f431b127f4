"""ByteTrack and OC-SORT of roboflow's ``trackers``: rules that read boxes and scores alone."""

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
"""Frames after which an unseen track is forgotten where ``tracking.expire_after`` names no other
number, as ByteTrack and OC-SORT have it: the error of a predicted box grows without bound."""

_FRAME_RATE = 30.0  # frames per second that the library's motion noise is tuned for
_UNLIMITED = 10**9  # frames until the library itself forgets a track; MotionAssociator does that


def bytetrack(settings: TrackingConfig) -> MotionAssociator:
    """ByteTrack: strong detections are matched first; weak ones can only continue a track."""
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
    """OC-SORT: motion is re-estimated from observations; weak detections are left out."""
    from trackers import OCSORTTracker

    make = partial(
        OCSORTTracker,
        lost_track_buffer=_UNLIMITED,
        frame_rate=_FRAME_RATE,
        # counted from the second detection of a track on
        minimum_consecutive_frames=max(1, settings.min_hits - 1),
        minimum_iou_threshold=_match_threshold(settings),
        high_conf_det_threshold=_high_score(settings),
    )
    return MotionAssociator(make, settings)


def _high_score(settings: TrackingConfig) -> float:
    """Detections below ``inference.score_threshold`` do not get here, so null is no threshold."""
    return 0.0 if settings.high_score is None else settings.high_score


def _match_threshold(settings: TrackingConfig) -> float:
    if settings.match_threshold is None:
        raise ValueError("a rule begins with settings whose match_threshold is filled in")
    return settings.match_threshold


class LibraryTracker(Protocol):
    """What the library's trackers have in common."""

    tracks: list[Any]

    def update(
        self, detections: sv.Detections, frame: Any = None, timestamp: float | None = None
    ) -> sv.Detections:
        """Fill in ``tracker_id``; the detections come back in another order."""


class MotionAssociator:
    """One tracker of the library for each class, since they do not look at labels.

    Args:
        make: makes a tracker of the library.
        settings: its limits bound what is remembered.
    """

    memory: None = None

    def __init__(self, make: Callable[[], LibraryTracker], settings: TrackingConfig) -> None:
        self._make = make
        self._settings = settings
        self._trackers: dict[int, LibraryTracker] = {}  # by label
        self._ids: dict[tuple[int, int], int] = {}  # by label and the library's own id
        self._births = count()  # numbers that take the place of the library's own
        self._next_id = 0
        self._time: float | None = None

    def assign(self, observed: Detections, time: float | None) -> Tensor:
        """As ``Associator`` says. Detections of one frame never share an identity."""
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
        """Forget all tracks; identities go on where they were."""
        self._trackers, self._ids = {}, {}

    def _assign_class(self, label: int, observed: Detections, time: float | None) -> Tensor:
        """What the library calls the N detections of one class: ``(N,)``, -1 without a track."""
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
        """Confirm tracks at birth, where the library waits for their second detection.

        New tracks come in the order of the strong detections that have no track yet; the ``ids``
        of these are filled in.
        """
        newborn = [track for track in tracker.tracks if track.tracker_id == -1]
        strong = scores.astype(float) >= _high_score(self._settings)
        parents = np.flatnonzero(strong & (ids == -1))
        for track, parent in zip(newborn, parents, strict=True):
            track.tracker_id = ids[parent] = next(self._births)

    def _identity(self, label: int, key: int) -> int:
        """The identity of the track that the library's tracker of a class calls ``key``."""
        if (label, key) not in self._ids:
            self._ids[label, key] = self._next_id
            self._next_id += 1
        return self._ids[label, key]

    def _forget_unseen(self, time: float | None) -> None:
        """Drop tracks that are unseen for too long by now, then the longest unseen of too many."""
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
