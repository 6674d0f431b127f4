"""Classify detections: correct, wrong class, poor masks, duplicate, or background.

After Bolya et al., *TIDE: A General Toolbox for Identifying Object Detection Errors*,
ECCV 2020, section 2.2, with track IoU in place of box IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from queryinst_vis.evaluation.overlaps import track_ious
from queryinst_vis.formats.video_set import MaskTrack

MATCH_IOU = 0.5
"""Minimum IoU of a correct detection (TIDE's foreground threshold)."""
BACKGROUND_IOU = 0.1
"""IoU below which a detection is background (TIDE's background threshold)."""


class Kind(Enum):
    """The kinds of detections, as named in reports."""

    CORRECT = "correct"
    CLASS = "wrong class"
    MASK = "poor masks"
    CLASS_AND_MASK = "wrong class and poor masks"
    DUPLICATE = "duplicate"
    BACKGROUND = "background"


@dataclass(frozen=True)
class Candidate:
    """A detection and the object assigned to it.

    Attributes:
        detection: the detection.
        kind: its kind.
        target: the ground-truth track assigned to this detection only; None for duplicates and
            background.
        iou: IoU with the target, 0 without a target.
    """

    detection: MaskTrack
    kind: Kind
    target: MaskTrack | None
    iou: float


def classify(detections: Sequence[MaskTrack], ground_truth: Sequence[MaskTrack]) -> list[Candidate]:
    """Assign objects and kinds to the detections of a video.

    Four rounds of greedy assignment by descending score: each detection takes the unassigned object
    with the highest IoU, of its own class with an IoU of at least .5 (as in AP50), then of another
    class with .5, of its own class with .1, and of another class with .1. Detections without an
    object are duplicates if they overlap any object with an IoU of at least .1, otherwise
    background.

    Args:
        detections: detections in one video, of all classes.
        ground_truth: ground-truth tracks of the same video, without crowds.

    Returns:
        One candidate per detection, by descending score.
    """
    detections = sorted(detections, key=lambda track: -track.score)
    ious = track_ious(list(detections), list(ground_truth))
    labels = np.array([track.category_id for track in detections])
    same = labels[:, None] == np.array([track.category_id for track in ground_truth])[None, :]
    rounds = (
        (Kind.CORRECT, same, MATCH_IOU),
        (Kind.CLASS, ~same, MATCH_IOU),
        (Kind.MASK, same, BACKGROUND_IOU),
        (Kind.CLASS_AND_MASK, ~same, BACKGROUND_IOU),
    )
    assigned: dict[int, tuple[Kind, int | None]] = {}
    free = np.ones(len(ground_truth), dtype=bool)
    for kind, allowed, threshold in rounds:
        fits = allowed & (ious >= threshold)
        for row in np.flatnonzero(fits.any(axis=1)).tolist():
            overlap = np.where(fits[row] & free, ious[row], -1.0)
            if row not in assigned and overlap.max() >= 0:
                # of equal IoUs the later ground truth, as in AP
                best = len(ground_truth) - 1 - int(overlap[::-1].argmax())
                assigned[row] = kind, best
                free[best] = False
    candidates = []
    for row, track in enumerate(detections):
        kind, target = assigned.get(row, (_unassigned_kind(ious[row]), None))
        iou = 0.0 if target is None else float(ious[row, target])
        candidates.append(
            Candidate(track, kind, None if target is None else ground_truth[target], iou)
        )
    return candidates


def _unassigned_kind(ious: np.ndarray) -> Kind:
    """The kind of a detection without a target, from its IoUs with all ground truth."""
    return Kind.DUPLICATE if (ious >= BACKGROUND_IOU).any() else Kind.BACKGROUND
