"""Data types of training and the model: targets, batches, stage outputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(init=False)
class Target:
    """Ground truth of one network input image.

    Attributes:
        boxes: ``(M, 4)`` float xyxy in input pixels.
        labels: ``(M,)`` int64 class indices.
        masks: ``(M, H, W)`` bool at input size (unpadded, or padded like the batch).
        instance_ids: ``(M,)`` int64, equal for the same object in both frames of a pair.
        image_size: ``(height, width)`` of the image without padding.
        has_mask: ``(M,)`` bool, which instances have a mask annotation. The others have only a
            box, and their mask is all False. Default: all have one.
        ignore: ``(H, W)`` bool, the union of the ignore regions (crowds), at the size of the masks
            or of the image; None without such regions.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor
    instance_ids: Tensor
    image_size: tuple[int, int]
    has_mask: Tensor
    ignore: Tensor | None

    def __init__(
        self,
        boxes: Tensor,
        labels: Tensor,
        masks: Tensor,
        instance_ids: Tensor,
        image_size: tuple[int, int],
        has_mask: Tensor | None = None,
        ignore: Tensor | None = None,
    ) -> None:
        self.boxes, self.labels, self.masks = boxes, labels, masks
        self.instance_ids, self.image_size, self.ignore = instance_ids, image_size, ignore
        all_true = torch.ones_like(labels, dtype=torch.bool)
        self.has_mask = all_true if has_mask is None else has_mask

    def to(self, device: torch.device | str) -> Target:
        """A copy with all tensors on ``device``."""
        return Target(
            self.boxes.to(device),
            self.labels.to(device),
            self.masks.to(device),
            self.instance_ids.to(device),
            self.image_size,
            self.has_mask.to(device),
            None if self.ignore is None else self.ignore.to(device),
        )


@dataclass
class Batch:
    """A padded training batch.

    Attributes:
        images: ``(B, 3, H, W)`` float32, normalised, padded with zeros at right and bottom.
        targets: B targets (ground truth).
        reference: the other frame of every pair, row by row, or None for image training.
    """

    images: Tensor
    targets: list[Target]
    reference: Batch | None = None

    def to(self, device: torch.device | str) -> Batch:
        """A copy with all tensors on ``device``."""
        return Batch(
            self.images.to(device),
            [target.to(device) for target in self.targets],
            None if self.reference is None else self.reference.to(device),
        )


@dataclass
class StageOutput:
    """Output of one stage of the model for B images and N queries (paper eq. 1).

    Attributes:
        class_logits: ``(B, N, K)``.
        boxes: ``(B, N, 4)`` xyxy in input pixels, refined by this stage; carry gradient.
        queries: ``(B, N, C)`` for the next stage.
        q_star: ``(B, N, C)`` queries after self-attention, for DynConv(box).
        mask_q_star: ``(B, N, C)`` queries for DynConv(mask): ``q_star``, as published, unless masks
            have separate queries or attention.
    """

    class_logits: Tensor
    boxes: Tensor
    queries: Tensor
    q_star: Tensor
    mask_q_star: Tensor
