"""Bootstrap confidence intervals of HOTA and IDF1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from queryinst_vis.evaluation.average_precision import UNDEFINED
from queryinst_vis.evaluation.confidence import SAMPLES, check_num_videos, interval, settings
from queryinst_vis.evaluation.hota import hota_curves
from queryinst_vis.evaluation.identity import identity_metrics
from queryinst_vis.evaluation.resampling import draw_videos, mean_of_defined
from queryinst_vis.evaluation.similarity import AnyCounts, Counts
from queryinst_vis.evaluation.tracking_metrics import (
    ALL_CLASSES,
    TrackingCounts,
    count_videos,
    summarise,
)
from queryinst_vis.formats.video_set import VideoSet

RESAMPLED = ("HOTA", "DetA", "AssA", "IDF1")
"""The metrics with an interval."""


def evaluate_tracking_with_confidence(
    gt: str | Path | dict,
    results: str | Path | list,
    samples: int = SAMPLES,
    seed: int = 0,
    *,
    threshold: float = 0.0,
    class_agnostic: bool = False,
) -> dict[str, Any]:
    """``evaluate_tracking``, plus ``confidence``: the result of ``tracking_intervals``.

    Args:
        gt, results, threshold, class_agnostic: as in ``evaluate_tracking``.
        samples, seed: as in ``confidence_intervals``; the same seed gives the same resamples.

    Raises:
        InputError: a file is invalid, or there are fewer than two videos.
    """
    video_set = VideoSet(gt, results)
    check_num_videos(len(video_set))
    categories = {None: ALL_CLASSES} if class_agnostic else video_set.categories
    counts = count_videos(video_set, threshold, class_agnostic=class_agnostic)
    summary = summarise(counts, categories, video_set.names)
    videos = [counts[video.id] for video in video_set.videos]
    confidence = tracking_intervals(videos, samples, seed)
    return {"videos": video_set.summary, **summary, "confidence": confidence}


def tracking_intervals(
    videos: Sequence[Mapping[Any, TrackingCounts]], samples: int = SAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Percentile intervals of ``class_averaged`` of ``evaluate_tracking``.

    As there, classes without ground truth and detections in a resample are excluded from its mean.

    Args:
        videos: the counts of each video by category id, in the order of the video ids.
        samples: number of resamples, each of as many videos as there are, with replacement.
        seed: random seed of the resamples.

    Returns:
        ``level``, ``samples``, ``seed`` and ``intervals``: ``[low, high]`` for each of
        ``RESAMPLED``, None if undefined.

    Raises:
        InputError: there are fewer than two videos.
    """
    check_num_videos(len(videos))
    weights = draw_videos(len(videos), samples, seed)
    by_class = []
    for category in {category: None for video in videos for category in video}:
        rows = [index for index, video in enumerate(videos) if category in video]
        counts = weighted_sums([videos[row][category] for row in rows], weights[:, rows])
        drawn = weights[:, rows].any(axis=1)
        by_class.append(np.where(drawn, _resampled(counts), UNDEFINED))
    means = mean_of_defined(np.array(by_class)) if by_class else np.zeros((len(RESAMPLED), 0))
    intervals = dict(zip(RESAMPLED, map(interval, means), strict=True))
    return {**settings(samples, seed), "intervals": intervals}


def weighted_sums(counts: Sequence[AnyCounts], weights: np.ndarray) -> AnyCounts:
    """Weighted sums of counts.

    Args:
        counts: V counts of one type.
        weights: ``(S, V)`` integers.

    Returns:
        Counts of that type, whose entries have a first axis of length S.
    """
    kind = type(counts[0])
    values = []
    for field in fields(kind):
        entries = [getattr(each, field.name) for each in counts]
        nested = isinstance(entries[0], Counts)
        values.append(
            weighted_sums(entries, weights)
            if nested
            else np.tensordot(weights, np.array(entries), axes=1)
        )
    return kind(*values)


def _resampled(counts: TrackingCounts) -> np.ndarray:
    """``(4, S)`` values of ``RESAMPLED``."""
    curves = {name: curve.mean(axis=-1) for name, curve in hota_curves(counts.hota).items()}
    metrics = {**curves, **identity_metrics(counts.identity)}
    return np.stack([metrics[name] for name in RESAMPLED])
