"""Greedy matching, average precision and recall, as COCO and YouTube-VIS define them.

Thresholds are the ten IoUs .5:.05:.95, recall is sampled at 101 points. In array shapes,
T stands for thresholds, D for detections and G for ground truths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = (1, 10, 100)
"""Detections that count, per video and class; the last is also the cap before matching."""
UNDEFINED = -1.0
"""Value of a metric for which there is no ground truth."""
METRICS = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
)
"""The twelve numbers, in the order in which COCO's tools print them."""


@dataclass(frozen=True)
class Matches:
    """How the detections of one class in one video fared in one area range.

    Attributes:
        scores: ``(D,)`` descending.
        matched: ``(T, D)`` bool, the detection took a ground truth.
        ignored: ``(T, D)`` bool, it counts neither as hit nor as false alarm.
        num_truths: ground truths that count, i.e. are not ignored.
    """

    scores: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    num_truths: int


def match_detections(
    ious: np.ndarray, truth_ignored: np.ndarray, truth_crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give each detection, best score first, the ground truth that it overlaps most.

    An ignored ground truth is taken only when no other fits; a crowd may be taken again and
    again. Of equal overlaps the later ground truth wins, as in the reference code.

    Args:
        ious: ``(D, G)``, detections by descending score.
        truth_ignored: ``(G,)`` bool.
        truth_crowd: ``(G,)`` bool.

    Returns:
        ``(matched, ignored)``: two ``(T, D)`` bool arrays; ``ignored`` marks detections whose
        match is an ignored ground truth.
    """
    num_detections, num_truths = ious.shape
    matched = np.zeros((len(IOU_THRESHOLDS), num_detections), dtype=bool)
    ignored = np.zeros_like(matched)
    if num_truths == 0:
        return matched, ignored
    free = np.ones((len(IOU_THRESHOLDS), num_truths), dtype=bool)
    for detection in np.flatnonzero((ious >= IOU_THRESHOLDS.min()).any(axis=1)):
        iou = ious[detection]
        fits = free & (iou >= IOU_THRESHOLDS[:, None])
        regular = fits & ~truth_ignored
        candidates = np.where(regular.any(axis=1, keepdims=True), regular, fits)
        overlap = np.where(candidates, iou, -1.0)
        best = num_truths - 1 - overlap[:, ::-1].argmax(axis=1)
        thresholds = np.flatnonzero(candidates.any(axis=1))
        taken = best[thresholds]
        matched[thresholds, detection] = True
        ignored[thresholds, detection] = truth_ignored[taken]
        free[thresholds, taken] = truth_crowd[taken]
    return matched, ignored


def precision_and_recall(
    videos: list[Matches], max_detections: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pool one class's detections over the videos.

    Args:
        videos: one entry per video in the order of the video ids, which decides between
            detections of equal score.
        max_detections: how many of each video's detections count.

    Returns:
        Precision ``(T, 101)`` at the recall points, made monotonous from the right, and the
        final recall ``(T,)``; both ``UNDEFINED`` without any ground truth that counts.
    """
    precision = np.full((len(IOU_THRESHOLDS), len(RECALL_POINTS)), UNDEFINED)
    recall = np.full(len(IOU_THRESHOLDS), UNDEFINED)
    num_truths = sum(video.num_truths for video in videos)
    if num_truths == 0:
        return precision, recall
    scores = np.concatenate([video.scores[:max_detections] for video in videos])
    order = np.argsort(-scores, kind="stable")
    matched = np.hstack([video.matched[:, :max_detections] for video in videos])[:, order]
    ignored = np.hstack([video.ignored[:, :max_detections] for video in videos])[:, order]
    hits = np.cumsum(matched & ~ignored, axis=1, dtype=float)
    misses = np.cumsum(~matched & ~ignored, axis=1, dtype=float)
    recalls = hits / num_truths
    # np.spacing keeps 0/0 away where every detection so far is ignored, as the reference does
    precisions = hits / (misses + hits + np.spacing(1))
    envelope = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
    for t in range(len(IOU_THRESHOLDS)):
        reached = np.searchsorted(recalls[t], RECALL_POINTS, side="left")
        precision[t] = np.append(envelope[t], 0.0)[reached]  # 0 where recall is never reached
        recall[t] = recalls[t, -1] if len(order) else 0.0
    return precision, recall


def mean_defined(values: np.ndarray) -> float:
    """Mean of the entries that are defined, ``UNDEFINED`` when none is."""
    defined = values[values > UNDEFINED]
    return float(defined.mean()) if defined.size else UNDEFINED


def none_if_undefined(value: float) -> float | None:
    """``None`` for ``UNDEFINED``: the form of per-class values in the metrics dict."""
    return None if value == UNDEFINED else value
