"""Confidence intervals: bootstrap over videos, and paired comparison of two result files.

The unit is the video, since detections within a video are not independent. An
interval shows how much a metric could have differed with other videos of the same kind.
It does not cover the variance between training runs with different seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.average_precision import METRICS, UNDEFINED
from queryinst_vis.evaluation.resampling import draw_videos, resampled_metrics
from queryinst_vis.evaluation.workers import map_videos
from queryinst_vis.evaluation.youtube_vis import (
    VideoMatches,
    build_result,
    match_video,
    summarise,
)
from queryinst_vis.formats.video_set import VideoSet

LEVEL = 0.95
"""Fraction of the resamples inside an interval."""
SAMPLES = 1000
"""Default number of resamples; the bounds then vary by about a tenth of the interval's width."""


def evaluate_with_confidence(
    gt: str | Path | dict,
    results: str | Path | list,
    samples: int = SAMPLES,
    seed: int = 0,
    workers: int = 1,
) -> dict[str, Any]:
    """``evaluate_youtube_vis``, plus ``confidence``: the result of ``confidence_intervals``.

    Args:
        gt, results, workers: as in ``evaluate_youtube_vis``.
        samples, seed: as in ``confidence_intervals``.

    Raises:
        InputError: a file is invalid, or there are fewer than two videos.
    """
    video_set = VideoSet(gt, results)
    check_num_videos(len(video_set))
    videos = map_videos(match_video, video_set, "Comparing tracks", workers)
    confidence = confidence_intervals(videos, video_set.categories, samples, seed)
    return {**build_result(video_set, videos), "confidence": confidence}


def confidence_intervals(
    videos: Sequence[VideoMatches],
    categories: Mapping[int, str],
    samples: int = SAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Percentile bootstrap intervals of the twelve metrics (Efron & Tibshirani, 1993, ch. 13).

    Args:
        videos: the result of ``match_video`` for each video, in the order of the video ids.
        categories: class name by category id.
        samples: number of resamples, each of as many videos as there are, with replacement.
        seed: random seed of the resamples.

    Returns:
        ``level``, ``samples``, ``seed`` and ``intervals``: ``[low, high]`` by metric name,
        None without ground truth.

    Raises:
        InputError: there are fewer than two videos.
    """
    check_num_videos(len(videos))
    weights = draw_videos(len(videos), samples, seed)
    found = resampled_metrics(videos, categories, weights)
    intervals = {name: interval(values) for name, values in found.items()}
    return {**settings(samples, seed), "intervals": intervals}


def compare_results(
    gt: str | Path | dict,
    a: str | Path | list,
    b: str | Path | list,
    samples: int = SAMPLES,
    seed: int = 0,
    workers: int = 1,
) -> dict[str, Any]:
    """Compare two result files by a paired bootstrap over videos.

    Both are evaluated on the same resamples, so the difficulty of the videos cancels out, and the
    interval of the difference is narrower than those of the two values.

    Args:
        gt: YouTube-VIS annotations: a JSON path or its content.
        a, b: YouTube-VIS results for them, as in ``evaluate_youtube_vis``.
        samples, seed: as in ``confidence_intervals``.
        workers: as in ``evaluate_youtube_vis``.

    Returns:
        ``level``, ``samples``, ``seed``, ``videos`` as in ``evaluate_youtube_vis``, and
        ``metrics``, by name: the values ``a`` and ``b``, ``difference`` (``b - a``), its
        ``interval`` ``[low, high]``, and ``b_wins`` and ``ties`` as fractions of the resamples;
        None for a metric without ground truth.

    Raises:
        InputError: a file is invalid, or there are fewer than two videos.
    """
    sets = [VideoSet(gt, a), VideoSet(gt, b)]
    categories = sets[0].categories
    check_num_videos(len(sets[0]))
    weights = draw_videos(len(sets[0]), samples, seed)
    values, resampled = [], []
    for video_set, which in zip(sets, "AB", strict=True):
        videos = map_videos(match_video, video_set, f"Comparing the tracks of {which}", workers)
        values.append(summarise(videos, categories))
        resampled.append(resampled_metrics(videos, categories, weights))
    metrics = {
        name: _compare(*(each[name] for each in values), *(each[name] for each in resampled))
        for name in METRICS
    }
    return {**settings(samples, seed), "videos": sets[0].summary, "metrics": metrics}


def _compare(
    value_a: float, value_b: float, resampled_a: np.ndarray, resampled_b: np.ndarray
) -> dict[str, Any] | None:
    """The entry of one metric, from its values on all videos and on the resamples."""
    if value_a == UNDEFINED:  # then so is B: this depends on the ground truth alone
        return None
    differences = resampled_b - resampled_a
    differences = differences[~np.isnan(differences)]
    return {
        "a": value_a,
        "b": value_b,
        "difference": value_b - value_a,
        "interval": interval(differences),
        "b_wins": float((differences > 0).mean()),
        "ties": float((differences == 0).mean()),
    }


def verdict(comparison: dict[str, Any], name: str = "AP") -> str:
    """One sentence on ``compare_results``, e.g. "B is better than A by 1.2 AP [0.3, 2.1]"."""
    found = comparison["metrics"][name]
    if found is None:
        return f"{name} is undefined: the ground truth has no object in its range"
    low, high = (100 * bound for bound in found["interval"])
    difference = 100 * found["difference"]
    if low > 0:
        return f"B is better than A by {difference:.1f} {name} [{low:.1f}, {high:.1f}]"
    if high < 0:
        return f"A is better than B by {-difference:.1f} {name} [{-high:.1f}, {-low:.1f}]"
    return f"no significant difference: B - A is {difference:+.1f} {name} [{low:+.1f}, {high:+.1f}]"


def check_num_videos(num_videos: int) -> None:
    """Raise an InputError if there are fewer than two videos to resample."""
    if num_videos < 2:
        raise InputError(
            "confidence intervals are computed by resampling videos, which requires at least two;"
            f" the ground truth has {num_videos}"
        )


def settings(samples: int, seed: int) -> dict[str, Any]:
    """The settings of the bootstrap, as reported with the intervals."""
    return {"level": LEVEL, "samples": samples, "seed": seed}


def interval(values: np.ndarray) -> list[float] | None:
    """The 95 % percentile interval, ignoring NaN; None if all values are NaN."""
    values = values[~np.isnan(values)]
    if not values.size:
        return None
    tail = (1 - LEVEL) / 2
    return [float(bound) for bound in np.quantile(values, (tail, 1 - tail))]
