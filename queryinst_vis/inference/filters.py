"""Filtering detections by score, overlap and class."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import torch

from queryinst_vis.config import Config, InferenceConfig
from queryinst_vis.errors import InputError
from queryinst_vis.formats.names import list_names, nearest_name
from queryinst_vis.structures import Detections

SCORE_THRESHOLD = 0.3
"""Score threshold for display with weights that have the benchmarks' 0.05."""


class _Configured(Protocol):
    config: Config


AnyConfigured = TypeVar("AnyConfigured", bound=_Configured)


def with_thresholds(
    detector: AnyConfigured, conf: float | None, iou: float | None
) -> AnyConfigured:
    """A copy of the detector with other thresholds; the network is shared.

    Args:
        detector: detector with ``config.inference``; not modified.
        conf: score threshold, 0..1; None: as configured.
        iou: IoU threshold for NMS, 0..1; None: as configured.

    Raises:
        InputError: a threshold out of range.
    """
    for name, value in (("conf", conf), ("iou", iou)):
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"{name} must be from 0 to 1, got {value}")
    inference = detector.config.inference
    if conf is not None:
        inference = replace(inference, score_threshold=conf)
    if iou is not None:
        inference = replace(inference, nms_threshold=iou)
    changed = copy.copy(detector)
    changed.config = replace(detector.config, inference=inference)
    return changed


def for_showing(detector: AnyConfigured, overrides: Sequence[str]) -> AnyConfigured:
    """The detector with a score threshold suitable for display.

    AP benefits from low-scoring detections, pictures do not: ``SCORE_THRESHOLD`` replaces the
    benchmarks' 0.05 (videos) or 0 (images), unless the overrides that the detector was loaded with
    set a threshold.
    """
    threshold = detector.config.inference.score_threshold
    is_named = any(text.startswith("inference.score_threshold=") for text in overrides)
    if is_named or threshold not in (0.0, InferenceConfig().score_threshold):
        return detector
    return with_thresholds(detector, SCORE_THRESHOLD, None)


def check_classes(classes: Sequence[str | int] | None, class_names: Sequence[str]) -> None:
    """Raise an InputError for an unknown class name or label."""
    if isinstance(classes, str):
        raise InputError(f"classes must be a list, such as ['{classes}'], not '{classes}'")
    for wanted in classes or ():
        if isinstance(wanted, str) and wanted not in class_names:
            near = nearest_name(wanted, class_names)
            hint = f"did you mean '{near}'?" if near else f"there are {list_names(class_names)}"
            raise InputError(f"class '{wanted}': not a class of these weights; {hint}")
        if not isinstance(wanted, str) and not 0 <= wanted < len(class_names):
            raise InputError(f"class {wanted}: labels are from 0 to {len(class_names) - 1}")


def of_classes(detections: Detections, classes: Sequence[str | int]) -> Detections:
    """The detections of the given classes, by name or 0-based label."""
    names = detections.class_names or []
    rows = [
        row
        for row, label in enumerate(detections.labels.tolist())
        if label in classes or (label < len(names) and names[label] in classes)
    ]
    return detections[torch.tensor(rows, dtype=torch.int64)]
