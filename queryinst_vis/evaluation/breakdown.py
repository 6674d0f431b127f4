"""Precision-recall curves, class confusion, and AP lost per video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from queryinst_vis.evaluation.average_precision import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    RECALL_POINTS,
    UNDEFINED,
    Curve,
    Matches,
    mean_defined,
    pool_detections,
)
from queryinst_vis.evaluation.candidates import Candidate
from queryinst_vis.formats.video_set import MaskTrack
from queryinst_vis.utils.progress import show_progress

ClassPair = tuple[int | None, int | None]
"""Category ids of an object and of the detection assigned to it; None: no detection."""


def precision_recall(precision: np.ndarray, categories: Mapping[int, str]) -> dict[str, Any]:
    """Interpolated precision-recall curves.

    Args:
        precision: ``(10, 101, classes)`` of ``pooled_precision``.
        categories: class name by category id, in the order of the last axis.

    Returns:
        ``recall``: 101 points 0..1; ``by_iou``: ``{"0.50": [...], ...}``, precision at each IoU
        threshold, averaged over classes; ``by_class``: ``{name: [...]}`` at IoU .5, without
        classes that have no ground truth.
    """
    defined = [k for k in range(precision.shape[-1]) if precision[0, 0, k] > UNDEFINED]
    names = list(categories.values())
    means = precision[..., defined].mean(axis=-1) if defined else np.zeros((0, 0))
    return {
        "recall": RECALL_POINTS.tolist(),
        "by_iou": {
            f"{iou:.2f}": mean.tolist() for iou, mean in zip(IOU_THRESHOLDS, means, strict=False)
        },
        "by_class": {names[k]: precision[0, :, k].tolist() for k in defined},
    }


def class_pairs(
    candidates: Iterable[Candidate], ground_truth: Iterable[MaskTrack]
) -> Counter[ClassPair]:
    """Count the confusions between classes in a video, including missed objects.

    Duplicates and background detections have no object and are not counted.

    Args:
        candidates: the detections with their targets.
        ground_truth: the objects that can be detected (see ``countable``).
    """
    assigned = {id(each.target): each.detection for each in candidates if each.target is not None}
    pairs: Counter[ClassPair] = Counter()
    for gt in ground_truth:
        detection = assigned.get(id(gt))
        pairs[gt.category_id, None if detection is None else detection.category_id] += 1
    return pairs


def name_pairs(
    pairs: Mapping[ClassPair, int], categories: Mapping[int, str]
) -> list[dict[str, Any]]:
    """The counts as ``{"object": name, "found_as": name or None, "count": n}``, sorted by these."""
    order = {category: index for index, category in enumerate([*categories, None])}
    return [
        {
            "object": categories[gt],
            "found_as": None if predicted is None else categories[predicted],
            "count": pairs[gt, predicted],
        }
        for gt, predicted in sorted(pairs, key=lambda pair: (order[pair[0]], order[pair[1]]))
        if gt is not None
    ]


def lost_per_video(
    original: Sequence[Mapping[int, Matches]],
    repaired: Sequence[Mapping[int, Matches]],
    precision: np.ndarray,
    categories: Mapping[int, str],
) -> list[float]:
    """Gain in the AP of the whole set if all errors in one video were fixed, for each video.

    Args:
        original, repaired: the matches of each video by category id, in the order of the videos.
        precision: ``pooled_precision`` of ``original``.
        categories: class name by category id.

    Returns:
        Gains in AP as fractions. They do not add up to 1 - AP, since all videos share a ranking.
    """
    column = {category: k for k, category in enumerate(categories)}
    pools = {category: _Pool.of(category, original) for category in categories}
    baseline = mean_defined(precision)
    gains = []
    videos = zip(original, repaired, strict=True)
    for index, (before, after) in enumerate(
        show_progress(videos, "AP lost per video", total=len(original))
    ):
        changed = precision.copy()
        for category in before.keys() | after.keys():
            curve = pools[category].replace_video(index, after.get(category))
            changed[..., column[category]] = curve.precision
        gains.append(mean_defined(changed) - baseline)
    return gains


@dataclass(frozen=True)
class _Pool:
    """The pooled detections of one class.

    Attributes:
        pooled: the detections of all videos, in the order of the videos.
        offsets: ``(V + 1,)`` start of each video in ``pooled``, and the end.
        num_ground_truth: ``(V,)`` ground-truth tracks of each video.
    """

    pooled: Matches
    offsets: np.ndarray
    num_ground_truth: np.ndarray

    @classmethod
    def of(cls, category: int, videos: Sequence[Mapping[int, Matches]]) -> _Pool:
        """Pool the detections of a class."""
        matches = [_limited(video.get(category)) for video in videos]
        num_ground_truth = np.array([each.num_ground_truth for each in matches])
        pooled = _concatenate(matches, int(num_ground_truth.sum()))
        offsets = np.cumsum([0, *(len(each.scores) for each in matches)])
        return cls(pooled, offsets, num_ground_truth)

    def replace_video(self, index: int, matches: Matches | None) -> Curve:
        """The curve of the class with other matches in one video, None for none."""
        start, end = self.offsets[index : index + 2]
        new, old = _limited(matches), self.pooled
        others = old.num_ground_truth - int(self.num_ground_truth[index])
        parts = [_select(old, slice(None, start)), new, _select(old, slice(end, None))]
        changed = _concatenate(parts, others + new.num_ground_truth)
        return pool_detections([changed], len(changed.scores))


def _limited(matches: Matches | None) -> Matches:
    """The 100 best detections, which count; none if the video lacks the class (``None``)."""
    if matches is None:
        nothing = np.zeros((len(IOU_THRESHOLDS), 0), dtype=bool)
        return Matches(np.zeros(0), nothing, nothing, 0)
    return _select(matches, slice(MAX_DETECTIONS[-1]))


def _select(matches: Matches, which: slice) -> Matches:
    return Matches(
        matches.scores[which],
        matches.matched[:, which],
        matches.ignored[:, which],
        matches.num_ground_truth,
    )


def _concatenate(parts: Sequence[Matches], num_ground_truth: int) -> Matches:
    return Matches(
        np.concatenate([part.scores for part in parts]),
        np.hstack([part.matched for part in parts]),
        np.hstack([part.ignored for part in parts]),
        num_ground_truth,
    )
