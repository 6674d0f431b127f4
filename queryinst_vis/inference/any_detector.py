"""Custom detectors: any function from a frame to supervision's Detections."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import supervision as sv
import torch

from queryinst_vis.checkpoints.catalogue import shipped_weights
from queryinst_vis.config import (
    Config,
    InferenceConfig,
    ModelConfig,
    TrackingConfig,
    apply_overrides,
    differences,
)
from queryinst_vis.errors import InputError
from queryinst_vis.inference.detector import Detector, FrameDetector, check_inference
from queryinst_vis.masks import InstanceMask, MaskRegion
from queryinst_vis.models.suppression import Suppression
from queryinst_vis.structures import Detections, Embedding
from queryinst_vis.tracking.rules import BOXES_ALONE
from queryinst_vis.utils.device import plain_defaults
from queryinst_vis.utils.plugins import DETECTORS, find_entry, installed

Find = Callable[[np.ndarray], sv.Detections]
"""``(H, W, 3)`` uint8 RGB to detections in pixels of the frame."""

AnyDetector: TypeAlias = "str | Path | FrameDetector | Find"
"""Weights by name or file, ``PLUGIN:ARGUMENT``, a detector, or a detection function."""

WITHOUT_CLASSES = "object"
"""The class of detections without class ids and names."""

_SETTINGS = (
    "tracking.",
    "inference.score_threshold",
    "inference.max_per_image",
    "inference.nms_threshold",
    "inference.nms_overlap",
)
"""Config keys that apply to custom detectors."""
_OF_OURS = ("tracking.", "inference.", "input.")
_PLUGIN = re.compile(r"(\w[\w.-]+)(?::(?!//)(.*))?")  # excludes URLs and Windows drives


class FunctionDetector:
    """A detection function, as a detector for ``VideoTracker``.

    Association uses boxes (``tracking.rule=bytetrack``, unless the overrides set another
    rule that needs no track head). All detections are tracked, unless the
    overrides raise ``inference.score_threshold`` or set ``inference.nms_threshold``.

    Args:
        find: takes an ``(H, W, 3)`` uint8 RGB frame and returns ``supervision.Detections`` with
            ``xyxy``, and optionally ``mask`` (N, H, W), ``confidence`` (default: 1), ``class_id``
            and ``data["class_name"]``, which takes precedence over ``class_id``.
        class_names: names of class ids 0, 1, ..., or names by class id: ``{1: "person", 3:
            "car"}``; labels are numbered in this order. None: labels are numbered in the order in
            which names first appear in ``data["class_name"]``, and ``class_names`` grows.
        overrides: dotlist overrides of ``tracking`` keys and of the ``inference`` keys that select
            detections.

    Attributes:
        config: as for ``FrameDetector``; its ``model.classes`` are the names of the labels.

    Raises:
        InputError: an override of another key, or out of range.

    Example::

        def find(frame):  # (H, W, 3) uint8 RGB
            boxes = np.array([[8.0, 8.0, 40.0, 40.0]])
            return supervision.Detections(xyxy=boxes, class_id=np.array([1]))

        tracker = VideoTracker(FunctionDetector(find, ["person", "dog"]))
        for result in tracker.track("street.mp4"):
            print(result.seconds, result.detections.track_ids)
    """

    has_track_head = False

    def __init__(
        self,
        find: Find,
        class_names: Sequence[str] | Mapping[int, str] | None = None,
        overrides: list[str] | None = None,
    ) -> None:
        by_id = class_names if isinstance(class_names, Mapping) else enumerate(class_names or [])
        names = dict(by_id)
        config = Config(
            model=ModelConfig(classes=list(names.values())),
            inference=InferenceConfig(score_threshold=0.0, max_per_image=1000),
            tracking=TrackingConfig(rule=BOXES_ALONE),
        )
        self.config = _override(config, overrides or [], _SETTINGS)
        self._find = find
        self._learns_names = class_names is None
        self._labels_of_ids = {class_id: label for label, class_id in enumerate(names)}

    @property
    def class_names(self) -> list[str]:
        """Names of the labels."""
        return self.config.model.classes

    @plain_defaults()
    def detect_frames(
        self, frames: list[np.ndarray], embedding: Embedding | None = None
    ) -> list[Detections]:
        """See ``FrameDetector``; the function is called frame by frame.

        Raises:
            InputError: the function returns invalid detections.
        """
        return [self._select(self._convert(self._find(frame), frame)) for frame in frames]

    def _convert(self, found: sv.Detections, frame: np.ndarray) -> Detections:
        """Convert supervision's Detections; sorted by descending score."""
        if not isinstance(found, sv.Detections):
            raise InputError(
                f"detector: must return supervision.Detections, returned {type(found).__name__}"
            )
        size, count = (frame.shape[0], frame.shape[1]), len(found)
        scores = np.ones(count) if found.confidence is None else np.asarray(found.confidence)
        if not ((scores >= 0) & (scores <= 1)).all():
            raise InputError("detector: scores must be between 0 and 1")
        detections = Detections(
            boxes=torch.as_tensor(np.asarray(found.xyxy), dtype=torch.float32).reshape(count, 4),
            scores=torch.as_tensor(scores, dtype=torch.float32),
            labels=torch.tensor(self._labels(found), dtype=torch.int64),
            image_size=size,
            class_names=self.class_names,
            pixel_masks=None if found.mask is None else _masks(found, size),
        )
        return detections[detections.scores.argsort(descending=True, stable=True)]

    def _labels(self, found: sv.Detections) -> list[int]:
        count = len(found)
        if count == 0:
            return []
        names = found.data.get("class_name")
        if names is not None:
            return [self._label(str(name)) for name in names]
        if found.class_id is None:
            return [self._label(WITHOUT_CLASSES)] * count
        if self._learns_names:
            raise InputError(
                "detector: returned class ids without names; pass FunctionDetector(find, "
                'class_names=[...]) or set data["class_name"]'
            )
        ids = [int(class_id) for class_id in found.class_id]
        if unknown := set(ids) - set(self._labels_of_ids):
            raise InputError(
                f"detector: returned class id {min(unknown)}, but class_names has ids "
                f"{min(self._labels_of_ids)} to {max(self._labels_of_ids)}"
            )
        return [self._labels_of_ids[class_id] for class_id in ids]

    def _label(self, name: str) -> int:
        names = self.class_names
        if name not in names:
            if not self._learns_names:
                raise InputError(
                    f"detector: returned class '{name}', but class_names are {', '.join(names)}"
                )
            names.append(name)
        return names.index(name)

    def _select(self, detections: Detections) -> Detections:
        """The detections selected by the ``inference`` keys."""
        settings = self.config.inference
        detections = detections[detections.scores >= settings.score_threshold]
        suppression = Suppression(settings.nms_threshold, settings.nms_overlap, class_agnostic=True)
        kept = suppression.of_boxes(detections.boxes, detections.scores, detections.labels)
        return suppression.of_masks(detections[kept])[: settings.max_per_image]


def load_detector(
    source: AnyDetector,
    device: str | torch.device = "auto",
    overrides: list[str] | None = None,
    max_size: int | None = None,
) -> FrameDetector:
    """Load a detector by name or file, or adapt an object.

    Args:
        source: as for ``Detector.from_pretrained``; or ``NAME:ARGUMENT`` (or ``NAME``) for a
            detector of an installed package; or a detector or function, which stays on its device.
        device, overrides, max_size: as for ``Detector.from_pretrained``; the last is only for
            QueryInst models, and the device is passed to detectors of packages.

    Raises:
        InputError: unknown detector, or it does not support a setting.
    """
    if isinstance(source, str | Path):
        plugin = _find_plugin(str(source))
        if plugin is None:
            return Detector.from_pretrained(source, device, overrides, max_size)
        make, argument = plugin
        source = make(argument, str(device))
    elif device != "auto":
        raise InputError(f"device '{device}': a custom detector stays on its device")
    if max_size is not None:
        raise InputError(
            "max_size: this detector processes whole frames; only QueryInst weights support it"
        )
    detector = as_detector(source)
    changed = copy.copy(detector)
    settings = _SETTINGS if isinstance(detector, FunctionDetector) else _OF_OURS
    changed.config = _override(detector.config, overrides or [], settings)
    return changed


def is_weights(source: AnyDetector) -> bool:
    """Whether this is a name of weights, rather than of a custom detector.

    Raises:
        InputError: a detector that no installed package provides.
    """
    return isinstance(source, str | Path) and _find_plugin(str(source)) is None


def as_detector(source: FrameDetector | Find) -> FrameDetector:
    """Return a detector unchanged; wrap a function in a ``FunctionDetector``.

    Raises:
        InputError: neither a detector nor a function.
    """
    if isinstance(source, FrameDetector):
        return source
    if callable(source):
        return FunctionDetector(source)
    raise InputError(
        "detector: must be a Detector, or a function from a frame to supervision.Detections, got "
        f"{type(source).__name__}; VideoTracker.from_pretrained takes weights by name"
    )


def _find_plugin(text: str) -> tuple[Callable[[str, str], FrameDetector | Find], str] | None:
    """The entry point and its argument; None if the text names weights."""
    match = _PLUGIN.fullmatch(text)
    if match is None or Path(text).exists() or text in shipped_weights():
        return None
    name, argument = match.groups()
    names = installed(DETECTORS)
    if argument is None and name not in names:
        return None
    return find_entry(name, DETECTORS, "weights: unknown detector", {}), argument or ""


def _override(config: Config, overrides: list[str], settings: tuple[str, ...]) -> Config:
    changed = apply_overrides(config, overrides)
    for key in differences(config, changed):
        if not key.startswith(settings):
            raise InputError(
                f"override of {key}: this detector only supports: {', '.join(settings)}"
            )
    check_inference(changed)
    return changed


def _masks(found: sv.Detections, size: tuple[int, int]) -> list[InstanceMask]:
    assert found.mask is not None
    masks = []
    for row in range(len(found)):
        pixels = np.asarray(found.mask[row], dtype=bool)
        if pixels.shape != size:
            raise InputError(
                f"detector: returned masks of {pixels.shape[::-1]} pixels in a frame of "
                f"{size[::-1]}; masks must be (N, H, W), as large as the frame"
            )
        masks.append(InstanceMask(size, _region(pixels)))
    return masks


def _region(pixels: np.ndarray) -> MaskRegion:
    """The mask cropped to its bounding box; a single pixel for an empty mask."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return MaskRegion(pixels[:1, :1].copy(), 0, 0)
    y, x = int(rows[0]), int(columns[0])
    return MaskRegion(pixels[y : rows[-1] + 1, x : columns[-1] + 1].copy(), x, y)
