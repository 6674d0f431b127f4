"""YouTube-VIS average precision: tracks are compared by their overlap in space and time."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.average_precision import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    Matches,
    match_detections,
    mean_defined,
    none_if_undefined,
    precision_and_recall,
)
from queryinst_vis.evaluation.inputs import PlacedEntries, load_ground_truth, load_results
from queryinst_vis.evaluation.mask_tracks import (
    MaskTrack,
    Video,
    parse_detection,
    parse_truth,
    parse_video,
    track_ious,
)
from queryinst_vis.evaluation.progress import show_progress

AREA_RANGES = {
    "all": (0.0, 1e10),
    "small": (0.0, 128.0**2),
    "medium": (128.0**2, 256.0**2),
    "large": (256.0**2, 1e10),
}
"""Bounds, both inclusive, on the mean mask area in pixels over the frames that show a track."""


def evaluate_youtube_vis(gt: str | Path | dict, results: str | Path | list) -> dict[str, Any]:
    """Average precision and recall of video instance segmentation (paper table 3).

    The metric of YouTube-VIS (Yang et al., *Video Instance Segmentation*, ICCV 2019) and of
    its successors and OVIS, with the numbers of their reference code: the IoU of two tracks
    is the sum of their intersections over the sum of their unions, frame by frame. Memory
    follows the video with the most masks, beside the two files themselves.

    One fault of the reference code is not reproduced: it never matches an annotation whose
    id is 0.

    Args:
        gt: YouTube-VIS annotations: a JSON path or its content. Masks may be run lengths,
            plain or compressed, or polygons; null where the object is absent. Where an
            annotation has ``areas``, they decide on its area range.
        results: list of ``{video_id, category_id, score, segmentations}``: a JSON path, the
            path of a zip with ``results.json`` at its root, or the list itself. Ids are those
            of ``gt``; at most the 100 best per video and class count.

    Returns:
        ``AP`` (mean over IoU .5:.95), ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl`` (by area),
        ``AR1``, ``AR10``, ``AR100`` (detections per video and class), ``ARs``, ``ARm``,
        ``ARl`` as fractions 0..1, -1 where there is no ground truth; ``per_class_AP``:
        ``{class name: AP}``, None where there is no ground truth.

    Raises:
        InputError: a file cannot be used; the message names the entry and what is wrong.
    """
    truth = load_ground_truth(gt, "video", ("segmentations",))
    detections = load_results(results, truth, "video", ("segmentations",))
    videos = [
        parse_video(truth.media[video_id], f"{truth.where}: video {video_id}")
        for video_id in sorted(truth.media)
    ]
    lengths = {video.id: video.length for video in videos}
    annotated = _by_video_and_class(truth.annotations, lengths)
    predicted = _by_video_and_class(detections, lengths)
    matches: dict[tuple[int, str], list[Matches]] = defaultdict(list)
    for video in show_progress(videos, "Comparing tracks"):
        for category in truth.categories:
            key = (video.id, category)
            if key in annotated or key in predicted:
                outcome = _compare(video, annotated.get(key, []), predicted.get(key, []))
                for area_range, found in outcome.items():
                    matches[category, area_range].append(found)
    return _summarise(matches, truth.categories)


def _compare(
    video: Video, annotated: PlacedEntries, predicted: PlacedEntries
) -> dict[str, Matches]:
    """Match one class's detections in one video, once for each area range."""
    best = sorted(predicted, key=lambda item: -item[1]["score"])[: MAX_DETECTIONS[-1]]
    detections = [parse_detection(entry, video, place) for place, entry in best]
    truths = [parse_truth(entry, video, place) for place, entry in annotated]
    scores = np.array([entry["score"] for _, entry in best], dtype=float)
    ious = track_ious(detections, truths)
    crowd = np.array([track.crowd for track in truths], dtype=bool)
    outcome = {}
    for name, bounds in AREA_RANGES.items():
        truth_ignored = crowd | _outside(truths, bounds)
        matched, ignored = match_detections(ious, truth_ignored, crowd)
        ignored |= ~matched & _outside(detections, bounds)
        outcome[name] = Matches(scores, matched, ignored, int((~truth_ignored).sum()))
    return outcome


def _outside(tracks: list[MaskTrack], bounds: tuple[float, float]) -> np.ndarray:
    low, high = bounds
    return np.array([track.area < low or track.area > high for track in tracks], dtype=bool)


def _summarise(
    matches: dict[tuple[int, str], list[Matches]], categories: dict[int, str]
) -> dict[str, Any]:
    """The metrics dict from the matches by class and area range."""
    precision, recall = {}, {}  # by (area range, detections): (thresholds, points, classes)
    for area_range in AREA_RANGES:
        for limit in MAX_DETECTIONS:
            curves = [
                precision_and_recall(matches[category, area_range], limit)
                for category in categories
            ]
            precision[area_range, limit] = np.stack([curve for curve, _ in curves], axis=-1)
            recall[area_range, limit] = np.stack([final for _, final in curves], axis=-1)
    few, several, many = MAX_DETECTIONS
    curves = precision["all", many]
    return {
        "AP": mean_defined(curves),
        "AP50": mean_defined(curves[IOU_THRESHOLDS == 0.5]),
        "AP75": mean_defined(curves[IOU_THRESHOLDS == 0.75]),
        "APs": mean_defined(precision["small", many]),
        "APm": mean_defined(precision["medium", many]),
        "APl": mean_defined(precision["large", many]),
        "AR1": mean_defined(recall["all", few]),
        "AR10": mean_defined(recall["all", several]),
        "AR100": mean_defined(recall["all", many]),
        "ARs": mean_defined(recall["small", many]),
        "ARm": mean_defined(recall["medium", many]),
        "ARl": mean_defined(recall["large", many]),
        "per_class_AP": {
            name: none_if_undefined(mean_defined(curves[..., k]))
            for k, name in enumerate(categories.values())
        },
    }


def _by_video_and_class(
    entries: PlacedEntries, lengths: dict[int, int]
) -> dict[tuple[int, int], PlacedEntries]:
    """Group tracks by the ids of video and class; ``lengths`` are the videos' frame counts."""
    groups: dict[tuple[int, int], PlacedEntries] = {}
    for place, entry in entries:
        masks, length = entry["segmentations"], lengths[entry["video_id"]]
        if not isinstance(masks, list) or len(masks) != length:
            found = len(masks) if isinstance(masks, list) else repr(masks)[:40]
            raise InputError(
                f"{place}: `segmentations` must list {length} masks or nulls, one for each frame"
                f" of video {entry['video_id']}, has {found}"
            )
        groups.setdefault((entry["video_id"], entry["category_id"]), []).append((place, entry))
    return groups
