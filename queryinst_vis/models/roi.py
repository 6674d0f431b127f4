"""RoIAlign over an FPN: every box reads the level that fits its size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

FINEST_SCALE = 56  # boxes up to twice this size (sqrt of the area) read the finest level


def assign_levels(boxes: Tensor, num_levels: int) -> Tensor:
    """FPN level of each ``(R, 4)`` xyxy box: ``floor(log2(sqrt(area) / 56))``, clamped."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    scale = sides.prod(dim=1).sqrt()
    return torch.log2(scale / FINEST_SCALE + 1e-6).floor().clamp(0, num_levels - 1).long()


class RoIExtractor(nn.Module):
    """The pooling operator P of the paper's equations 1 to 3."""

    def __init__(self, roi_size: int, sampling_ratio: int = 2, finest_stride: int = 4) -> None:
        super().__init__()
        self.roi_size = roi_size
        self.sampling_ratio = sampling_ratio
        self.finest_stride = finest_stride

    def forward(self, features: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """Pool every box of every image from its level.

        Args:
            features: FPN maps ``(B, C, H_l, W_l)``, strides doubling from ``finest_stride``.
            boxes: B tensors ``(R_b, 4)``, xyxy in input pixels.

        Returns:
            ``(sum R_b, C, roi_size, roi_size)`` in the order of ``boxes``.
        """
        counts = [len(b) for b in boxes]
        flat = torch.cat(boxes).to(features[0].dtype)
        image = torch.arange(len(boxes), device=flat.device).repeat_interleave(
            torch.tensor(counts, device=flat.device)
        )
        rois = torch.cat((image[:, None].to(flat.dtype), flat), dim=1)
        levels = assign_levels(flat, len(features))
        pooled = features[0].new_zeros(
            len(rois), features[0].shape[1], self.roi_size, self.roi_size
        )
        for level, feature in enumerate(features):
            rows = torch.nonzero(levels == level).squeeze(1)
            if len(rows) == 0:
                continue
            read = roi_align(
                feature,
                rois[rows],
                self.roi_size,
                spatial_scale=1 / (self.finest_stride * 2**level),
                sampling_ratio=self.sampling_ratio,
                aligned=True,
            )
            pooled = pooled.index_copy(0, rows, read)
        return pooled
