"""Average precision of many resamples of the videos, from a single ranking per class.

A resample draws videos with replacement, so it is an integer weight per video: how often it was
drawn. The weight multiplies the video's true positives, false positives and ground-truth tracks;
the ranking of the pooled detections does not change and is computed once. In array shapes, S stands
for resamples, V for videos, D for pooled detections, H for true positives and T for IoU thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from queryinst_vis.evaluation.average_precision import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    METRICS,
    RECALL_POINTS,
    REPORTED,
    UNDEFINED,
    Matches,
)
from queryinst_vis.evaluation.youtube_vis import VideoMatches
from queryinst_vis.utils.progress import show_progress

CHUNK = 1_000_000
"""Maximum number of detection weights (resamples times detections) in memory."""


def draw_videos(num_videos: int, samples: int, seed: int) -> np.ndarray:
    """``(S, V)`` number of times that each video is drawn when V are drawn with replacement."""
    shares = np.full(num_videos, 1 / num_videos)
    return np.random.default_rng(seed).multinomial(num_videos, shares, size=samples)


def resampled_metrics(
    videos: Sequence[VideoMatches], categories: Mapping[int, str], weights: np.ndarray
) -> dict[str, np.ndarray]:
    """The twelve metrics of every resample, as ``summarise`` defines them.

    The metrics are those of a data set that contains each video as often as it was drawn. Classes
    without ground truth in a resample are excluded from its means.

    Args:
        videos: the matches of each video, in the order of the video ids.
        categories: class name by category id.
        weights: ``(S, V)`` number of times that each video was drawn.

    Returns:
        ``(S,)`` fractions by metric name, NaN for resamples without ground truth.
    """
    found: dict[tuple[str, int], list[np.ndarray]] = {group: [] for group in REPORTED}
    for category in show_progress(list(categories), "Resampling videos, per class"):
        for area_range, limit in REPORTED:
            matches = {
                index: video[category, area_range]
                for index, video in enumerate(videos)
                if (category, area_range) in video
            }
            precision, recall = weighted_precision_and_recall(
                list(matches.values()), MAX_DETECTIONS[limit], weights[:, list(matches)]
            )
            found[area_range, limit].append(np.stack([precision.mean(axis=2), recall]))
    means = {group: mean_of_defined(np.stack(classes)) for group, classes in found.items()}
    values = {}
    for name, metric in METRICS.items():
        precision, recall = means[metric.area_range, metric.limit]  # (S, T) each
        selected = precision if metric.curve == "precision" else recall
        if metric.threshold is not None:
            selected = selected[:, metric.threshold == IOU_THRESHOLDS]
        values[name] = selected.mean(axis=1)
    return values


def weighted_precision_and_recall(
    videos: Sequence[Matches], max_detections: int, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``pool_detections`` of one class, with every video counted ``weights`` times.

    With weights of 1 the result is bitwise identical.

    Args:
        videos: one entry per video in the order of the video ids.
        max_detections: maximum number of detections per video.
        weights: ``(S, V)`` non-negative integers.

    Returns:
        Precision ``(S, T, 101)`` at the recall points and final recall ``(S, T)``;
        ``UNDEFINED`` for resamples without ground truth.
    """
    shape = (len(weights), len(IOU_THRESHOLDS))
    precision = np.full((*shape, len(RECALL_POINTS)), UNDEFINED)
    recall = np.full(shape, UNDEFINED)
    num_ground_truth = weights @ np.array(
        [video.num_ground_truth for video in videos], dtype=np.int64
    )
    if not num_ground_truth.any():
        return precision, recall
    scores = [video.scores[:max_detections] for video in videos]
    order = np.argsort(-np.concatenate(scores), kind="stable")
    video_of = np.repeat(np.arange(len(videos)), [len(part) for part in scores])[order]
    matched = np.hstack([video.matched[:, :max_detections] for video in videos])[:, order]
    counted = ~np.hstack([video.ignored[:, :max_detections] for video in videos])[:, order]
    defined = np.flatnonzero(num_ground_truth)
    step = max(1, CHUNK // max(1, len(order)))
    for rows in (defined[start : start + step] for start in range(0, len(defined), step)):
        weight = weights[rows][:, video_of]
        needed = _hits_needed(num_ground_truth[rows])
        for t in range(len(IOU_THRESHOLDS)):
            if t == 0 or (counted[t] != counted[t - 1]).any():
                ranks = np.cumsum(weight * counted[t], axis=1)
            hit = np.flatnonzero(matched[t] & counted[t])
            hits = np.cumsum(weight[:, hit], axis=1)
            precision[rows, t] = _at_recall_points(hits, ranks[:, hit], needed)
            recall[rows, t] = hits[:, -1] / num_ground_truth[rows] if hit.size else 0.0
    return precision, recall


def _at_recall_points(hits: np.ndarray, ranks: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """Interpolated precision of S resamples: ``(S, 101)``.

    Only true positives ("hits") matter: precision has its maxima there, and only they raise recall.

    Args:
        hits: ``(S, H)`` cumulative hits at each hit.
        ranks: ``(S, H)`` cumulative detections that count, at each hit.
        needed: ``(S, 101)`` of ``_hits_needed``; the last is the number of ground-truth tracks.
    """
    samples, num_hits = hits.shape
    precisions = np.zeros((samples, num_hits + 1))  # the last: 0, for recall that is not reached
    precisions[:, :-1] = hits / (ranks + np.spacing(1))
    envelope = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
    # all rows are searched together, as one ascending list of integers
    offsets = np.arange(samples)[:, None] * (needed.max() + 1)
    reached = np.searchsorted((hits + offsets).ravel(), needed + offsets)
    reached -= np.arange(samples)[:, None] * num_hits
    return np.take_along_axis(envelope, reached, axis=1)


def _hits_needed(num_ground_truth: np.ndarray) -> np.ndarray:
    """``(S, 101)`` minimum number of hits for each recall point, from ``(S,)`` track counts."""
    totals, which = np.unique(num_ground_truth, return_inverse=True)
    needed = [np.searchsorted(np.arange(total + 1) / total, RECALL_POINTS) for total in totals]
    return np.stack(needed)[which]


def mean_of_defined(classes: np.ndarray) -> np.ndarray:
    """Mean over the first axis, ignoring ``UNDEFINED``; NaN if all values are undefined."""
    defined = classes > UNDEFINED
    total = np.where(defined, classes, 0.0).sum(axis=0)
    count = defined.sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
