"""Which detections a call asks for: by score, by overlap with stronger ones, and by class."""

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
"""Score from which detections are shown of weights that keep the 0.05 of the benchmarks."""


class _Configured(Protocol):
    config: Config


AnyConfigured = TypeVar("AnyConfigured", bound=_Configured)


def with_thresholds(
    detector: AnyConfigured, conf: float | None, iou: float | None
) -> AnyConfigured:
    """The detector with other thresholds; the network is shared, and the original left as it is.

    Args:
        detector: whose ``config.inference`` is followed.
        conf: score from which on detections are kept, 0..1; None: as configured.
        iou: IoU above which the weaker of two detections is dropped, 0..1; None: as configured.

    Raises:
        InputError: out of range.
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
    """The detector with a score threshold that suits viewers.

    Benchmarks gain by weak detections, pictures do not: ``SCORE_THRESHOLD`` takes the place of
    the benchmarks' 0.05, unless the overrides, with which it was loaded, name a threshold.
    """
    threshold = detector.config.inference.score_threshold
    is_named = any(text.startswith("inference.score_threshold=") for text in overrides)
    if is_named or threshold != InferenceConfig().score_threshold:
        return detector
    return with_thresholds(detector, SCORE_THRESHOLD, None)


def check_classes(classes: Sequence[str | int] | None, class_names: Sequence[str]) -> None:
    """Raise an InputError for a class that is neither one of the names nor a label of one."""
    if isinstance(classes, str):
        raise InputError(f"classes must be a list, such as ['{classes}'], not '{classes}'")
    for wanted in classes or ():
        if isinstance(wanted, str) and wanted not in class_names:
            near = nearest_name(wanted, class_names)
            hint = f"did you mean '{near}'?" if near else f"there are {list_names(class_names)}"
            raise InputError(f"class '{wanted}': these weights do not know it; {hint}")
        if not isinstance(wanted, str) and not 0 <= wanted < len(class_names):
            raise InputError(f"class {wanted}: labels are from 0 to {len(class_names) - 1}")


def of_classes(detections: Detections, classes: Sequence[str | int]) -> Detections:
    """The detections whose label or class name is among ``classes``."""
    names = detections.class_names or []
    rows = [
        row
        for row, label in enumerate(detections.labels.tolist())
        if label in classes or (label < len(names) and names[label] in classes)
    ]
    return detections[torch.tensor(rows, dtype=torch.int64)]
