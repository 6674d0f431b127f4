"""YouTube-VIS average precision, with the spatio-temporal IoU of tracks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from queryinst_vis.evaluation.average_precision import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    METRICS,
    REPORTED,
    Matches,
    match_detections,
    mean_defined,
    none_if_undefined,
    pool_detections,
)
from queryinst_vis.evaluation.overlaps import track_ious
from queryinst_vis.evaluation.workers import map_videos
from queryinst_vis.formats.names import named_categories
from queryinst_vis.formats.video_set import MaskTrack, VideoSet, VideoTracks

AREA_RANGES = {
    "all": (0.0, 1e10),
    "small": (0.0, 128.0**2),
    "medium": (128.0**2, 256.0**2),
    "large": (256.0**2, 1e10),
}
"""Bounds, both inclusive, of the mean mask area in pixels over the frames with the object."""

VideoMatches = dict[tuple[int, str], Matches]
"""Matches of a video by category id and area range; categories without tracks are missing."""


@dataclass(frozen=True)
class Criteria:
    """Settings of the matching.

    Attributes:
        thresholds: ``(T,)`` IoU thresholds.
        max_detections: maximum number of detections per video and class.
        area_ranges: bounds of the mean mask area by name; see ``AREA_RANGES``.
    """

    thresholds: np.ndarray = field(default_factory=IOU_THRESHOLDS.copy)
    max_detections: int = MAX_DETECTIONS[-1]
    area_ranges: Mapping[str, tuple[float, float]] = field(default_factory=AREA_RANGES.copy)


def evaluate_youtube_vis(
    gt: str | Path | dict,
    results: str | Path | list,
    workers: int = 1,
    classes: Collection[str] | None = None,
) -> dict[str, Any]:
    """Average precision and recall of video instance segmentation (paper table 3).

    The metric of YouTube-VIS (Yang et al., *Video Instance Segmentation*, ICCV 2019), its
    successors and OVIS, identical to their reference code: the IoU of two tracks is the sum of
    their per-frame intersections over the sum of their per-frame unions. Files are read one video
    at a time, so that peak memory depends on the largest video.

    One bug of the reference code is not reproduced: it never matches an annotation whose id is 0.

    Args:
        gt: YouTube-VIS annotations: a JSON path or its content. Masks may be RLE,
            compressed or not, or polygons; null where the object is absent. If an
            annotation has ``areas``, they determine its area range.
        results: list of ``{video_id, category_id, score, segmentations}``: a JSON path, the
            path of a zip with ``results.json`` at its root, or the list itself. Ids are those
            of ``gt``; at most the 100 best per video and class count.
        workers: number of processes. Each takes seconds to start and, as always with
            multiprocessing, requires an importable main script.
        classes: names of the classes to evaluate, such as those of the model; None: all in ``gt``.

    Returns:
        ``AP`` (mean over IoU .5:.95), ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl`` (by area),
        ``AR1``, ``AR10``, ``AR100`` (detections per video and class), ``ARs``, ``ARm``,
        ``ARl`` as fractions 0..1, -1 without ground truth; ``per_class_AP``:
        ``{class name: AP}`` and ``per_video_AP``: ``{video name: AP of this video alone}``,
        None without ground truth; ``videos``: ``VideoSet.summary``.

    Raises:
        InputError: a file is invalid; the message names the entry.

    Example::

        scores = queryinst_vis.evaluate_youtube_vis("ground_truth.json", "results.json")
        print(f"AP {scores['AP']:.3f}", scores["per_class_AP"])
    """
    video_set = VideoSet(gt, results)
    videos = map_videos(match_video, video_set, "Comparing tracks", workers)
    return build_result(video_set, videos, classes)


def build_result(
    video_set: VideoSet, videos: Sequence[VideoMatches], classes: Collection[str] | None = None
) -> dict[str, Any]:
    """The result of ``evaluate_youtube_vis``, from the matches of all videos."""
    categories = named_categories(video_set.categories, classes)
    return {
        **summarise(videos, categories),
        "per_video_AP": {
            video_set.names[video.id]: _average_precision(matches, categories)
            for video, matches in zip(video_set.videos, videos, strict=True)
        },
        "videos": video_set.summary,
    }


def match_video(tracks: VideoTracks) -> VideoMatches:
    """Match the detections of one video to its ground truth, per class."""
    criteria = Criteria()
    matches: VideoMatches = {}
    for category, class_tracks in tracks.by_class().items():
        ranked = best_detections(class_tracks, criteria.max_detections)
        ious = track_ious(ranked.detections, ranked.ground_truth, min_iou=criteria.thresholds.min())
        for area_range, found in match_tracks(ranked, ious, criteria).items():
            matches[category, area_range] = found
    return matches


def best_detections(tracks: VideoTracks, limit: int) -> VideoTracks:
    """The tracks with only the ``limit`` best detections, best first; ties by position."""
    ranked = sorted(tracks.detections, key=lambda track: -track.score)
    return VideoTracks(tracks.video, tracks.ground_truth, ranked[:limit])


def match_tracks(tracks: VideoTracks, ious: np.ndarray, criteria: Criteria) -> dict[str, Matches]:
    """Match detections (best first) to ground truth by ``(D, G)`` IoUs, for each area range."""
    scores = np.array([track.score for track in tracks.detections], dtype=float)
    crowd = np.array([track.crowd for track in tracks.ground_truth], dtype=bool)
    bounds = np.array([*criteria.area_ranges.values()])
    outside, ground_truth_outside = (
        _outside(side, bounds) for side in (tracks.detections, tracks.ground_truth)
    )
    ground_truth_ignored = crowd | ground_truth_outside
    matched, ignored = match_detections(ious, ground_truth_ignored, crowd, criteria.thresholds)
    ignored |= ~matched & outside[:, None, :]
    num_ground_truth = (~ground_truth_ignored).sum(axis=1).tolist()
    return {
        name: Matches(scores, matched[a], ignored[a], num_ground_truth[a])
        for a, name in enumerate(criteria.area_ranges)
    }


def _outside(tracks: list[MaskTrack], bounds: np.ndarray) -> np.ndarray:
    """``(ranges, tracks)`` bool: whether the area is outside the ``(ranges, 2)`` bounds."""
    areas = np.array([track.area for track in tracks])
    return (areas < bounds[:, :1]) | (areas > bounds[:, 1:])


def summarise(videos: Sequence[VideoMatches], categories: dict[int, str]) -> dict[str, Any]:
    """Pool the matches of all videos into the metrics of ``evaluate_youtube_vis``.

    Args:
        videos: the matches of each video, in the order of the video ids.
        categories: class name by category id.
    """
    curves: dict[tuple[str, int, str], np.ndarray] = {}  # (thresholds, points, classes)
    for area_range, limit in REPORTED:
        keys = [(category, area_range) for category in categories]
        class_curves = [
            pool_detections([video[key] for video in videos if key in video], MAX_DETECTIONS[limit])
            for key in keys
        ]
        for name in ("precision", "recall"):
            values = [getattr(curve, name) for curve in class_curves]
            curves[area_range, limit, name] = np.stack(values, axis=-1)
    metrics: dict[str, Any] = {}
    for name, metric in METRICS.items():
        selected = curves[metric.area_range, metric.limit, metric.curve]
        if metric.threshold is not None:
            selected = selected[metric.threshold == IOU_THRESHOLDS]
        metrics[name] = mean_defined(selected)
    precision = curves["all", 2, "precision"]
    metrics["per_class_AP"] = {
        name: none_if_undefined(mean_defined(precision[..., k]))
        for k, name in enumerate(categories.values())
    }
    return metrics


def _average_precision(video: VideoMatches, categories: dict[int, str]) -> float | None:
    """``AP`` of one video alone, as in ``summarise``."""
    found = [video[category, "all"] for category in categories if (category, "all") in video]
    curves = [
        pool_detections([matches], MAX_DETECTIONS[-1]).precision
        for matches in found
        if matches.num_ground_truth
    ]
    return none_if_undefined(mean_defined(np.stack(curves, axis=-1))) if curves else None
