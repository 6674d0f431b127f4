"""Several videos at a time through one network: frames share batches, each has its own memory."""

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
"""Seconds that a short batch waits for frames of slow videos before it is filled up."""

_POLL = 0.002  # seconds between looks at what has come


class Feed(Protocol):
    """Frames that are read without waiting, as ``utils.prefetch.Polled`` gives them."""

    ended: bool

    def poll(self) -> Frame | None:
        """The next frame; None: none is ready, or none is left. Raises what ended the video."""

    def close(self) -> None:
        """Stop reading."""


class Lane:
    """A video among others: its frames, its tracker with its own memory, and its settings.

    Args:
        tracker: which no other lane uses. Trackers of one detector share its network.
        feed: the frames, in order.
        classes, conf, iou: as for ``VideoTracker.track``.

    Attributes:
        error: what ended the video early; None: nothing did.

    Raises:
        InputError: an unknown class, or a threshold out of range.
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
        if tracker.class_names:  # a function's become known as they come up
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
        """Whether all of its frames have been given their results."""
        return self.is_read and not self._waiting

    def has_room(self, limit: int) -> bool:
        """Whether fewer than ``limit`` frames wait for their results or for who takes them."""
        return not self.is_read and len(self._waiting) < limit

    def read(self) -> _Waiting | None:
        """The next frame, if it is there; what goes wrong becomes the ``error``."""
        try:
            frame = self._feed.poll()
            if frame is None:
                return None
            check_frame(frame.image)
        except Exception as error:  # this video's alone: its neighbours go on
            self.fail(error)
            return None
        self._waiting.append(_Waiting(self, frame))
        return self._waiting[-1]

    def results(self) -> Iterator[FrameResult]:
        """What is known by now of its frames, in their order."""
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
        """End the video; frames before the error still have their results."""
        self.error = self.error or error
        self.close()

    def close(self) -> None:
        """Stop reading."""
        self._feed.close()

    def group(self, image: np.ndarray) -> Hashable:
        """What frames have in common that may share a batch: the detector, its settings, a size."""
        detector = self.detector
        size = detector.batch_key(image) if isinstance(detector, Detector) else image.shape
        return id(detector), self._tracker.embedding, size

    def share_detector(self, other: Lane) -> bool:
        """Take over the detector of another lane, if it has the same network and settings."""
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
        """Find the instances of frames of its ``group``, its own or its neighbours'."""
        return self.detector.detect_frames(images, self._tracker.embedding)


@dataclass(eq=False)
class _Waiting:
    """A frame on its way through the network."""

    lane: Lane
    frame: Frame
    found: Detections | None = None

    @property
    def is_detected(self) -> bool:
        return self.frame.is_damaged or self.found is not None


class SideBySide:
    """Advances several videos at a time; iterating yields their results as they are found.

    Every batch of a network has the same size: a short one is filled up with copies of a frame,
    whose results are dropped. So a frame's detections depend neither on its place in a batch, nor
    on its companions, nor on the number of streams (on a CPU, bit for bit, with one number of
    threads). A batch is filled up when no lane can add to it, or none has for ``patience``.

    Args:
        next_lane: gives the next video, or None where there is none for now.
        streams: lanes that are read at a time.
        batch: frames that the network sees at a time.
        patience: seconds; 0: no frame waits for another, as live sources want it.
        has_room: whether a lane's results are still being taken; while not, it is not read.

    Yields:
        ``(lane, result)`` for every frame, in the order of each video, and ``(lane, None)`` after
        its last one, when ``lane.error`` tells whether it ended early.

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
        """Begin further videos; False when none is on its way."""
        while sum(not lane.is_read for lane in self._lanes) < self._streams:
            lane = self._next_lane()
            if lane is None:
                break
            any(lane.share_detector(other) for other in self._lanes)
            self._lanes.append(lane)
        return bool(self._lanes)

    def _read(self) -> bool:
        """Read frames, one of each lane in turn, until a batch is full or no more are there."""
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
        """A full batch, or a short one that it is no use to hold back any longer."""
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
