"""The settings of tracking a video, shared by files, live sources and batch runs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from queryinst_vis.drawing import DEFAULT_STYLE, NOTHING_HIDDEN, DrawingStyle, Redaction
from queryinst_vis.video.encoders import X264
from queryinst_vis.video.frames import ALL_FRAMES, Selection

if TYPE_CHECKING:  # processes that only decode do not load torch
    from queryinst_vis.inference.any_detector import AnyDetector

DEFAULT_SAVE = ("video", "json", "jsonl", "timeline")
"""The outputs that are written by default."""


@dataclass(frozen=True)
class TrackOptions:
    """Settings of tracking a video: detector, frames and outputs.

    Attributes:
        weights: as for ``VideoTracker.from_pretrained``: a name, a file, or any detector.
        conf: score threshold, 0..1; None: ``inference.score_threshold`` of the weights, or 0.3 if
            that is a benchmark value, 0.05 or 0.
        iou: IoU threshold for NMS, 0..1; None: that of the weights.
        classes: track only these classes, by name or 0-based label; None: all.
        max_size: maximum longer side of the network input in pixels; None: that of the weights.
        overrides: dotlist overrides of the config in the weights, e.g. ``tracking.rule=query``.
        selection: the frames to process.
        save: the outputs to write, of ``OUTPUTS`` or another table of ``OutputKind``.
        style: what is drawn for each instance in the annotated video.
        redaction: classes and track ids that are blurred, or cut out, in all images and videos.
        encoder: of the videos, of ``video.encoders.ENCODERS``, or ``"auto"``: hardware if it works.
    """

    weights: AnyDetector = "people"
    conf: float | None = None
    iou: float | None = None
    classes: Sequence[str | int] | None = None
    max_size: int | None = None
    overrides: Sequence[str] = ()
    selection: Selection = ALL_FRAMES
    save: Sequence[str] = DEFAULT_SAVE
    style: DrawingStyle = DEFAULT_STYLE
    redaction: Redaction = NOTHING_HIDDEN
    encoder: str = X264

    def __post_init__(self) -> None:
        for name in ("classes", "overrides", "save"):  # lists, too, become hashable
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))

    @property
    def detector_key(self) -> Hashable:
        """The options that ``load_tracker`` reads: equal keys mean interchangeable detectors."""
        return self.weights, self.conf, self.max_size, self.overrides
