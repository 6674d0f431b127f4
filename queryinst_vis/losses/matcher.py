"""Hungarian matching of queries and ground truth (Sparse R-CNN's costs)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import generalized_box_iou

from queryinst_vis.structures import Target

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0


@dataclass
class Match:
    """Matched pairs of one image: query ``queries[i]`` and ground-truth instance ``instances[i]``.

    Both are ``(P,)`` int64; queries are ascending.
    """

    queries: Tensor
    instances: Tensor


class HungarianMatcher:
    """One-to-one matching by focal, L1 and GIoU cost; masks are not used.

    Args:
        cls, l1, giou: weights of the costs (2, 5, 2 as published).
    """

    def __init__(self, cls: float = 2.0, l1: float = 5.0, giou: float = 2.0) -> None:
        self.cls = cls
        self.l1 = l1
        self.giou = giou

    @torch.no_grad()
    def __call__(self, class_logits: Tensor, boxes: Tensor, target: Target) -> list[Match]:
        """Match every stage's queries with the instances of one image.

        Args:
            class_logits: ``(S, N, K)`` of S stages.
            boxes: ``(S, N, 4)`` xyxy in input pixels.
            target: the image's ground truth.

        Returns:
            S matches of ``min(N, M)`` pairs each.
        """
        cost = self._cost(class_logits.float(), boxes.float(), target)
        # the training loop reports a diverged model; the assignment must not fail
        cost = torch.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6)
        return [
            Match(*(torch.as_tensor(side, device=boxes.device) for side in pairs))
            for pairs in map(linear_sum_assignment, cost.numpy(force=True))
        ]

    def _cost(self, class_logits: Tensor, boxes: Tensor, target: Target) -> Tensor:
        """``(S, N, M)`` cost of matching each query to each instance."""
        height, width = target.image_size
        size = boxes.new_tensor([width, height, width, height])
        l1 = torch.cdist(boxes / size, (target.boxes / size).expand(len(boxes), -1, -1), p=1)
        giou = generalized_box_iou(boxes.flatten(0, 1), target.boxes)
        focal = _focal_cost(class_logits.sigmoid()[..., target.labels])
        return self.cls * focal + self.l1 * l1 - self.giou * giou.view_as(l1)


def _focal_cost(probability: Tensor) -> Tensor:
    """Difference between the focal losses for a positive and a negative target."""
    eps = 1e-12
    absent = -(1 - probability + eps).log() * (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA
    present = -(probability + eps).log() * FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA
    return present - absent
