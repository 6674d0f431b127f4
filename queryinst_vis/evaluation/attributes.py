"""AP by attributes of objects: length, size, speed and occlusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.evaluation.average_precision import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    Matches,
    match_detections,
    mean_defined,
    none_if_undefined,
    pool_detections,
)
from queryinst_vis.evaluation.overlaps import track_ious
from queryinst_vis.formats.video_set import MaskTrack, VideoTracks

Boxes = np.ndarray
"""``(F, 4)`` x, y, width, height of a track in pixels, NaN in frames without it."""

ATTRIBUTES = {
    "length": "number of frames with the object",
    "size": "mean mask area in pixels",
    "speed": "mean displacement of the box centre per frame / square root of the box area",
    "occlusion": "mean fraction of the box that is covered by the box of one other object",
}
"""Definitions of the attributes, as shown in reports."""

BINS = 3
"""Maximum number of bins per attribute."""


@dataclass(frozen=True)
class MeasuredClass:
    """One class in one video, with the attributes of its tracks.

    Attributes:
        scores: ``(D,)`` descending, at most 100.
        ious: ``(D, G)`` track IoUs.
        crowd: ``(G,)`` bool.
        ground_truth, detections: ``(G,)`` and ``(D,)`` values by name of the attribute.
    """

    scores: np.ndarray
    ious: np.ndarray
    crowd: np.ndarray
    ground_truth: dict[str, np.ndarray]
    detections: dict[str, np.ndarray]


def measure_video(tracks: VideoTracks) -> dict[int, MeasuredClass]:
    """The IoUs and attributes of the tracks of a video, by category id.

    Attributes of a detection are computed from its own masks; its occluders are the ground-truth
    objects, except the one that it overlaps most.
    """
    boxes = [track_boxes(gt) for gt in tracks.ground_truth]
    ground_truth = [
        _measure(gt, box, [*boxes[:g], *boxes[g + 1 :]])
        for g, (gt, box) in enumerate(zip(tracks.ground_truth, boxes, strict=True))
    ]
    order = sorted(range(len(tracks.detections)), key=lambda d: -tracks.detections[d].score)
    ious = track_ious(tracks.detections, tracks.ground_truth)
    detections = [
        _measure(track, track_boxes(track), _others(boxes, ious[d]))
        for d, track in enumerate(tracks.detections)
    ]
    measured = {}
    for category in {track.category_id for track in [*tracks.ground_truth, *tracks.detections]}:
        rows = [d for d in order if tracks.detections[d].category_id == category]
        rows = rows[: MAX_DETECTIONS[-1]]
        columns = [g for g, gt in enumerate(tracks.ground_truth) if gt.category_id == category]
        measured[category] = MeasuredClass(
            scores=np.array([tracks.detections[d].score for d in rows], dtype=float),
            ious=ious[np.ix_(rows, columns)],
            crowd=np.array([tracks.ground_truth[g].crowd for g in columns], dtype=bool),
            ground_truth=_columns([ground_truth[g] for g in columns]),
            detections=_columns([detections[d] for d in rows]),
        )
    return measured


def _others(boxes: list[Boxes], ious: np.ndarray) -> list[Boxes]:
    own = int(ious.argmax()) if ious.any() else None
    return [box for g, box in enumerate(boxes) if g != own]


def _columns(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows], dtype=float) for name in ATTRIBUTES}


def _measure(track: MaskTrack, boxes: Boxes, others: Sequence[Boxes]) -> dict[str, float]:
    return {
        "length": float((track.sizes > 0).sum()),
        "size": track.area,
        "speed": speed(boxes),
        "occlusion": occlusion(boxes, others),
    }


def track_boxes(track: MaskTrack) -> Boxes:
    """The bounding boxes of a track's masks."""
    boxes = np.full((len(track.masks), 4), np.nan)
    shown = {frame: mask for frame, mask in track.shown().items() if track.sizes[frame]}
    if shown:
        boxes[list(shown)] = coco_mask.toBbox(list(shown.values()))
    return boxes


def speed(boxes: Boxes) -> float:
    """Mean displacement of the box centre per frame, relative to the square root of the box area.

    Displacements over gaps are distributed evenly. 0 for a track of a single frame.
    """
    frames = np.flatnonzero(~np.isnan(boxes[:, 0]))
    if len(frames) < 2:
        return 0.0
    shown = boxes[frames]
    centres = shown[:, :2] + shown[:, 2:] / 2
    shifts = np.linalg.norm(np.diff(centres, axis=0), axis=1) / np.diff(frames)
    return float((shifts / np.sqrt(shown[:-1, 2] * shown[:-1, 3])).mean())


def occlusion(boxes: Boxes, others: Sequence[Boxes]) -> float:
    """Mean over frames of the largest fraction of the box covered by another track's box, 0..1."""
    shown = ~np.isnan(boxes[:, 0])
    if not shown.any() or not others:
        return 0.0
    box, other = boxes[shown], np.stack(others)[:, shown]
    low = np.maximum(box[:, :2], other[..., :2])
    high = np.minimum(box[:, :2] + box[:, 2:], other[..., :2] + other[..., 2:])
    covered = np.clip(high - low, 0, None).prod(axis=-1) / box[:, 2:].prod(axis=-1)
    return float(np.nan_to_num(covered).max(axis=0).mean())


def break_down(
    videos: Sequence[Mapping[int, MeasuredClass]], categories: Mapping[int, str]
) -> dict[str, list[dict[str, Any]]]:
    """AP in up to three bins of each attribute, with about the same number of objects.

    As in COCO's area ranges, ground-truth tracks outside a bin are ignored, and so are detections
    that match one of them, or that match nothing and are outside the bin.

    Returns:
        The bins of each attribute, ascending: ``low`` (inclusive) and ``high`` (exclusive), None
        if unbounded; ``objects``; ``AP`` and ``AP50`` as fractions, None without ground truth.
    """
    return {
        name: [_bin_entry(videos, categories, name, low, high) for low, high in _bins(videos, name)]
        for name in ATTRIBUTES
    }


def _bins(videos: Sequence[Mapping[int, MeasuredClass]], name: str) -> list[tuple[float, float]]:
    by_class = [
        entry.ground_truth[name][~entry.crowd] for video in videos for entry in video.values()
    ]
    values = np.concatenate([np.zeros(0), *by_class])
    if not values.size:
        return []
    inner = np.unique(np.quantile(values, np.arange(1, BINS) / BINS, method="higher"))
    inner = inner[inner > values.min()]  # with many equal values the lowest bin would be empty
    edges = [-np.inf, *inner.tolist(), np.inf]
    return list(pairwise(edges))


def _bin_entry(
    videos: Sequence[Mapping[int, MeasuredClass]],
    categories: Mapping[int, str],
    name: str,
    low: float,
    high: float,
) -> dict[str, Any]:
    matches = [
        {category: _match_bin(entry, name, low, high) for category, entry in video.items()}
        for video in videos
    ]
    curves = pooled_precision(matches, categories)
    return {
        "low": low if np.isfinite(low) else None,
        "high": high if np.isfinite(high) else None,
        "objects": sum(entry.num_ground_truth for video in matches for entry in video.values()),
        "AP": none_if_undefined(mean_defined(curves)),
        "AP50": none_if_undefined(mean_defined(curves[IOU_THRESHOLDS == 0.5])),
    }


def _match_bin(entry: MeasuredClass, name: str, low: float, high: float) -> Matches:
    ground_truth, detections = entry.ground_truth[name], entry.detections[name]
    ignored_ground_truth = entry.crowd | (ground_truth < low) | (ground_truth >= high)
    matched, ignored = match_detections(entry.ious, ignored_ground_truth, entry.crowd)
    ignored |= ~matched & ((detections < low) | (detections >= high))
    return Matches(entry.scores, matched, ignored, int((~ignored_ground_truth).sum()))


def pooled_precision(
    videos: Sequence[Mapping[int, Matches]], categories: Mapping[int, str]
) -> np.ndarray:
    """``(T, 101, classes)`` precision of the matches by video and category id."""
    curves = [
        pool_detections(
            [video[category] for video in videos if category in video], MAX_DETECTIONS[-1]
        ).precision
        for category in categories
    ]
    return np.stack(curves, axis=-1)
