"""Tracking several videos at a time: they share batches of one network, but no identities."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.filters import check_classes, with_thresholds
from queryinst_vis.inference.result import FrameResult
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.structures import Detections
from queryinst_vis.utils.device import plain_defaults
from queryinst_vis.utils.images import check_frame
from queryinst_vis.video.frames import Frame

PATIENCE = 1.0
"""Seconds that an incomplete batch waits for frames of slow videos before it is padded."""

_POLL = 0.002  # seconds between checks for new frames


class Feed(Protocol):
    """Non-blocking source of frames, such as ``utils.prefetch.Polled``."""

    ended: bool

    def poll(self) -> Frame | None:
        """The next frame; None if none is ready or left. Raises the error that ended the video."""

    def close(self) -> None:
        """Stop reading."""


class Lane:
    """One of several videos: its frames, its tracker and its settings.

    Args:
        tracker: used by no other lane; trackers of one detector share its network.
        feed: the frames, in order.
        classes, conf, iou: as for ``VideoTracker.track``.

    Attributes:
        detector: the tracker's detector with the thresholds of this video.
        error: what ended the video early, if anything.

    Raises:
        InputError: unknown class, or threshold out of range.
    """

    def __init__(
        self,
        tracker: VideoTracker,
        feed: Feed,
        *,
        classes: Sequence[str | int] | None = None,
        conf: float | None = None,
        iou: float | None = None,
    ) -> None:
        if tracker.class_names:  # those of a function may not be known yet
            check_classes(classes, tracker.class_names)
        self.detector = with_thresholds(tracker.detector, conf, iou)
        self.error: BaseException | None = None
        self._tracker = tracker
        self._feed = feed
        self._classes = classes
        self._waiting: deque[_Waiting] = deque()

    @property
    def is_read(self) -> bool:
        """Whether no further frame will come."""
        return self.error is not None or self._feed.ended

    @property
    def is_done(self) -> bool:
        """Whether the results of all frames have been returned."""
        return self.is_read and not self._waiting

    def has_room(self, limit: int) -> bool:
        """Whether fewer than ``limit`` frames are waiting for detection or association."""
        return not self.is_read and len(self._waiting) < limit

    def read(self) -> _Waiting | None:
        """Read the next frame, if one is ready; exceptions are stored in ``error``."""
        try:
            frame = self._feed.poll()
            if frame is None:
                return None
            check_frame(frame.image)
        except Exception as error:  # ends only this video
            self.fail(error)
            return None
        self._waiting.append(_Waiting(self, frame))
        return self._waiting[-1]

    def results(self) -> Iterator[FrameResult]:
        """The results that are ready, in frame order."""
        while self._waiting and self._waiting[0].is_detected:
            waiting = self._waiting.popleft()
            try:
                result = self._tracker.associate(waiting.frame, waiting.found, self._classes)
            except InputError as error:
                self.fail(error)
                self._waiting.clear()
                return
            yield result

    def fail(self, error: BaseException) -> None:
        """End the video; frames before the error keep their results."""
        self.error = self.error or error
        self.close()

    def close(self) -> None:
        """Stop reading."""
        self._feed.close()

    def group(self, image: np.ndarray) -> Hashable:
        """Key for batching: frames with the same key share detector, settings and input size."""
        detector = self.detector
        size = detector.batch_key(image) if isinstance(detector, Detector) else image.shape
        return id(detector), self._tracker.embedding, size

    def share_detector(self, other: Lane) -> bool:
        """Use the detector of another lane if it has the same network and settings."""
        ours, theirs = vars(self.detector), vars(other.detector)
        is_same = ours.keys() == theirs.keys() and all(
            ours[name] == theirs[name] if name == "config" else ours[name] is theirs[name]
            for name in ours
        )
        if is_same:
            self.detector = other.detector
        return is_same

    @plain_defaults()
    def detect(self, images: list[np.ndarray]) -> list[Detections]:
        """Detect the instances in frames of its ``group``, of any lane."""
        return self.detector.detect_frames(images, self._tracker.embedding)


@dataclass(eq=False)
class _Waiting:
    """A frame that is waiting for detection or association."""

    lane: Lane
    frame: Frame
    found: Detections | None = None

    @property
    def is_detected(self) -> bool:
        return self.frame.is_damaged or self.found is not None


class SideBySide:
    """Tracks several videos at a time; iterating yields their results as they become ready.

    All batches have the same size: an incomplete one is padded with copies of a frame, whose
    results are discarded. So the detections in a frame depend neither on its position in the
    batch, nor on the other frames, nor on the number of streams (on a CPU, bit for bit, for a given
    number of threads). A batch is padded when no lane can add to it, or none has for ``patience``.

    Args:
        next_lane: returns the next video, or None if there is none at the moment.
        streams: number of videos that are read at a time.
        batch: batch size.
        patience: in seconds; 0, for live sources: no frame waits for another.
        has_room: whether the consumer of a lane keeps up; otherwise the lane is not read.

    Yields:
        ``(lane, result)`` for every frame, in order within each video, and ``(lane, None)`` after
        its last frame, when ``lane.error`` is set if it ended early.

    Raises:
        InputError: ``streams`` or ``batch`` below 1.
    """

    def __init__(
        self,
        next_lane: Callable[[], Lane | None],
        streams: int,
        batch: int = 1,
        patience: float = PATIENCE,
        has_room: Callable[[Lane], bool] = lambda lane: True,
    ) -> None:
        for name, value in (("streams", streams), ("batch", batch)):
            if value < 1:
                raise InputError(f"{name} must be 1 or more, got {value}")
        self._next_lane = next_lane
        self._streams, self._batch, self._patience = streams, batch, patience
        self._has_room = has_room
        self._lanes: deque[Lane] = deque()
        self._groups: dict[Hashable, list[_Waiting]] = {}
        self._last_read = time.monotonic()

    def __iter__(self) -> Iterator[tuple[Lane, FrameResult | None]]:
        try:
            while self._start_lanes():
                is_new = self._read()
                group = self._group_to_detect()
                if group:
                    self._detect(group)
                elif not is_new:
                    time.sleep(_POLL)
                for lane in list(self._lanes):
                    for result in lane.results():
                        yield lane, result
                    if lane.is_done:
                        self._lanes.remove(lane)
                        yield lane, None
        finally:
            for lane in self._lanes:
                lane.close()

    def _start_lanes(self) -> bool:
        """Start videos up to ``streams``; returns whether any is in progress."""
        while sum(not lane.is_read for lane in self._lanes) < self._streams:
            lane = self._next_lane()
            if lane is None:
                break
            any(lane.share_detector(other) for other in self._lanes)
            self._lanes.append(lane)
        return bool(self._lanes)

    def _read(self) -> bool:
        """Read one frame of each lane in turn, until a batch is full or no frame is ready."""
        is_new, silent = False, 0
        while silent < len(self._lanes):
            lane = self._lanes[0]
            self._lanes.rotate(-1)
            room = lane.has_room(2 * self._batch) and self._has_room(lane)
            waiting = lane.read() if room else None
            silent = 0 if waiting else silent + 1
            if waiting is None:
                continue
            is_new, self._last_read = True, time.monotonic()
            if not waiting.frame.is_damaged:
                group = self._groups.setdefault(lane.group(waiting.frame.image), [])
                group.append(waiting)
                if len(group) == self._batch:
                    break
        return is_new

    def _group_to_detect(self) -> list[_Waiting] | None:
        """A full batch, or an incomplete one that need not wait any longer."""
        key = max(self._groups, key=lambda key: len(self._groups[key]), default=None)
        if key is None:
            return None
        can_grow = any(lane.has_room(2 * self._batch) for lane in self._lanes)
        is_late = time.monotonic() - self._last_read >= self._patience
        if len(self._groups[key]) == self._batch or is_late or not can_grow:
            return self._groups.pop(key)
        return None

    def _detect(self, group: list[_Waiting]) -> None:
        lane = group[0].lane
        images = [waiting.frame.image for waiting in group]
        if isinstance(lane.detector, Detector):
            images += [images[-1]] * (self._batch - len(images))
        for waiting, found in zip(group, lane.detect(images), strict=False):
            waiting.found = found
