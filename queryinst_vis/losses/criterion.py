"""The set loss of the image model: focal, L1, GIoU and dice losses of each stage."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import l1_loss
from torchvision.ops import (
    clip_boxes_to_image,
    generalized_box_iou_loss,
    roi_align,
    sigmoid_focal_loss,
)

from queryinst_vis.config import LossConfig, check_numbers
from queryinst_vis.losses.ignore import ignored_queries
from queryinst_vis.losses.matcher import FOCAL_ALPHA, FOCAL_GAMMA, HungarianMatcher, Match
from queryinst_vis.structures import StageOutput, Target

MaskPredictor = Callable[[int, list[Tensor]], Tensor]
"""``(stage, selected queries per image) -> (P, K, 28, 28)`` mask logits."""


class Criterion:
    """Losses of all stages, supervised in parallel with weight 1 each (paper 3.3).

    Args:
        weights: weights of the four losses, and ``ignore_overlap``, the minimum overlap with ignore
            regions for which unmatched queries are not negatives. Matching costs are as published.
        parallel_masks: supervise the masks of every stage, not only of the last (Table 5).

    Raises:
        InputError: a weight below 0, or ``ignore_overlap`` not above 0 and at most 1.
    """

    def __init__(self, weights: LossConfig, parallel_masks: bool = True) -> None:
        check_numbers(weights, "losses")
        self.weights = weights
        self.parallel_masks = parallel_masks
        self.matcher = HungarianMatcher()

    def __call__(
        self, stages: list[StageOutput], targets: list[Target], predict_masks: MaskPredictor
    ) -> tuple[dict[str, Tensor], list[list[Match]]]:
        """Match every stage and compute its losses.

        Args:
            stages: outputs of the S stages for B images.
            targets: B targets (ground truth).
            predict_masks: runs the mask head of a stage on the matched queries.

        Returns:
            Weighted losses ``s{stage}.{cls,l1,giou,dice}`` and the matches ``[stage][image]``.
        """
        matches = self.match(stages, targets)
        masked = _with_masks(matches, targets)
        overlap = self.weights.ignore_overlap
        ignored = None
        if overlap is not None:
            ignored = ignored_queries(stages, matches, targets, overlap)
        positives, *masks = _mean_over_processes(
            stages[0].boxes,
            [sum(len(m.queries) for m in stage) for stage in (matches[0], *masked)],
        )
        losses: dict[str, Tensor] = {}
        for index, stage in enumerate(stages):
            no_class = None if ignored is None else ignored[index]
            for name, loss in _box_losses(stage, matches[index], targets, no_class).items():
                losses[f"s{index}.{name}"] = getattr(self.weights, name) * loss / positives
            if self.parallel_masks or index == len(stages) - 1:
                dice = _mask_loss(index, stage, masked[index], targets, predict_masks)
                losses[f"s{index}.dice"] = self.weights.dice * dice / masks[index]
        return losses, matches

    def match(self, stages: list[StageOutput], targets: list[Target]) -> list[list[Match]]:
        """Hungarian matches ``[stage][image]``, on detached predictions."""
        logits = torch.stack([stage.class_logits.detach() for stage in stages], dim=1)
        boxes = torch.stack([stage.boxes.detach() for stage in stages], dim=1)
        by_image = [self.matcher(*image) for image in zip(logits, boxes, targets, strict=True)]
        return [list(stage) for stage in zip(*by_image, strict=True)]


def _with_masks(matches: list[list[Match]], targets: list[Target]) -> list[list[Match]]:
    """The matches ``[stage][image]`` whose instance has a mask."""
    known = [target.has_mask for target in targets]
    if torch.cat(known).all():
        return matches
    return [
        [
            Match(match.queries[has[match.instances]], match.instances[has[match.instances]])
            for match, has in zip(stage, known, strict=True)
        ]
        for stage in matches
    ]


def _box_losses(
    stage: StageOutput, matches: list[Match], targets: list[Target], ignored: Tensor | None
) -> dict[str, Tensor]:
    """Summed, unweighted class and box losses of one stage; ``ignored`` have no class loss."""
    pairs = list(zip(matches, targets, strict=True))
    boxes = torch.cat([stage.boxes[i][match.queries] for i, match in enumerate(matches)])
    ground_truth = torch.cat([target.boxes[match.instances] for match, target in pairs])
    scale = torch.cat([_image_scale(target, len(match.queries)) for match, target in pairs])
    return {
        "cls": _class_loss(stage.class_logits, matches, targets, ignored),
        "l1": l1_loss(boxes / scale, ground_truth / scale, reduction="sum"),
        "giou": generalized_box_iou_loss(boxes, ground_truth, reduction="sum"),
    }


def _class_loss(
    class_logits: Tensor, matches: list[Match], targets: list[Target], ignored: Tensor | None
) -> Tensor:
    """Summed focal loss of all queries except ignored ones."""
    logits, classes = class_logits.float(), _one_hot_classes(class_logits, matches, targets)
    if ignored is not None:
        logits, classes = logits[~ignored], classes[~ignored]
    return sigmoid_focal_loss(logits, classes, FOCAL_ALPHA, FOCAL_GAMMA, reduction="sum")


def _mask_loss(
    index: int,
    stage: StageOutput,
    matches: list[Match],
    targets: list[Target],
    predict_masks: MaskPredictor,
) -> Tensor:
    """Summed dice loss of one stage's queries matched to a mask, on the mask of their class."""
    labels = torch.cat([t.labels[m.instances] for m, t in zip(matches, targets, strict=True)])
    if len(labels) == 0:
        if not _is_distributed():
            return stage.mask_q_star.sum() * 0  # batch norm does not accept an empty batch
        # SyncBN waits for the mask head of every process, so this one runs it on a single RoI
        placeholder = [match.queries.new_zeros(int(i == 0)) for i, match in enumerate(matches)]
        return predict_masks(index, placeholder).sum() * 0
    logits = predict_masks(index, [match.queries for match in matches])
    predicted = logits[torch.arange(len(labels), device=labels.device), labels].float()
    size = predicted.shape[-1]
    ground_truth = torch.cat(
        [
            mask_targets(target.masks[match.instances], boxes[match.queries], size)
            for match, target, boxes in zip(matches, targets, stage.boxes.detach(), strict=True)
        ]
    )
    return dice_loss(predicted, ground_truth)


def mask_targets(masks: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crop ground-truth masks to boxes and resample them.

    As in mmdetection, and thus in the published models, boxes are first clipped to the mask,
    although they are not clipped for pooling features.

    Args:
        masks: ``(P, H, W)`` bool.
        boxes: ``(P, 4)`` xyxy in pixels of the masks.
        size: side of the result.

    Returns:
        ``(P, size, size)`` float, 0 or 1: adaptive RoIAlign, thresholded at 0.5.
    """
    # RoIAlign fails for the boxes of a diverged model; the non-finite loss is reported instead
    boxes = clip_boxes_to_image(torch.nan_to_num(boxes.float()), masks.shape[-2:])
    rois = torch.cat((torch.arange(len(boxes), device=boxes.device)[:, None], boxes), dim=1)
    pooled = roi_align(masks[:, None].float(), rois, size, sampling_ratio=0, aligned=True)
    return (pooled[:, 0] >= 0.5).float()


def dice_loss(logits: Tensor, ground_truth: Tensor, eps: float = 1e-5) -> Tensor:
    """Dice loss summed over ``(P, h, w)`` masks, with squares in the denominator, as in V-Net."""
    probabilities = logits.sigmoid().flatten(1)
    ground_truth = ground_truth.flatten(1)
    overlap = (probabilities * ground_truth).sum(dim=1)
    total = probabilities.square().sum(dim=1) + ground_truth.square().sum(dim=1) + 2 * eps
    return (1 - 2 * overlap / total).sum()


def _one_hot_classes(class_logits: Tensor, matches: list[Match], targets: list[Target]) -> Tensor:
    """``(B, N, K)`` one-hot classes of the matched queries, zero for the others."""
    classes = torch.zeros_like(class_logits, dtype=torch.float32)
    for image, match, target in zip(classes, matches, targets, strict=True):
        image[match.queries, target.labels[match.instances]] = 1
    return classes


def _image_scale(target: Target, rows: int) -> Tensor:
    """``(rows, 4)``: (w, h, w, h) of the image without padding."""
    height, width = target.image_size
    return target.boxes.new_tensor([width, height, width, height]).expand(rows, 4)


def _mean_over_processes(like: Tensor, counts: list[int]) -> Tensor:
    """Mean counts per process, each at least 1, so that all processes normalise equally."""
    mean = like.new_tensor([float(count) for count in counts])
    if _is_distributed():
        dist.all_reduce(mean)
        mean /= dist.get_world_size()
    return mean.clamp(min=1)


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
