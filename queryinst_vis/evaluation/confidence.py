"""Confidence intervals: bootstrap over videos, and a paired comparison of two result files.

The unit is the video, since the detections and ground truth of a video are not independent. An
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
    describe,
    match_video,
    summarise,
)
from queryinst_vis.formats.video_set import VideoSet

LEVEL = 0.95
"""Share of the resamples whose value lies in an interval."""
SAMPLES = 1000
"""Resamples by default: percentiles of 95 % intervals then move by about a tenth of their width."""


def evaluate_with_confidence(
    gt: str | Path | dict,
    results: str | Path | list,
    samples: int = SAMPLES,
    seed: int = 0,
    workers: int = 1,
) -> dict[str, Any]:
    """``evaluate_youtube_vis`` with ``confidence``: what ``confidence_intervals`` returns.

    Args:
        gt, results, workers: as in ``evaluate_youtube_vis``.
        samples, seed: as in ``confidence_intervals``.

    Raises:
        InputError: a file cannot be used, or there are fewer than two videos.
    """
    video_set = VideoSet(gt, results)
    check_number(len(video_set))
    videos = map_videos(match_video, video_set, "Comparing tracks", workers)
    confidence = confidence_intervals(videos, video_set.categories, samples, seed)
    return {**describe(video_set, videos), "confidence": confidence}


def confidence_intervals(
    videos: Sequence[VideoMatches],
    categories: Mapping[int, str],
    samples: int = SAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Percentile intervals of the twelve metrics (Efron & Tibshirani, 1993, chapter 13).

    Args:
        videos: one ``match_video`` per video, in the order of the video ids.
        categories: class name by category id.
        samples: how often to draw as many videos as there are, with replacement.
        seed: of the draws; the same seed gives the same intervals.

    Returns:
        ``level``, ``samples``, ``seed`` and ``intervals``: ``[low, high]`` by name of the metric,
        None where there is no ground truth.

    Raises:
        InputError: there are fewer than two videos.
    """
    check_number(len(videos))
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
    """Which of two result files is better: the paired bootstrap over videos.

    Both are scored on the same resamples, so what makes a video easy or hard for both cancels,
    and the interval of the difference is narrower than those of the two values.

    Args:
        gt: YouTube-VIS annotations: a JSON path or its content.
        a, b: YouTube-VIS results on them, as in ``evaluate_youtube_vis``; so is ``workers``.
        samples, seed: as in ``confidence_intervals``.

    Returns:
        ``level``, ``samples``, ``seed``, ``videos`` as in ``evaluate_youtube_vis``, and
        ``metrics``: by name ``a`` and ``b``, the two values, ``difference`` (``b - a``), its
        ``interval`` ``[low, high]``, and ``b_wins`` and ``ties``, shares of the resamples; None
        for a metric without ground truth.

    Raises:
        InputError: a file cannot be used, or there are fewer than two videos.
    """
    sets = [VideoSet(gt, a), VideoSet(gt, b)]
    categories = sets[0].categories
    check_number(len(sets[0]))
    weights = draw_videos(len(sets[0]), samples, seed)
    points, found = [], []
    for video_set, which in zip(sets, "AB", strict=True):
        videos = map_videos(match_video, video_set, f"Comparing the tracks of {which}", workers)
        points.append(summarise(videos, categories))
        found.append(resampled_metrics(videos, categories, weights))
    metrics = {
        name: _compare(*(point[name] for point in points), *(values[name] for values in found))
        for name in METRICS
    }
    return {**settings(samples, seed), "videos": sets[0].summary, "metrics": metrics}


def _compare(
    point_a: float, point_b: float, found_a: np.ndarray, found_b: np.ndarray
) -> dict[str, Any] | None:
    """One metric's entry; the points from all videos, the others from the resamples."""
    if point_a == UNDEFINED:  # of both: it depends on the ground truth alone
        return None
    differences = found_b - found_a
    differences = differences[~np.isnan(differences)]
    return {
        "a": point_a,
        "b": point_b,
        "difference": point_b - point_a,
        "interval": interval(differences),
        "b_wins": float((differences > 0).mean()),
        "ties": float((differences == 0).mean()),
    }


def verdict(comparison: dict[str, Any], name: str = "AP") -> str:
    """A ``compare_results`` in one sentence, e.g. "B is better than A by 1.2 AP [0.3, 2.1]"."""
    found = comparison["metrics"][name]
    if found is None:
        return f"{name} is undefined: the ground truth has no object that counts for it"
    low, high = (100 * bound for bound in found["interval"])
    difference = 100 * found["difference"]
    if low > 0:
        return f"B is better than A by {difference:.1f} {name} [{low:.1f}, {high:.1f}]"
    if high < 0:
        return f"A is better than B by {-difference:.1f} {name} [{-high:.1f}, {-low:.1f}]"
    return f"no difference can be told: B - A is {difference:+.1f} {name} [{low:+.1f}, {high:+.1f}]"


def check_number(num_videos: int) -> None:
    """Raise an InputError for fewer videos than can be drawn anew."""
    if num_videos < 2:
        raise InputError(
            "confidence intervals draw videos anew, which needs at least two; the ground truth"
            f" has {num_videos}"
        )


def settings(samples: int, seed: int) -> dict[str, Any]:
    """What intervals rest on, as reports repeat it."""
    return {"level": LEVEL, "samples": samples, "seed": seed}


def interval(values: np.ndarray) -> list[float] | None:
    """The 95 % percentile interval of the values that are numbers; None if none is."""
    values = values[~np.isnan(values)]
    if not values.size:
        return None
    tail = (1 - LEVEL) / 2
    return [float(bound) for bound in np.quantile(values, (tail, 1 - tail))]
