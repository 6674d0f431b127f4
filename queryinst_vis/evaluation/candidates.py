"""What each detection is: right, wrong in class or masks, second of an object, or nothing.

The kinds of Bolya et al., *TIDE: A General Toolbox for Identifying Object Detection Errors*,
ECCV 2020, section 2.2, with the IoU of whole tracks in place of boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from queryinst_vis.formats.mask_tracks import MaskTrack, track_ious

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


def classify(detections: Sequence[MaskTrack], truths: Sequence[MaskTrack]) -> list[Candidate]:
    """Give each detection of a video its object and kind.

    Four rounds, in each of which the detections, best score first, take the object that they
    overlap most among those still free: of their class with an IoU of .5 or more (as AP50
    matches), of another class with .5, of their class with .1, of another class with .1. Those
    left over are duplicates if they overlap any object with .1 or more, background otherwise.

    Args:
        detections: of one video, all classes.
        truths: of the same video, without crowd.

    Returns:
        One candidate per detection, by descending score.
    """
    detections = sorted(detections, key=lambda track: -track.score)
    ious = track_ious(list(detections), list(truths))
    labels = np.array([track.category_id for track in detections])
    same = labels[:, None] == np.array([track.category_id for track in truths])[None, :]
    rounds = (
        (Kind.CORRECT, same, MATCH_IOU),
        (Kind.CLASS, ~same, MATCH_IOU),
        (Kind.MASK, same, BACKGROUND_IOU),
        (Kind.CLASS_AND_MASK, ~same, BACKGROUND_IOU),
    )
    found: dict[int, tuple[Kind, int]] = {}
    free = np.ones(len(truths), dtype=bool)
    for kind, allowed, threshold in rounds:
        fits = allowed & (ious >= threshold)
        for row in np.flatnonzero(fits.any(axis=1)).tolist():
            overlap = np.where(fits[row] & free, ious[row], -1.0)
            if row not in found and overlap.max() >= 0:
                best = len(truths) - 1 - int(overlap[::-1].argmax())  # of equals the later, as AP
                found[row] = kind, best
                free[best] = False
    return [
        Candidate(track, found[row][0], truths[found[row][1]], float(ious[row, found[row][1]]))
        if row in found
        else Candidate(track, _left_over(ious[row]), None, 0.0)
        for row, track in enumerate(detections)
    ]


def _left_over(ious: np.ndarray) -> Kind:
    return Kind.DUPLICATE if (ious >= BACKGROUND_IOU).any() else Kind.BACKGROUND
