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
"""A frame, ``(H, W, 3)`` uint8 RGB, after its time in seconds, None where that is unknown."""


class VideoTracker:
    """Online video instance segmentation (paper 3.5): frames in, detections with ids out.

    Args:
        detector: whose config is followed, but that a query is always one instance
            (``inference.one_label_per_query``). Where the config names no ``tracking.rule`` and
            the model has no track head, ``bytetrack`` gives the identities, and an
            ``InputWarning`` says so. Or any function from a frame, ``(H, W, 3)`` uint8 RGB, to
            ``supervision.Detections``, as for ``FunctionDetector``.

    Attributes:
        class_names: names of the labels; it grows where a function's class names become known
            as they come up.

    Raises:
        InputError: ``tracking.rule`` names a rule that needs a track head and the model has none,
            or a bad ``tracking`` key.

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
                f"this model has no track head: tracking.rule={tracking.rule} gives identities by "
                f"boxes alone, with inference.nms_threshold={config.inference.nms_threshold}",
                InputWarning,
                stacklevel=2,
            )
        self._tracker = Tracker(tracking)
        self._video: object = None  # that track() was asked for last
        self._cuts = None if tracking.cut_threshold is None else CutDetector(tracking.cut_threshold)
        self.class_names = config.model.classes
        # a query under two labels would be two instances with one mask
        inference = replace(config.inference, one_label_per_query=True)
        self._detector = copy.copy(detector)  # whose network is shared, and whose config is not
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
        """A tracker from weights by name, from a checkpoint file or from any detector.

        Args:
            name_or_path: name of weights, a ``.safetensors`` file, a ``last.ckpt``, an ``.onnx``
                file of ``export_onnx``, which onnxruntime runs, an ``.xml`` file of
                ``export_openvino``, which OpenVINO runs, ``hf://OWNER/NAME``,
                ``NAME:ARGUMENT`` for a detector of an installed package, or a function as above.
            device: ``"auto"`` takes the accelerator where there is one.
            overrides: dotlist changes, e.g. ``["inference.score_threshold=0.3"]`` or
                ``["tracking.rule=ocsort"]``.
            max_size: the network sees frames whose longer side has at most this many pixels:
                the fewer, the faster and the less detail. It only lowers ``input.test_long``;
                None leaves that as it is.
            score_threshold: detections below it are left out, 0..1: short for an override of
                ``inference.score_threshold``.

        Raises:
            InputError: the weights or the overrides cannot be used, or they name a rule that needs
                a track head and there is none; ``max_size`` below 1, or for an exported file, whose
                size is fixed.
        """
        if score_threshold is not None:
            overrides = [f"inference.score_threshold={score_threshold}", *(overrides or [])]
        return cls(load_detector(name_or_path, device, overrides, max_size))

    @property
    def detector(self) -> FrameDetector:
        """What finds the instances of a frame."""
        return self._detector

    @property
    def embedding(self) -> Embedding | None:
        """What describes an instance to the association rule, as for ``FrameDetector``."""
        return self._tracker.embedding

    @property
    def names(self) -> list[str]:
        """``class_names``, under the name that ultralytics gives them."""
        return self.class_names

    @property
    def precision(self) -> str | None:
        """In which our network computes, ``auto`` being settled; None: others' detectors."""
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
        """Track through a whole video, as one new video.

        The next frames are decoded while the network works. Memory does not grow with the
        video's length where the config bounds what the tracker remembers
        (``tracking.max_tracks``).

        Args:
            source: what ``open_source`` opens: a video file, an address, a camera, images, ...
            classes: follow only these, by name or 0-based label; None: all.
            conf: score from which on instances are followed, 0..1; None:
                ``inference.score_threshold``.
            iou: suppress the weaker of two detections above this IoU, 0..1; None:
                ``inference.nms_threshold``.
            start: first second of the source to track; None: its beginning.
            end: second to stop before; None: its end.
            start_frame: the same by frame index, 0-based.
            end_frame: frame index to stop before.
            stride: use every ``stride``-th frame.
            max_frames: stop after this many frames; None: all.
            batch: batch size of the network: the same results at a higher throughput.
            live: always continue with the newest frame and drop those that arrived meanwhile: a
                camera, a network stream, a pipe, or a file played at its own pace.
            bgr: arrays have OpenCV's channel order.
            fps: frame rate of arrays and of images without times.

        Returns:
            An iterator of ``FrameResult``, whose ``len()`` is the number of frames where the
            source knows it. A frame that cannot be decoded shows the last good one, or black;
            nothing is found in it, and its detections say ``of_damaged_frame``.

        Raises:
            InputError: the source cannot be read, or has no such frames; a threshold out of
                range, an unknown class, ``batch`` below 1; a range, ``stride`` or ``batch`` with
                a live source.
        """
        selection = Selection(start, end, start_frame, end_frame, stride, max_frames)
        opened = open_source(source, selection, live=live, bgr=bgr, fps=fps)
        if opened.is_live and batch > 1:
            raise InputError("live tracking takes the newest frame alone: no batch")
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
                    "this tracker has begun another video; to follow two at a time, make a "
                    "VideoTracker for each: they may share one Detector"
                )
            yield frame

    __call__ = track

    def update(
        self, frame: ImageLike, time: float | None = None, *, bgr: bool = False
    ) -> Detections:
        """Find the instances of the video's next frame and give them their identities.

        Args:
            frame: ``(H, W, 3)`` uint8 RGB, a PIL image or the path of an image.
            time: of the frame in seconds from any origin, given for all frames of a video or for
                none; ``tracking.expire_seconds`` needs it.
            bgr: an array is BGR, as OpenCV's are.

        Returns:
            Detections in pixels of the frame, on the CPU, with ``track_ids`` that are unique
            in the frame and stay with an instance through the video.

        Raises:
            InputError: not such a frame, or a time that is not later than the previous one.
        """
        try:
            image = to_array(frame, bgr)
        except InputError as error:
            if isinstance(frame, str | os.PathLike):
                raise InputError(f"{error}; a whole video is followed by track(...)") from error
            raise
        [tracked] = self.follow_video([Frame(0, time, image)])
        return tracked.detections

    def follow(
        self, frames: Iterable[np.ndarray], batch: int = 1
    ) -> Iterator[tuple[np.ndarray, Detections]]:
        """Go on with the video's next frames, one after the other, whose times are not known.

        Args:
            frames: ``(H, W, 3)`` uint8 RGB each.
            batch: frames that the network sees at a time. Identities are given frame by frame
                all the same, so the results are those of ``batch=1``, after ``batch`` frames.

        Returns:
            An iterator of ``(frame, detections)``, the latter as ``update`` gives them.

        Raises:
            InputError: not such a frame; ``batch`` below 1.
        """
        tracked = self.follow_timed(((None, frame) for frame in frames), batch)
        return ((found.frame, found.detections) for found in tracked)

    def follow_timed(
        self, frames: Iterable[TimedFrame], batch: int = 1
    ) -> Generator[FrameResult, None, None]:
        """Like ``follow``, for frames that come with their times, as ``VideoReader.timed`` reads.

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
        """Like ``follow``, for frames as ``VideoReader.frames`` reads them.

        Nothing is found in a damaged frame (``of_damaged_frame``), and tracks go on after it.

        Args:
            frames: in the order of the video.
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
        if self.class_names:  # a function's become known as they come up
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
        """Give the detections of the video's next frame their identities.

        Args:
            frame: the frame.
            found: what ``detector`` found in it; None for a damaged frame, in which nothing is.
            classes: as for ``track``.

        Raises:
            InputError: a time that is not later than that of the previous frame.
        """
        detections = nothing_found(frame.image) if found is None else found
        detections.class_names = self.class_names
        if found is not None:
            if self._cuts is not None and self._cuts.is_cut(frame.image):
                self._tracker.forget()
            if classes is not None:
                detections = of_classes(detections, classes)
            detections = self._tracker.update(detections, frame.seconds)
        return FrameResult(frame.image, frame.number, frame.seconds, detections)

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
            source: as for ``track``, like all that follow.
            stride: use every ``stride``-th frame.
            batch: batch size of the network.
            live: always continue with the newest frame.
            start: first second to track.
            end: second to stop before.
            max_frames: stop after this many frames.
            bgr: arrays have OpenCV's channel order.
            fps: frame rate of arrays and of images without times.

        Returns:
            An iterator of ``(frame, detections)``: ``(H, W, 3)`` uint8 RGB, and what ``update``
            says of it.

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
        """Forget all identities: the next frame begins another video."""
        self._tracker.reset()
        if self._cuts is not None:
            self._cuts.reset()
