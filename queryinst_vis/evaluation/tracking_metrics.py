"""HOTA, IDF1, CLEAR MOT and identities per object: by class, by video, and as a whole."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.clear import ClearCounts, clear_counts, clear_metrics
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
from queryinst_vis.formats.video_set import VideoSet, VideoTracks
from queryinst_vis.utils.progress import show_progress

TRACKEVAL_COUNTS = ("IDSW", "Frag", "MT", "PT", "ML", "TP", "FN", "FP", "IDTP", "IDFN", "IDFP")
COUNTS = (*TRACKEVAL_COUNTS, *COVERAGE_COUNTS)
"""The metrics that are integers; the others are fractions, but for ``RATIOS``."""

ALL_CLASSES = "all classes"
"""Name of the only class of an evaluation that does not look at classes."""


@dataclass(frozen=True)
class TrackingCounts(Counts):
    """What the four families of metrics count in one class of one video, or in a sum of such."""

    hota: HotaCounts
    identity: IdentityCounts
    clear: ClearCounts
    coverage: CoverageCounts

    @property
    def empty(self) -> bool:
        """Whether there is nothing to find and nothing was found."""
        return self.clear.tp + self.clear.fn + self.clear.fp == 0


def evaluate_tracking(
    gt: str | Path | dict,
    results: str | Path | list,
    *,
    threshold: float = 0.0,
    class_agnostic: bool = False,
) -> dict[str, Any]:
    """Tracking metrics on masks, with the numbers of the package ``trackeval``.

    HOTA (Luiten et al., IJCV 2021), IDF1 (Ristani et al., 2016) and CLEAR MOT (Bernardin &
    Stiefelhagen, 2008), whose MOTA, sMOTA and MOTP are on masks the MOTSA, sMOTSA and MOTSP of
    MOTS (Voigtlaender et al., CVPR 2019). Unlike AP they do not rank: every track with
    ``threshold`` or more counts alike. ``compare_tracks`` says what is ignored, ``hota_curves``,
    ``identity_metrics``, ``clear_metrics`` and ``coverage_metrics`` what the names mean; the
    last are not trackeval's.

    Args:
        gt: YouTube-VIS annotations: a JSON path or its content.
        results: YouTube-VIS results: a JSON path, a zip with ``results.json`` or the list.
        threshold: tracks of a lower score are left out.
        class_agnostic: compare the tracks of all classes with each other, as if of one class.

    Returns:
        ``per_class``: ``{class name: metrics}``, None for a class that is neither in the ground
        truth nor in the results; ``per_video``: ``[{"video_id": id, "video": name,
        **metrics}]``, pooled over classes; ``videos``: ``VideoSet.summary``;
        ``class_averaged``: fractions averaged over the classes that are not None, counts added
        up; ``detection_averaged``: all classes pooled, so that frequent classes
        weigh more; ``curves``: ``{class name: {"alpha": [19 IoUs], "HOTA": [...], ...}}``.
        The metrics: HOTA DetA AssA DetRe DetPr AssRe AssPr LocA (averages over the 19 alphas),
        IDF1 IDR IDP MOTA sMOTA MOTP as fractions, identities_per_object and
        objects_per_identity (None where nothing matches), and those of ``COUNTS`` as whole
        numbers.

    Raises:
        InputError: a file cannot be used, the threshold is no number, or nothing is left to
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
    """Count every video of a set, by video id and category id, which is None if class-agnostic.

    Args:
        video_set, class_agnostic: as in ``evaluate_tracking``.
        threshold: tracks of a lower score are left out.

    Raises:
        InputError: a mask cannot be used, or the threshold is no number.
    """
    check_threshold(threshold)
    videos = {}
    for tracks in show_progress(video_set, "Comparing tracks"):
        kept = confident(tracks, threshold)
        both = [*kept.ground_truth, *kept.detections]
        present = [None] if class_agnostic else sorted({track.category_id for track in both})
        found = {category: count_tracks(kept, category) for category in present}
        videos[tracks.video.id] = {key: value for key, value in found.items() if not value.empty}
    return videos


def check_threshold(threshold: float) -> None:
    """Refuse a score threshold that is not finite.

    Raises:
        InputError: says so.
    """
    if not math.isfinite(threshold):
        raise InputError(f"threshold {threshold}: must be a finite number")


def confident(tracks: VideoTracks, threshold: float) -> VideoTracks:
    """The same video with the detections whose score is ``threshold`` or more."""
    detections = [track for track in tracks.detections if track.score >= threshold]
    return replace(tracks, detections=detections)


def count_tracks(
    tracks: VideoTracks, category_id: int | None, overlaps: Iterable[FrameOverlap] | None = None
) -> TrackingCounts:
    """Count one class of a video; the arguments are those of ``compare_tracks``."""
    similarity = compare_tracks(tracks, category_id, overlaps)
    return TrackingCounts(
        hota_counts(similarity),
        identity_counts(similarity),
        clear_counts(similarity),
        coverage_counts(similarity),
    )


def summarise(
    videos: dict[int, dict[Any, TrackingCounts]],
    categories: dict[Any, str],
    names: dict[int, str],
) -> dict[str, Any]:
    """Pool counts into the metrics that ``evaluate_tracking`` returns.

    Args:
        videos: by video id, then category id; categories of which a video shows nothing are
            left out.
        categories: class name by category id.
        names: of the videos by id.

    Raises:
        InputError: there is not a single mask.
    """
    classes = {
        name: _total([found[category] for found in videos.values() if category in found])
        for category, name in categories.items()
    }
    present = {name: counts for name, counts in classes.items() if counts is not None}
    if not present:
        raise InputError(
            "nothing to evaluate: the ground truth shows no object and no result is above the"
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
    """A count's sum over classes, or the mean over those in which the metric is defined."""
    defined = [value for value in values if value is not None]
    if name in COUNTS:
        return sum(defined)
    return float(np.mean(defined)) if defined else None


def _curves(counts: TrackingCounts) -> dict[str, list[float]]:
    curves = {name: curve.tolist() for name, curve in hota_curves(counts.hota).items()}
    return {"alpha": ALPHAS.tolist(), **curves}
