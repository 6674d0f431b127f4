"""The procedure of the YouTube-VIS API in plain Python, as the reference of ``evaluation.py``.

It reproduces ``loadRes``, ``computeIoU``, ``evaluateVid`` and ``accumulate`` step by step, with the
same calls to pycocotools, so that it takes the same time and memory.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
RANGES = {"": (0, 1e10), "s": (0, 128**2), "m": (128**2, 256**2), "l": (256**2, 1e10)}
LIMITS = (1, 10, 100)


def evaluate(gt_path: Path, results_path: Path) -> dict[str, Any]:
    """The metrics of ``evaluate_youtube_vis``, for valid files with compressed masks."""
    gt = json.loads(gt_path.read_text())
    results = json.loads(results_path.read_text())
    for entry in [*gt["annotations"], *results]:
        measure(entry)
    ground_truth, detections = group(gt["annotations"]), group(results)
    videos = sorted(video["id"] for video in gt["videos"])
    names = {category["id"]: category["name"] for category in gt["categories"]}
    evaluated = {
        (category, video): evaluate_video(
            ground_truth[video, category], detections[video, category]
        )
        for category in sorted(names)
        for video in videos
    }
    precision = defaultdict(list)  # per class: (thresholds, recalls) or (thresholds,)
    recall = defaultdict(list)
    for suffix in RANGES:
        for limit in LIMITS:
            for category in sorted(names):
                found = [evaluated[category, video][suffix] for video in videos]
                curve, final = accumulate([item for item in found if item], limit)
                precision[suffix, limit].append(curve)
                recall[suffix, limit].append(final)
    curves = np.array(precision["", 100])
    return {
        "AP": mean(curves),
        "AP50": mean(curves[:, 0]),
        "AP75": mean(curves[:, 5]),
        **{f"AP{suffix}": mean(np.array(precision[suffix, 100])) for suffix in "sml"},
        **{f"AR{limit}": mean(np.array(recall["", limit])) for limit in LIMITS},
        **{f"AR{suffix}": mean(np.array(recall[suffix, 100])) for suffix in "sml"},
        "per_class_AP": {
            names[category]: None if (curve == -1).all() else mean(curve)
            for category, curve in zip(sorted(names), curves, strict=True)
        },
    }


def mean(values: np.ndarray) -> float:
    """Mean of the defined values, -1 without any."""
    return float(values[values > -1].mean()) if (values > -1).any() else -1.0


def measure(entry: dict[str, Any]) -> None:
    """Add what ``loadRes`` adds: area and box of every mask, and the mean area."""
    entry["areas"] = [mask and coco_mask.area(mask) for mask in entry["segmentations"]]
    entry["bboxes"] = [mask and coco_mask.toBbox(mask) for mask in entry["segmentations"]]
    shown = [area for area in entry["areas"] if area]
    entry["avg_area"] = np.mean(shown) if shown else 0


def group(entries: list[dict[str, Any]]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Group entries by video and class."""
    groups = defaultdict(list)
    for entry in entries:
        groups[entry["video_id"], entry["category_id"]].append(entry)
    return groups


def track_iou(detection: list, gt: list) -> float:
    """Track IoU over all frames of the video."""
    intersection = union = 0.0
    for d, g in zip(detection, gt, strict=True):
        if d and g:
            intersection += coco_mask.area(coco_mask.merge([d, g], True))
            union += coco_mask.area(coco_mask.merge([d, g], False))
        elif d or g:
            union += coco_mask.area(d or g)
    return intersection / union if union > 0 else 0.0


def evaluate_video(ground_truth: list[dict], detections: list[dict]) -> dict[str, tuple | None]:
    """Matches of one class in one video by area range: ``(scores, matched, ignored, objects)``."""
    if not ground_truth and not detections:
        return dict.fromkeys(RANGES)
    detections = sorted(detections, key=lambda entry: -entry["score"])[: LIMITS[-1]]
    ious = np.zeros((len(detections), len(ground_truth)))
    for i, j in np.ndindex(ious.shape):
        ious[i, j] = track_iou(detections[i]["segmentations"], ground_truth[j]["segmentations"])
    return {suffix: match(ground_truth, detections, ious, *RANGES[suffix]) for suffix in RANGES}


def match(
    ground_truth: list[dict], detections: list[dict], ious: np.ndarray, low: float, high: float
):
    """Matches in one area range; ignored ground truth comes last."""

    def outside(entry: dict) -> bool:
        return entry["avg_area"] < low or entry["avg_area"] > high

    not_counted = [bool(gt["iscrowd"]) or outside(gt) for gt in ground_truth]
    order = np.argsort(not_counted, kind="stable").tolist()
    matched = np.zeros((len(THRESHOLDS), len(detections)), dtype=bool)
    ignored = np.zeros_like(matched)
    for t, threshold in enumerate(THRESHOLDS):
        taken = set()
        for d in range(len(detections)):
            best, best_iou = -1, min(threshold, 1 - 1e-10)
            for g in order:
                if g in taken and not ground_truth[g]["iscrowd"]:
                    continue
                if best > -1 and not not_counted[best] and not_counted[g]:
                    break
                if ious[d, g] >= best_iou:
                    best, best_iou = g, ious[d, g]
            if best > -1:
                taken.add(best)
                matched[t, d], ignored[t, d] = True, not_counted[best]
    outliers = np.array([outside(entry) for entry in detections], dtype=bool)
    scores = [entry["score"] for entry in detections]
    return scores, matched, ignored | (~matched & outliers), not_counted.count(False)


def accumulate(videos: list[tuple], limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision at the recall points and final recall of one class: ``(T, R)`` and ``(T,)``."""
    precision, recall = -np.ones((len(THRESHOLDS), len(RECALLS))), -np.ones(len(THRESHOLDS))
    num_ground_truth = sum(video[3] for video in videos)
    if num_ground_truth == 0:
        return precision, recall
    scores = np.concatenate([video[0][:limit] for video in videos])
    order = np.argsort(-scores, kind="stable")
    matched, ignored = (
        np.concatenate([video[part][:, :limit] for video in videos], axis=1)[:, order]
        for part in (1, 2)
    )
    hits = np.cumsum(matched & ~ignored, axis=1).astype(float)
    misses = np.cumsum(~matched & ~ignored, axis=1).astype(float)
    for t, (hit, miss) in enumerate(zip(hits, misses, strict=True)):
        recalls = hit / num_ground_truth
        curve = (hit / (miss + hit + np.spacing(1))).tolist()
        recall[t] = recalls[-1] if curve else 0
        for i in range(len(curve) - 1, 0, -1):
            curve[i - 1] = max(curve[i - 1], curve[i])
        reached = np.searchsorted(recalls, RECALLS, side="left")
        precision[t] = [curve[i] if i < len(curve) else 0 for i in reached]
    return precision, recall
