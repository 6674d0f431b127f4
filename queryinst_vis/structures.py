"""The nouns that every room passes around. No networks, no files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from queryinst_vis.masks import RLE, encode_region
from queryinst_vis.masks.paste import paste_masks, paste_regions

Embedding = Literal["track_head", "query"]
"""What describes an instance to the tracker: the track head's embedding, or the instance's query
as the detector's last stage leaves it."""


@dataclass
class Detections:
    """What a detector found in one frame, in pixels of the original frame.

    Attributes:
        boxes: ``(N, 4)`` float xyxy; not clipped to the frame.
        scores: ``(N,)`` float in 0..1.
        labels: ``(N,)`` int64, 0-based index into the class names.
        image_size: ``(height, width)`` of the original frame.
        mask_logits: ``(N, 28, 28)`` logits inside each box, or None for boxes only.
        embeddings: ``(N, D)`` association embeddings, or None where there are none.
        track_ids: ``(N,)`` int64 identities, or None before tracking.
        mask_threshold: probability from which on a pixel belongs to a mask.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    image_size: tuple[int, int]
    mask_logits: Tensor | None = None
    embeddings: Tensor | None = None
    track_ids: Tensor | None = None
    mask_threshold: float = 0.5

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor | slice | list[int]) -> Detections:
        """The detections at ``index`` (a mask, a slice or positions), as new Detections."""
        return self._map_tensors(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Detections:
        """A copy with all tensors on ``device``."""
        return self._map_tensors(lambda tensor: tensor.to(device))

    def _map_tensors(self, change: Callable[[Tensor], Tensor]) -> Detections:
        changed = {
            f.name: change(value)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **changed)

    def masks(self) -> Tensor:
        """``(N, H, W)`` bool masks in pixels of the original frame."""
        return paste_masks(self._logits(), self.boxes, self.image_size, self.mask_threshold)

    def rles(self) -> list[RLE]:
        """The masks as N compressed COCO RLEs, without ever pasting one into a whole frame."""
        return [
            encode_region(region, x, y, self.image_size) for region, x, y in self.mask_regions()
        ]

    def mask_regions(self) -> Iterator[tuple[np.ndarray, int, int]]:
        """Each mask as ``(region, x, y)``: bool pixels around its box, and where they begin."""
        return paste_regions(self._logits(), self.boxes, self.image_size, self.mask_threshold)

    def _logits(self) -> Tensor:
        if self.mask_logits is None:
            raise ValueError("these Detections hold boxes only: the model has no mask head output")
        return self.mask_logits


@dataclass
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
    has_mask: Tensor | None = None
    ignore: Tensor | None = None

    def __post_init__(self) -> None:
        if self.has_mask is None:
            self.has_mask = torch.ones_like(self.labels, dtype=torch.bool)

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


@dataclass
class Track:
    """One instance through a video.

    Attributes:
        track_id: identity, unique in the video.
        scores: ``{frame index: score}`` of the frames that show it, in frame order.
        labels: ``{frame index: class index}``.
        segmentations: ``{frame index: RLE}``.
        boxes: ``{frame index: (x0, y0, x1, y1)}`` in original pixels.
    """

    track_id: int
    scores: dict[int, float] = field(default_factory=dict)
    labels: dict[int, int] = field(default_factory=dict)
    segmentations: dict[int, RLE] = field(default_factory=dict)
    boxes: dict[int, tuple[float, float, float, float]] = field(default_factory=dict)

    def frames(self) -> Iterator[int]:
        """Indices of the frames that show it, ascending."""
        return iter(self.scores)

    @property
    def score(self) -> float:
        """Mean score over the frames that show the instance (MaskTrack R-CNN's video score)."""
        return sum(self.scores.values()) / len(self.scores)

    @property
    def label(self) -> int:
        """Class by majority vote over the frames; the lowest index wins a tie."""
        votes = list(self.labels.values())
        return min(set(votes), key=lambda label: (-votes.count(label), label))


@dataclass
class VideoResult:
    """The tracks of one video, gathered frame by frame."""

    tracks: dict[int, Track] = field(default_factory=dict)
    length: int = 0

    def add(self, detections: Detections) -> None:
        """Append the next frame's tracked detections (``track_ids`` >= 0 and unique)."""
        frame, self.length = self.length, self.length + 1
        for track_id, score, label, box, rle in zip(
            detections.track_ids.tolist(),
            detections.scores.tolist(),
            detections.labels.tolist(),
            detections.boxes.tolist(),
            detections.rles(),
            strict=True,
        ):
            track = self.tracks.setdefault(track_id, Track(track_id))
            track.scores[frame] = score
            track.labels[frame] = label
            track.boxes[frame] = tuple(box)
            track.segmentations[frame] = rle

    def __iter__(self) -> Iterator[Track]:
        return iter(self.tracks.values())

    def __len__(self) -> int:
        return len(self.tracks)
