"""Tracking and detection with a single call, including loading the weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import torch

from queryinst_vis.inference.any_detector import AnyDetector
from queryinst_vis.inference.detector import AnyImage, Detector
from queryinst_vis.inference.filters import for_showing
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.inference.result import VideoResults
from queryinst_vis.inference.track import load_tracker
from queryinst_vis.structures import Detections
from queryinst_vis.utils.images import ImageLike
from queryinst_vis.video.source import SourceLike


def track(
    source: SourceLike,
    weights: AnyDetector = "people",
    *,
    device: str = "auto",
    max_size: int | None = None,
    classes: Sequence[str | int] | None = None,
    conf: float | None = None,
    iou: float | None = None,
    start: float | None = None,
    end: float | None = None,
    stride: int = 1,
    max_frames: int | None = None,
    batch: int = 1,
    live: bool = False,
    bgr: bool = False,
    fps: float | None = None,
) -> VideoResults:
    """Track the instances of a video, camera or stream, with the settings of the command line.

    Like ``queryinst-vis track``, it keeps the 1,000 most recently seen tracks and starts new
    identities at hard cuts. For several videos use a ``VideoTracker``, since this function loads
    the weights at each call. ``track_video`` writes files instead.

    Args:
        source: a video file, a URL, a camera, a folder of frames or arrays, as for
            ``VideoTracker.track``.
        weights: name, file or detector, as for ``VideoTracker.from_pretrained``.
        device: ``"auto"``: a GPU if available.
        max_size: maximum longer side of the network input in pixels; None: that of the weights.
        classes: track only these classes, by name or 0-based label; None: all.
        conf: score threshold, 0..1; None: that of the weights, or 0.3 if that is a
            benchmark value, 0.05 or 0.
        iou: IoU threshold for NMS, 0..1; None: that of the weights.
        start: start time in seconds; None: the beginning of the source.
        end: end time in seconds, exclusive; None: the end of the source.
        stride: process every ``stride``-th frame.
        max_frames: maximum number of frames; None: all.
        batch: batch size of the network; the results are the same.
        live: always process the newest frame and drop those that arrived in between.
        bgr: arrays have OpenCV's channel order.
        fps: frame rate of arrays and of images without times.

    Returns:
        An iterator of ``FrameResult``, with a ``len()`` if the length of the source is known.

    Raises:
        InputError: an invalid source, weights or setting.

    Example::

        for result in queryinst_vis.track("street.mp4", conf=0.5):
            print(result.seconds, result.detections)
    """
    tracker = load_tracker(TrackOptions(weights, conf=conf, max_size=max_size), device)
    return tracker.track(
        source,
        classes=classes,
        iou=iou,
        start=start,
        end=end,
        stride=stride,
        max_frames=max_frames,
        batch=batch,
        live=live,
        bgr=bgr,
        fps=fps,
    )


@overload
def detect(
    image: ImageLike,
    weights: str | Path = "people",
    *,
    device: str | torch.device = "auto",
    max_size: int | None = None,
    classes: Sequence[str | int] | None = None,
    conf: float | None = None,
    iou: float | None = None,
    bgr: bool = False,
) -> Detections: ...


@overload
def detect(
    image: list[AnyImage],
    weights: str | Path = "people",
    *,
    device: str | torch.device = "auto",
    max_size: int | None = None,
    classes: Sequence[str | int] | None = None,
    conf: float | None = None,
    iou: float | None = None,
    bgr: bool = False,
) -> list[Detections]: ...


def detect(
    image: ImageLike | list[AnyImage],
    weights: str | Path = "people",
    *,
    device: str | torch.device = "auto",
    max_size: int | None = None,
    classes: Sequence[str | int] | None = None,
    conf: float | None = None,
    iou: float | None = None,
    bgr: bool = False,
) -> Detections | list[Detections]:
    """Detect and segment the instances of an image, or of each image of a list.

    For several calls use a ``Detector``, since this function loads the weights at each call.

    Args:
        image: a file, an array, a PIL image or a list of these.
        weights: name or file, as for ``Detector.from_pretrained``.
        device: ``"auto"``: a GPU if available.
        max_size: maximum longer side of the network input in pixels; None: that of the weights.
        classes: keep only these classes, by name or 0-based label; None: all.
        iou: IoU threshold for NMS, 0..1; None: that of the weights.
        bgr: arrays have OpenCV's channel order.
        conf: score threshold, 0..1; None: that of the weights, or 0.3 if that is a
            benchmark value, 0.05 or 0.

    Raises:
        InputError: an invalid image, weights or setting.

    Example::

        queryinst_vis.detect("photo.jpg").plot().save("found.png")
    """
    detector = for_showing(Detector.from_pretrained(weights, device, max_size=max_size), [])
    return detector.detect(image, classes=classes, conf=conf, iou=iou, bgr=bgr)
