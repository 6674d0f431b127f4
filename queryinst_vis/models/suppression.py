"""Non-maximum suppression of boxes and of masks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.ops import batched_nms

from queryinst_vis.structures import Detections

OVERLAPS = ("boxes", "masks")
"""The values of ``inference.nms_overlap``."""


class Suppression(NamedTuple):
    """Non-maximum suppression as configured by ``inference``: of boxes, of masks, or none.

    Boxes are compared before masks are computed, masks afterwards; call both methods in turn.

    Attributes:
        threshold: maximum IoU of two detections, 0..1; None: no suppression.
        overlap: one of ``OVERLAPS``; boxes are only compared within a class.
        class_agnostic: masks of different classes suppress each other, too.
    """

    threshold: float | None
    overlap: str
    class_agnostic: bool

    def of_boxes(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor | slice:
        """Index of the detections to keep, see ``suppress_boxes``; all if masks are compared."""
        if self.threshold is None or self.overlap != "boxes":
            return slice(None)
        return suppress_boxes(boxes, scores, labels, self.threshold)

    def of_masks(self, detections: Detections) -> Detections:
        """The detections to keep, see ``suppress_masks``; all if boxes are compared."""
        if self.threshold is None or self.overlap != "masks" or not detections.has_masks:
            return detections
        return suppress_masks(detections, self.threshold, self.class_agnostic)


def suppress_boxes(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """NMS per class on boxes.

    Args:
        boxes: ``(N, 4)`` xyxy.
        scores: ``(N,)``.
        labels: ``(N,)`` int64.
        threshold: IoU threshold, 0..1.

    Returns:
        Row indices to keep, ascending.
    """
    return batched_nms(boxes.float(), scores.float(), labels, threshold).sort().values


def suppress_masks(detections: Detections, threshold: float, class_agnostic: bool) -> Detections:
    """NMS on masks at frame resolution.

    Args:
        detections: with masks, sorted by descending score.
        threshold: IoU threshold, 0..1.
        class_agnostic: detections also suppress those of other classes.
    """
    rles = detections.rles()
    overlaps = np.reshape(coco_mask.iou(rles, rles, [0] * len(rles)), (len(rles), len(rles)))
    duplicates = overlaps > threshold
    if not class_agnostic:
        labels = detections.labels.numpy(force=True)
        duplicates &= labels[:, None] == labels[None, :]
    kept: list[int] = []
    for row in range(len(detections)):
        if not duplicates[row, kept].any():
            kept.append(row)
    return detections[torch.tensor(kept, dtype=torch.int64, device=detections.boxes.device)]
