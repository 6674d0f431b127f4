"""HOTA, IDF1, CLEAR MOT and identities per object: per class, per video, and in total."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.clear import ClearCounts, clear_counts, clear_metrics, match_frames
from queryinst_vis.evaluation.coverage import (
    COVERAGE_COUNTS,
    CoverageCounts,
    coverage_counts,
    coverage_metrics,
)
from queryinst_vis.evaluation.hota import (
    ALPHAS,
    HotaCounts,
    hota_counts,
    hota_curves,
    hota_metrics,
)
from queryinst_vis.evaluation.identity import IdentityCounts, identity_counts, identity_metrics
from queryinst_vis.evaluation.overlaps import FrameOverlap
from queryinst_vis.evaluation.similarity import Counts, compare_tracks
from queryinst_vis.evaluation.workers import map_videos
from queryinst_vis.formats.video_set import VideoSet, VideoTracks

TRACKEVAL_COUNTS = ("IDSW", "Frag", "MT", "PT", "ML", "TP", "FN", "FP", "IDTP", "IDFN", "IDFP")
COUNTS = (*TRACKEVAL_COUNTS, *COVERAGE_COUNTS)
"""The metrics that are integers; the others are fractions, except ``RATIOS``."""

ALL_CLASSES = "all classes"
"""Name of the single class in class-agnostic evaluation."""


@dataclass(frozen=True)
class TrackingCounts(Counts):
    """The counts of all metric families for one class in one video, or sums of them."""

    hota: HotaCounts
    identity: IdentityCounts
    clear: ClearCounts
    coverage: CoverageCounts

    @property
    def empty(self) -> bool:
        """Whether there are neither objects nor detections."""
        return self.clear.tp + self.clear.fn + self.clear.fp == 0


def evaluate_tracking(
    gt: str | Path | dict,
    results: str | Path | list,
    *,
    threshold: float = 0.0,
    class_agnostic: bool = False,
) -> dict[str, Any]:
    """Tracking metrics on masks, identical to those of the package ``trackeval``.

    HOTA (Luiten et al., IJCV 2021), IDF1 (Ristani et al., 2016) and CLEAR MOT (Bernardin &
    Stiefelhagen, 2008), whose MOTA, sMOTA and MOTP on masks are the MOTSA, sMOTSA and MOTSP of
    MOTS (Voigtlaender et al., CVPR 2019). Unlike AP they do not rank detections: every track with
    a score of at least ``threshold`` counts the same. ``compare_tracks`` defines what is ignored;
    ``hota_curves``, ``identity_metrics``, ``clear_metrics`` and ``coverage_metrics`` define the
    metrics, of which the last are not in trackeval.

    Args:
        gt: YouTube-VIS annotations: a JSON path or its content.
        results: YouTube-VIS results: a JSON path, a zip with ``results.json`` or the list.
        threshold: minimum score of the tracks.
        class_agnostic: compare the tracks of all classes as if they were one class.

    Returns:
        ``per_class``: ``{class name: metrics}``, None for a class without ground truth
        and results; ``per_video``: ``[{"video_id": id, "video": name,
        **metrics}]``, pooled over classes; ``videos``: ``VideoSet.summary``;
        ``class_averaged``: fractions averaged over the classes that are not None, counts summed;
        ``detection_averaged``: all classes pooled, so that frequent classes weigh more;
        ``curves``: ``{class name: {"alpha": [19 IoUs], "HOTA": [...], ...}}``.
        The metrics: HOTA DetA AssA DetRe DetPr AssRe AssPr LocA (averages over the 19 alphas),
        IDF1 IDR IDP MOTA sMOTA MOTP as fractions, identities_per_object and
        objects_per_identity (None if nothing matches), and those of ``COUNTS`` as integers.

    Raises:
        InputError: a file is invalid, the threshold is not finite, or there is nothing to
            evaluate.

    Example::

        scores = queryinst_vis.evaluate_tracking("ground_truth.json", "results.json", threshold=0.3)
        print(scores["detection_averaged"]["HOTA"], scores["detection_averaged"]["IDF1"])
    """
    video_set = VideoSet(gt, results)
    categories = {None: ALL_CLASSES} if class_agnostic else video_set.categories
    videos = count_videos(video_set, threshold, class_agnostic=class_agnostic)
    return {"videos": video_set.summary, **summarise(videos, categories, video_set.names)}


def count_videos(
    video_set: VideoSet, threshold: float, *, class_agnostic: bool = False
) -> dict[int, dict[Any, TrackingCounts]]:
    """The counts of each video by video id and category id (None if class-agnostic).

    Args:
        video_set, class_agnostic: as in ``evaluate_tracking``.
        threshold: minimum score of the tracks.

    Raises:
        InputError: a mask is invalid, or the threshold is not finite.
    """
    check_threshold(threshold)
    count = partial(_count_video, threshold=threshold, class_agnostic=class_agnostic)
    counts = map_videos(count, video_set, "Comparing tracks")
    return {video.id: found for video, found in zip(video_set.videos, counts, strict=True)}


def _count_video(
    tracks: VideoTracks, threshold: float, class_agnostic: bool
) -> dict[Any, TrackingCounts]:
    tracks = confident(tracks, threshold)
    both = [*tracks.ground_truth, *tracks.detections]
    present = [None] if class_agnostic else sorted({track.category_id for track in both})
    by_class = {category: count_tracks(tracks, category) for category in present}
    return {category: counts for category, counts in by_class.items() if not counts.empty}


def check_threshold(threshold: float) -> None:
    """Raise an InputError if the score threshold is not finite."""
    if not math.isfinite(threshold):
        raise InputError(f"threshold {threshold}: must be a finite number")


def confident(tracks: VideoTracks, threshold: float) -> VideoTracks:
    """The video with only the detections with a score of at least ``threshold``."""
    detections = [track for track in tracks.detections if track.score >= threshold]
    return replace(tracks, detections=detections)


def count_tracks(
    tracks: VideoTracks, category_id: int | None, overlaps: Iterable[FrameOverlap] | None = None
) -> TrackingCounts:
    """The counts of one class in one video; arguments as in ``compare_tracks``."""
    similarity = compare_tracks(tracks, category_id, overlaps)
    matches = match_frames(similarity)
    return TrackingCounts(
        hota_counts(similarity),
        identity_counts(similarity),
        clear_counts(similarity, matches),
        coverage_counts(similarity, matches),
    )


def summarise(
    videos: dict[int, dict[Any, TrackingCounts]],
    categories: dict[Any, str],
    names: dict[int, str],
) -> dict[str, Any]:
    """Pool counts into the result of ``evaluate_tracking``.

    Args:
        videos: counts by video id and category id, without categories that a video lacks.
        categories: class name by category id.
        names: video names by id.

    Raises:
        InputError: there are no masks at all.
    """
    classes = {
        name: _total([found[category] for found in videos.values() if category in found])
        for category, name in categories.items()
    }
    present = {name: counts for name, counts in classes.items() if counts is not None}
    if not present:
        raise InputError(
            "nothing to evaluate: the ground truth has no visible object, and no result reaches the"
            " threshold"
        )
    totals = {video: _total(found.values()) for video, found in videos.items()}
    return {
        "class_averaged": _average([_metrics(counts) for counts in present.values()]),
        "detection_averaged": _metrics(reduce(add, present.values())),
        "per_class": {
            name: None if counts is None else _metrics(counts) for name, counts in classes.items()
        },
        "per_video": [
            {"video_id": video, "video": names[video], **_metrics(counts)}
            for video, counts in totals.items()
            if counts is not None
        ],
        "curves": {name: _curves(counts) for name, counts in present.items()},
    }


def _total(counts: Collection[TrackingCounts]) -> TrackingCounts | None:
    return reduce(add, counts) if counts else None


def _metrics(counts: TrackingCounts) -> dict[str, float | None]:
    return {
        **hota_metrics(counts.hota),
        **identity_metrics(counts.identity),
        **clear_metrics(counts.clear),
        **coverage_metrics(counts.coverage),
    }


def _average(classes: list[dict[str, float | None]]) -> dict[str, float | None]:
    return {name: _pool(name, [metrics[name] for metrics in classes]) for name in classes[0]}


def _pool(name: str, values: list[float | None]) -> float | None:
    """The sum of a count over classes, or the mean of a metric over those that define it."""
    defined = [value for value in values if value is not None]
    if name in COUNTS:
        return sum(defined)
    return float(np.mean(defined)) if defined else None


def _curves(counts: TrackingCounts) -> dict[str, list[float]]:
    curves = {name: curve.tolist() for name, curve in hota_curves(counts.hota).items()}
    return {"alpha": ALPHAS.tolist(), **curves}
