"""Data types shared by the whole package: detections, targets, batches, stage outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from queryinst_vis.masks import RLE, InstanceMask
from queryinst_vis.masks.paste import paste_masks

Embedding = Literal["track_head", "query"]
"""What describes an instance to the tracker: the track head's embedding, or the instance's query
as the detector's last stage leaves it."""

_SHOWN = 5  # instances in the repr of Detections


@dataclass(repr=False)
class Detections:
    """What a detector found in one frame, in pixels of the original frame.

    Attributes:
        boxes: ``(N, 4)`` float xyxy; not clipped to the frame.
        scores: ``(N,)`` float in 0..1.
        labels: ``(N,)`` int64, 0-based index into the class names.
        image_size: ``(height, width)`` of the original frame.
        mask_logits: ``(N, 28, 28)`` logits inside each box, or None.
        embeddings: ``(N, D)`` association embeddings, or None where there are none.
        track_ids: ``(N,)`` int64 identities, or None before tracking.
        mask_threshold: probability from which on a pixel belongs to a mask.
        pixel_masks: N masks of a detector that gives pixels or RLEs instead of logits, or None.
        of_damaged_frame: the frame could not be decoded, so nothing is found in it.

    Masks are pasted into the frame when they are first asked for, and kept: do not change
    ``boxes`` or ``mask_logits`` afterwards, but make new Detections with ``dataclasses.replace``.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    image_size: tuple[int, int]
    mask_logits: Tensor | None = None
    embeddings: Tensor | None = None
    track_ids: Tensor | None = None
    mask_threshold: float = 0.5
    pixel_masks: list[InstanceMask] | None = None
    of_damaged_frame: bool = False
    _pasted: list[InstanceMask] | None = field(default=None, init=False, compare=False)

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        count, (height, width) = len(self), self.image_size
        head = f"{count} {'instance' if count == 1 else 'instances'} in {width}x{height}"
        if self.has_masks:
            head += ", with masks"
        rows = [self._describe(row) for row in range(min(count, _SHOWN))]
        if count > _SHOWN:
            rows.append(f"and {count - _SHOWN} more")
        return f"Detections({head}{': ' if rows else ''}{'; '.join(rows)})"

    def _describe(self, row: int) -> str:
        name = "" if self.track_ids is None else f"#{int(self.track_ids[row])} "
        box = ", ".join(f"{side:.0f}" for side in self.boxes[row].tolist())
        return f"{name}label {int(self.labels[row])}, {float(self.scores[row]):.2f} at ({box})"

    def __getitem__(self, index: Tensor | slice | list[int]) -> Detections:
        """The detections at ``index`` (a mask, a slice or positions), as new Detections."""

        def choose(masks: list[InstanceMask]) -> list[InstanceMask]:
            rows = torch.arange(len(masks))[index.cpu() if isinstance(index, Tensor) else index]
            return [masks[row] for row in rows.tolist()]

        return self._map(lambda tensor: tensor[index], choose)

    def to(self, device: torch.device | str) -> Detections:
        """A copy with all tensors on ``device``."""
        return self._map(lambda tensor: tensor.to(device), list)

    def _map(
        self,
        tensors: Callable[[Tensor], Tensor],
        masks: Callable[[list[InstanceMask]], list[InstanceMask]],
    ) -> Detections:
        """A copy with these changes to every tensor and to the lists of masks."""
        changed: dict[str, Any] = {
            f.name: tensors(value)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        result = replace(self, **changed)
        result.pixel_masks = None if self.pixel_masks is None else masks(self.pixel_masks)
        result._pasted = None if self._pasted is None else masks(self._pasted)
        return result

    @property
    def has_masks(self) -> bool:
        """Whether there are masks, or boxes alone."""
        return self.mask_logits is not None or self.pixel_masks is not None

    def masks(self) -> Tensor:
        """``(N, H, W)`` bool masks in pixels of the original frame."""
        frames = torch.zeros((len(self), *self.image_size), dtype=torch.bool)
        for frame, mask in zip(frames.numpy(), self.instance_masks(), strict=True):
            mask.write(frame)
        return frames.to(self.boxes.device)

    def rles(self) -> list[RLE]:
        """The masks as N compressed COCO RLEs, without ever pasting one into a whole frame."""
        return [mask.rle for mask in self.instance_masks()]

    def instance_masks(self) -> list[InstanceMask]:
        """The N masks as pixels around each box and as RLEs, each computed once.

        Raises:
            ValueError: there are boxes only.
        """
        if self.pixel_masks is not None:
            return self.pixel_masks
        if self._pasted is None:
            if self.mask_logits is None:
                raise ValueError("these Detections hold boxes only: the detector gave no masks")
            self._pasted = paste_masks(
                self.mask_logits, self.boxes, self.image_size, self.mask_threshold
            )
        return self._pasted


@dataclass(init=False)
class Target:
    """Ground truth of one network input image.

    Attributes:
        boxes: ``(M, 4)`` float xyxy in input pixels.
        labels: ``(M,)`` int64 class indices.
        masks: ``(M, H, W)`` bool at input size (unpadded, or padded like the batch).
        instance_ids: ``(M,)`` int64, equal for the same object in both frames of a pair.
        image_size: ``(height, width)`` of the image without its padding.
        has_mask: ``(M,)`` bool, which instances have a known mask. The others are annotated by
            their box alone, and their mask is all False. Default: every instance has one.
        ignore: ``(H, W)`` bool, the union of the regions in which nothing is known (crowds), of
            the masks' size or of the image's; None without such a region.
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
        known = torch.ones_like(labels, dtype=torch.bool) if has_mask is None else has_mask
        self.has_mask = known

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
        targets: B ground truths.
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
    """What one of the model's stages says about B images and N queries (paper eq. 1).

    Attributes:
        class_logits: ``(B, N, K)``.
        boxes: ``(B, N, 4)`` xyxy in input pixels, refined by this stage; carry gradient.
        queries: ``(B, N, C)`` for the next stage.
        q_star: ``(B, N, C)`` queries after self-attention, read by DynConv(box).
        mask_q_star: ``(B, N, C)`` what DynConv(mask) reads: q_star itself, as published, unless
            masks have queries or an attention of their own.
    """

    class_logits: Tensor
    boxes: Tensor
    queries: Tensor
    q_star: Tensor
    mask_q_star: Tensor
