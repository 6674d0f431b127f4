"""Greedy matching, average precision and recall, as defined by COCO and YouTube-VIS.

By default, thresholds are the ten IoUs .5:.05:.95, and recall is sampled at 101 points.
In array shapes, T stands for thresholds, R for recall points, D for detections and G for
ground-truth tracks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = (1, 10, 100)
"""Maximum numbers of detections per video and class; the last also limits the matching."""
UNDEFINED = -1.0
"""Value of a metric without ground truth."""


class Metric(NamedTuple):
    """One of the twelve metrics: a mean over classes, thresholds and (for AP) recall points.

    Attributes:
        curve: "precision" or "recall".
        area_range: name of the area range.
        limit: index of the maximum number of detections in ``MAX_DETECTIONS``.
        threshold: IoU threshold; None: the mean over all thresholds.
    """

    curve: Literal["precision", "recall"]
    area_range: str = "all"
    limit: int = 2
    threshold: float | None = None


METRICS = {
    "AP": Metric("precision"),
    "AP50": Metric("precision", threshold=0.5),
    "AP75": Metric("precision", threshold=0.75),
    "APs": Metric("precision", "small"),
    "APm": Metric("precision", "medium"),
    "APl": Metric("precision", "large"),
    "AR1": Metric("recall", limit=0),
    "AR10": Metric("recall", limit=1),
    "AR100": Metric("recall"),
    "ARs": Metric("recall", "small"),
    "ARm": Metric("recall", "medium"),
    "ARl": Metric("recall", "large"),
}
"""The metrics by name, in COCO's order."""

REPORTED = tuple(dict.fromkeys((metric.area_range, metric.limit) for metric in METRICS.values()))
"""The pairs of area range and limit that occur in ``METRICS``."""


@dataclass(frozen=True)
class Matches:
    """Matches of the detections of one class in one video, for one area range.

    Attributes:
        scores: ``(D,)`` descending.
        matched: ``(T, D)`` bool, whether a detection is matched to ground truth.
        ignored: ``(T, D)`` bool, whether it is neither a true nor a false positive.
        num_ground_truth: number of ground-truth tracks that are not ignored.
    """

    scores: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    num_ground_truth: int


@dataclass(frozen=True)
class Curve:
    """Precision and recall of one class over all videos; ``UNDEFINED`` without ground truth.

    Attributes:
        precision: ``(T, R)`` at the recall points, interpolated to be non-increasing.
        recall: ``(T,)`` recall of all detections.
        scores: ``(T, R)`` score of the detection that reaches a recall point, 0 if none does.
    """

    precision: np.ndarray
    recall: np.ndarray
    scores: np.ndarray


def match_detections(
    ious: np.ndarray,
    ground_truth_ignored: np.ndarray,
    crowd: np.ndarray,
    thresholds: np.ndarray = IOU_THRESHOLDS,
) -> tuple[np.ndarray, np.ndarray]:
    """Match each detection, by descending score, to the ground truth with the highest IoU.

    Ignored ground truth is matched only if no other fits; crowds may be matched repeatedly. Of
    equal IoUs the later ground truth is taken, as in the reference code.

    Args:
        ious: ``(D, G)``, detections by descending score.
        ground_truth_ignored: ``(..., G)`` bool; each row (e.g. an area range) is matched
            separately.
        crowd: ``(G,)`` bool.
        thresholds: ``(T,)`` minimum IoUs.

    Returns:
        ``(matched, ignored)``: two ``(..., T, D)`` bool arrays; ``ignored`` marks detections
        that are matched to ignored ground truth.
    """
    num_detections, num_ground_truth = ious.shape
    batch_shape = (*ground_truth_ignored.shape[:-1], len(thresholds))
    matched = np.zeros((*batch_shape, num_detections), dtype=bool)
    ignored = np.zeros_like(matched)
    if num_ground_truth == 0:
        return matched, ignored
    limits = np.minimum(thresholds, 1 - 1e-10)[:, None]  # as there: an IoU of 1 may be rounded down
    counted = ~ground_truth_ignored[..., None, :]
    free = np.ones((*batch_shape, num_ground_truth), dtype=bool)
    for detection in np.flatnonzero((ious >= limits.min()).any(axis=1)):
        iou = ious[detection]
        fits = free & (iou >= limits)
        regular = fits & counted
        candidates = np.where(regular.any(axis=-1, keepdims=True), regular, fits)
        overlap = np.where(candidates, iou, -1.0)
        best = num_ground_truth - 1 - overlap[..., ::-1].argmax(axis=-1)
        found: tuple[Any, ...] = np.nonzero(candidates.any(axis=-1))
        taken = best[found]
        matched[(*found, detection)] = True
        ignored[(*found, detection)] = ground_truth_ignored[(*found[:-1], taken)]
        free[(*found, taken)] = crowd[taken]
    return matched, ignored


def pool_detections(
    videos: Sequence[Matches],
    max_detections: int,
    thresholds: np.ndarray = IOU_THRESHOLDS,
    recall_points: np.ndarray = RECALL_POINTS,
) -> Curve:
    """Precision and recall of the detections of one class, pooled over videos.

    Args:
        videos: one entry per video, in the order of the video ids, which breaks ties between equal
            scores.
        max_detections: maximum number of detections per video.
        thresholds: ``(T,)`` IoU thresholds of the matching.
        recall_points: ``(R,)`` ascending.
    """
    shape = len(thresholds), len(recall_points)
    num_ground_truth = sum(video.num_ground_truth for video in videos)
    if num_ground_truth == 0:
        return Curve(*(np.full(size, UNDEFINED) for size in (shape, shape[0], shape)))
    scores = np.concatenate([video.scores[:max_detections] for video in videos])
    order = np.argsort(-scores, kind="stable")
    ranked = np.append(scores[order], 0.0)
    matched = np.hstack([video.matched[:, :max_detections] for video in videos])[:, order]
    ignored = np.hstack([video.ignored[:, :max_detections] for video in videos])[:, order]
    hits = np.cumsum(matched & ~ignored, axis=1, dtype=float)
    misses = np.cumsum(~matched & ~ignored, axis=1, dtype=float)
    recalls = hits / num_ground_truth
    # as in the reference code, np.spacing avoids 0/0 while all detections so far are ignored
    precisions = hits / (misses + hits + np.spacing(1))
    envelope = np.zeros(
        (len(thresholds), len(ranked))
    )  # the last, 0, is for recall points that are not reached
    envelope[:, :-1] = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
    reached = np.stack([np.searchsorted(recall, recall_points, side="left") for recall in recalls])
    return Curve(
        precision=np.take_along_axis(envelope, reached, axis=1),
        recall=recalls[:, -1] if len(order) else np.zeros(len(thresholds)),
        scores=ranked[reached],
    )


def mean_defined(values: np.ndarray) -> float:
    """Mean of the defined entries, ``UNDEFINED`` if there are none."""
    defined = values[values > UNDEFINED]
    return float(defined.mean()) if defined.size else UNDEFINED


def none_if_undefined(value: float) -> float | None:
    """``None`` for ``UNDEFINED``, as for per-class values in metrics dicts."""
    return None if value == UNDEFINED else value
