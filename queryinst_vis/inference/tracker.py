"""Tracking instances through videos."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import torch

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.inference.any_detector import AnyDetector, Find, as_detector, load_detector
from queryinst_vis.inference.detector import Detector, FrameDetector
from queryinst_vis.inference.filters import check_classes, of_classes, with_thresholds
from queryinst_vis.inference.result import FrameResult, VideoResults, nothing_found
from queryinst_vis.structures import Detections, Embedding
from queryinst_vis.tracking.rules import choose_rule
from queryinst_vis.tracking.tracker import Tracker
from queryinst_vis.utils.device import plain_defaults
from queryinst_vis.utils.images import ImageLike, to_array
from queryinst_vis.utils.prefetch import prefetch
from queryinst_vis.video.cuts import CutDetector
from queryinst_vis.video.frames import Frame, Selection
from queryinst_vis.video.source import SourceLike, known_length, open_source

TimedFrame = tuple[float | None, np.ndarray]
"""``(time, frame)``: seconds, or None if unknown, and ``(H, W, 3)`` uint8 RGB."""


class VideoTracker:
    """Online video instance segmentation (paper 3.5): frames in, detections with ids out.

    Args:
        detector: a detector, whose config is used, except that a query is always one instance
            (``inference.one_label_per_query``). If the config has no ``tracking.rule`` and
            the model has no track head, ``bytetrack`` is used, with an ``InputWarning``.
            Or any function from a frame, ``(H, W, 3)`` uint8 RGB, to
            ``supervision.Detections``, as for ``FunctionDetector``.

    Attributes:
        class_names: names of the labels; grows during tracking if a function returns new names.

    Raises:
        InputError: ``tracking.rule`` needs a track head that the model lacks, or an invalid
            ``tracking`` key.

    Example::

        tracker = VideoTracker.from_pretrained("people")
        for result in tracker.track("street.mp4", conf=0.5):
            print(result.seconds, result.detections.track_ids, result.detections.boxes)
    """

    def __init__(self, detector: FrameDetector | Find) -> None:
        detector = as_detector(detector)
        config = choose_rule(detector.config, detector.has_track_head)
        tracking = config.tracking
        if detector.config.tracking.rule is None and not detector.has_track_head:
            warnings.warn(
                f"this model has no track head: tracking.rule={tracking.rule} associates boxes "
                f"only, with inference.nms_threshold={config.inference.nms_threshold}",
                InputWarning,
                stacklevel=2,
            )
        self._tracker = Tracker(tracking)
        self._video: object = None  # of the last call of track()
        self._cuts = None if tracking.cut_threshold is None else CutDetector(tracking.cut_threshold)
        self.class_names = config.model.classes
        # a query with two labels would be two instances with the same mask
        inference = replace(config.inference, one_label_per_query=True)
        self._detector = copy.copy(detector)  # shares the network, but not the config
        self._detector.config = replace(config, inference=inference)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: AnyDetector,
        device: str | torch.device = "auto",
        overrides: list[str] | None = None,
        max_size: int | None = None,
        score_threshold: float | None = None,
    ) -> VideoTracker:
        """Create a tracker from a name of weights, a checkpoint file or any detector.

        Args:
            name_or_path: name of weights, a ``.safetensors`` file, a ``last.ckpt``, an ``.onnx``
                file of ``export_onnx``, which onnxruntime runs, an ``.xml`` file of
                ``export_openvino``, which OpenVINO runs, ``hf://OWNER/NAME``,
                ``NAME:ARGUMENT`` for a detector of an installed package, or a function as above.
            device: ``"auto"``: a GPU if available.
            overrides: dotlist overrides, e.g. ``["inference.score_threshold=0.3"]`` or
                ``["tracking.rule=ocsort"]``.
            max_size: maximum longer side of the network input in pixels, to trade accuracy for
                speed. It can only lower ``input.test_long``; None: no change.
            score_threshold: 0..1, overrides ``inference.score_threshold``.

        Raises:
            InputError: invalid weights or overrides, or a rule that needs a missing
                track head; ``max_size`` below 1, or with an exported file, whose
                input size is fixed.
        """
        if score_threshold is not None:
            overrides = [f"inference.score_threshold={score_threshold}", *(overrides or [])]
        return cls(load_detector(name_or_path, device, overrides, max_size))

    @property
    def detector(self) -> FrameDetector:
        """The detector."""
        return self._detector

    @property
    def embedding(self) -> Embedding | None:
        """The kind of association embedding, as for ``FrameDetector``."""
        return self._tracker.embedding

    @property
    def names(self) -> list[str]:
        """``class_names``, with its name in ultralytics."""
        return self.class_names

    @property
    def precision(self) -> str | None:
        """Precision of the network, with ``auto`` resolved; None for custom detectors."""
        detector = self._detector
        return detector.config.inference.precision if isinstance(detector, Detector) else None

    def track(
        self,
        source: SourceLike,
        *,
        classes: Sequence[str | int] | None = None,
        conf: float | None = None,
        iou: float | None = None,
        start: float | None = None,
        end: float | None = None,
        start_frame: int | None = None,
        end_frame: int | None = None,
        stride: int = 1,
        max_frames: int | None = None,
        batch: int = 1,
        live: bool = False,
        bgr: bool = False,
        fps: float | None = None,
    ) -> VideoResults:
        """Track a whole video, starting with new identities.

        The next frames are decoded while the network runs. Memory does not grow with the
        length of the video if the config limits the number of tracks
        (``tracking.max_tracks``).

        Args:
            source: as for ``open_source``: a video file, a URL, a camera, images, ...
            classes: track only these classes, by name or 0-based label; None: all.
            conf: score threshold, 0..1; None: ``inference.score_threshold``.
            iou: IoU threshold for NMS, 0..1; None: ``inference.nms_threshold``.
            start: start time in seconds; None: the beginning of the source.
            end: end time in seconds, exclusive; None: the end of the source.
            start_frame: first frame, 0-based.
            end_frame: end frame, exclusive.
            stride: process every ``stride``-th frame.
            max_frames: maximum number of frames; None: all.
            batch: batch size of the network: the same results at a higher throughput.
            live: always process the newest frame and drop those that arrived in between: for a
                camera, a network stream, a pipe, or a file played in real time.
            bgr: arrays have OpenCV's channel order.
            fps: frame rate of arrays and of images without times.

        Returns:
            An iterator of ``FrameResult``, whose ``len()`` is the number of frames, if known.
            A frame that cannot be decoded is replaced by the last good one, or black;
            it has no detections, and ``of_damaged_frame`` is set.

        Raises:
            InputError: the source cannot be read, or has no frames in the range; a threshold out
                of range, an unknown class, ``batch`` below 1; a range, ``stride`` or ``batch`` with
                a live source.
        """
        selection = Selection(start, end, start_frame, end_frame, stride, max_frames)
        opened = open_source(source, selection, live=live, bgr=bgr, fps=fps)
        if opened.is_live and batch > 1:
            raise InputError("live tracking processes only the newest frame; leave batch out")
        length = known_length(opened)
        frames = opened.frames()
        if not opened.is_live:
            frames = prefetch(frames, max(2, batch))
        self._video = object()
        own = self._while_current(frames, self._video)
        results = self.follow_video(own, batch, classes=classes, conf=conf, iou=iou)
        self.reset()
        return VideoResults(results, length)

    def _while_current(self, frames: Iterator[Frame], video: object) -> Iterator[Frame]:
        for frame in frames:
            if self._video is not video:
                raise InputError(
                    "this tracker has started another video; to track several at a time, create a "
                    "VideoTracker for each: they can share a Detector"
                )
            yield frame

    __call__ = track

    def update(
        self, frame: ImageLike, time: float | None = None, *, bgr: bool = False
    ) -> Detections:
        """Detect and track the instances in the next frame of the video.

        Args:
            frame: ``(H, W, 3)`` uint8 RGB, a PIL image or the path of an image.
            time: of the frame in seconds from any origin, for all frames of a video or for
                none; required by ``tracking.expire_seconds``.
            bgr: an array is BGR, as in OpenCV.

        Returns:
            Detections in pixels of the frame, on the CPU, with ``track_ids`` that are unique
            in the frame and constant for an instance in the video.

        Raises:
            InputError: an invalid frame, or a time that is not later than the previous one.
        """
        try:
            image = to_array(frame, bgr)
        except InputError as error:
            if isinstance(frame, str | os.PathLike):
                raise InputError(f"{error}; to track a whole video, use track(...)") from error
            raise
        [tracked] = self.follow_video([Frame(0, time, image)])
        return tracked.detections

    def follow(
        self, frames: Iterable[np.ndarray], batch: int = 1
    ) -> Iterator[tuple[np.ndarray, Detections]]:
        """Process the next frames of the video, without frame times.

        Args:
            frames: ``(H, W, 3)`` uint8 RGB each.
            batch: batch size of the network. Association is still frame by frame, so the results
                are the same as for ``batch=1``, at a latency of up to ``batch`` frames.

        Returns:
            An iterator of ``(frame, detections)``, with detections as from ``update``.

        Raises:
            InputError: an invalid frame; ``batch`` below 1.
        """
        tracked = self.follow_timed(((None, frame) for frame in frames), batch)
        return ((found.frame, found.detections) for found in tracked)

    def follow_timed(
        self, frames: Iterable[TimedFrame], batch: int = 1
    ) -> Generator[FrameResult, None, None]:
        """Like ``follow``, for frames with times, as from ``VideoReader.timed``.

        Args:
            frames: ``(time, frame)``, the time as for ``update``.
            batch: as for ``follow``.

        Raises:
            InputError: also a time that is not later than the previous one.
        """
        return self.follow_video(
            (Frame(index, time, frame) for index, (time, frame) in enumerate(frames)), batch
        )

    def follow_video(
        self,
        frames: Iterable[Frame],
        batch: int = 1,
        *,
        classes: Sequence[str | int] | None = None,
        conf: float | None = None,
        iou: float | None = None,
    ) -> Generator[FrameResult, None, None]:
        """Like ``follow``, for frames from ``VideoReader.frames``.

        Damaged frames (``of_damaged_frame``) have no detections, and tracks continue after them.

        Args:
            frames: in order.
            batch: as for ``follow``.
            classes: as for ``track``.
            conf: as for ``track``.
            iou: as for ``track``.

        Raises:
            InputError: also a time that is not later than the previous one, an unknown class, or
                a threshold out of range.
        """
        if batch < 1:
            raise InputError(f"batch must be 1 or more, got {batch}")
        if self.class_names:  # those of a function may not be known yet
            check_classes(classes, self.class_names)
        return self._follow(
            iter(frames), batch, with_thresholds(self._detector, conf, iou), classes
        )

    def _follow(
        self,
        frames: Iterator[Frame],
        batch: int,
        detector: FrameDetector,
        classes: Sequence[str | int] | None,
    ) -> Generator[FrameResult, None, None]:
        while group := list(islice(frames, batch)):
            for frame in group:
                if not isinstance(frame.image, np.ndarray):
                    kind = type(frame.image).__name__
                    raise InputError(f"a frame must be a numpy array, not {kind}")
            sound = [frame.image for frame in group if not frame.is_damaged]
            found = iter(self._detect(detector, sound))
            for frame in group:
                yield self.associate(frame, None if frame.is_damaged else next(found), classes)

    def associate(
        self,
        frame: Frame,
        found: Detections | None,
        classes: Sequence[str | int] | None = None,
    ) -> FrameResult:
        """Assign identities to the detections of the next frame of the video.

        Args:
            frame: the frame.
            found: its detections; None for a damaged frame.
            classes: as for ``track``.

        Raises:
            InputError: a time that is not later than that of the previous frame.
        """
        detections = nothing_found(frame.image) if found is None else found
        detections.class_names = self.class_names
        if found is None:
            self._tracker.skip()
        else:
            if self._cuts is not None and self._cuts.is_cut(frame.image):
                self._tracker.forget()
            if classes is not None:
                detections = of_classes(detections, classes)
            detections = self._tracker.update(detections, frame.seconds)
        return FrameResult(frame.image, frame.number, frame.seconds, detections, found)

    @plain_defaults()
    def _detect(self, detector: FrameDetector, images: list[np.ndarray]) -> list[Detections]:
        return detector.detect_frames(images, self._tracker.embedding) if images else []

    def stream(
        self,
        source: SourceLike,
        stride: int = 1,
        batch: int = 1,
        live: bool = False,
        *,
        start: float | None = None,
        end: float | None = None,
        max_frames: int | None = None,
        bgr: bool = False,
        fps: float | None = None,
    ) -> Iterator[tuple[np.ndarray, Detections]]:
        """Like ``track``, as plain pairs of frame and detections.

        Args:
            source: as for ``track``, like all other arguments.
            stride: process every ``stride``-th frame.
            batch: batch size of the network.
            live: always process the newest frame.
            start: start time in seconds.
            end: end time in seconds, exclusive.
            max_frames: maximum number of frames.
            bgr: arrays have OpenCV's channel order.
            fps: frame rate of arrays and of images without times.

        Returns:
            An iterator of ``(frame, detections)``: ``(H, W, 3)`` uint8 RGB, and detections as from
            ``update``.

        Raises:
            InputError: as for ``track``.
        """
        results = self.track(
            source,
            start=start,
            end=end,
            stride=stride,
            max_frames=max_frames,
            batch=batch,
            live=live,
            bgr=bgr,
            fps=fps,
        )
        return ((found.frame, found.detections) for found in results)

    def reset(self) -> None:
        """Reset all identities: the next frame is the first of another video."""
        self._tracker.reset()
        if self._cuts is not None:
            self._cuts.reset()
