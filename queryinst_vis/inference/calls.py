"""Tracking and detection in one call, weights included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import torch

from queryinst_vis.inference.any_detector import AnyDetector
from queryinst_vis.inference.detector import AnyImage, Detector
from queryinst_vis.inference.filters import for_showing
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
    """Follow the instances of a video, a camera or a stream, with the settings of the command.

    Like ``queryinst-vis track``, it remembers the 1,000 tracks that were seen last and begins new
    identities at hard cuts. For several videos make a ``VideoTracker``: this loads the weights at
    each call. ``track_video`` writes files instead.

    Args:
        source: a video file, an address, a camera, a folder of frames or arrays, as for
            ``VideoTracker.track``.
        weights: name, file or detector, as for ``VideoTracker.from_pretrained``.
        device: ``"auto"`` takes the accelerator where there is one.
        max_size: longest side of the network's input in pixels; None: as the weights were trained.
        classes: follow only these, by name or 0-based label; None: all.
        conf: score threshold, 0..1; None: what the weights ask for, or 0.3 where that is the 0.05
            of the benchmarks.
        iou: suppress the weaker of two detections above this IoU, 0..1; None: what the weights
            ask for.
        start: first second of the source to track; None: its beginning.
        end: second to stop before; None: its end.
        stride: use every ``stride``-th frame.
        max_frames: stop after this many frames; None: all.
        batch: batch size of the network; the results are the same.
        live: always continue with the newest frame and drop those that arrived meanwhile.
        bgr: arrays have OpenCV's channel order.
        fps: frame rate of arrays and of images without times.

    Returns:
        An iterator of ``FrameResult``, with a ``len()`` where the source knows its length.

    Raises:
        InputError: the source, the weights or a setting cannot be used.

    Example::

        for result in queryinst_vis.track("street.mp4", conf=0.5):
            print(result.seconds, result.detections)
    """
    tracker = load_tracker(weights, conf, max_size, device, None)
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

    For several calls make a ``Detector``: this loads the weights at each.

    Args:
        image: a file, an array, a PIL image or a list of these.
        weights: name or file, as for ``Detector.from_pretrained``.
        device: ``"auto"`` takes the accelerator where there is one.
        max_size: longest side of the network's input in pixels; None: as the weights were trained.
        classes: keep only these, by name or 0-based label; None: all.
        iou: suppress the weaker of two detections above this IoU, 0..1; None: what the weights
            ask for.
        bgr: arrays have OpenCV's channel order.
        conf: score threshold, 0..1; None: what the weights ask for, or 0.3 where that is the 0.05
            of the benchmarks.

    Raises:
        InputError: an image, the weights or a setting cannot be used.

    Example::

        queryinst_vis.detect("photo.jpg").plot().save("found.png")
    """
    detector = for_showing(Detector.from_pretrained(weights, device, max_size=max_size), [])
    return detector.detect(image, classes=classes, conf=conf, iou=iou, bgr=bgr)
