"""What each detection is: right, wrong in class or masks, second of an object, or nothing.

The kinds of Bolya et al., *TIDE: A General Toolbox for Identifying Object Detection Errors*,
ECCV 2020, section 2.2, with the IoU of whole tracks in place of boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from queryinst_vis.evaluation.overlaps import track_ious
from queryinst_vis.formats.video_set import MaskTrack

MATCH_IOU = 0.5
"""IoU from which on a detection has found an object (TIDE's foreground threshold)."""
BACKGROUND_IOU = 0.1
"""IoU below which it has nothing to do with it (TIDE's background threshold)."""


class Kind(Enum):
    """What a detection is, with the words that reports use."""

    CORRECT = "correct"
    CLASS = "wrong class"
    MASK = "poor masks"
    CLASS_AND_MASK = "wrong class and poor masks"
    DUPLICATE = "duplicate"
    BACKGROUND = "background"


@dataclass(frozen=True)
class Candidate:
    """A detection and the object that it is taken for.

    Attributes:
        detection: as found.
        kind: what it is.
        target: the ground truth that is its own alone; None for duplicates and background.
        iou: its IoU with the target, 0 without one.
    """

    detection: MaskTrack
    kind: Kind
    target: MaskTrack | None
    iou: float


def classify(detections: Sequence[MaskTrack], ground_truth: Sequence[MaskTrack]) -> list[Candidate]:
    """Give each detection of a video its object and kind.

    Four rounds, in each of which the detections, best score first, take the object that they
    overlap most among those still free: of their class with an IoU of .5 or more (as AP50
    matches), of another class with .5, of their class with .1, of another class with .1. Those
    left over are duplicates if they overlap any object with .1 or more, background otherwise.

    Args:
        detections: of one video, all classes.
        ground_truth: of the same video, without crowd.

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
    found: dict[int, tuple[Kind, int | None]] = {}
    free = np.ones(len(ground_truth), dtype=bool)
    for kind, allowed, threshold in rounds:
        fits = allowed & (ious >= threshold)
        for row in np.flatnonzero(fits.any(axis=1)).tolist():
            overlap = np.where(fits[row] & free, ious[row], -1.0)
            if row not in found and overlap.max() >= 0:
                # of equals the later, as AP
                best = len(ground_truth) - 1 - int(overlap[::-1].argmax())
                found[row] = kind, best
                free[best] = False
    candidates = []
    for row, track in enumerate(detections):
        kind, target = found.get(row, (_left_over(ious[row]), None))
        iou = 0.0 if target is None else float(ious[row, target])
        candidates.append(
            Candidate(track, kind, None if target is None else ground_truth[target], iou)
        )
    return candidates


def _left_over(ious: np.ndarray) -> Kind:
    return Kind.DUPLICATE if (ious >= BACKGROUND_IOU).any() else Kind.BACKGROUND
