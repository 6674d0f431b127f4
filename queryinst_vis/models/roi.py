"""RoIAlign on an FPN: each box is pooled from one level, chosen by its size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn

FINEST_SCALE = 56  # boxes with sqrt(area) below twice this use the finest level
BOX_LIMIT = 1e6  # maximum box coordinate in input pixels


def assign_levels(boxes: Tensor, num_levels: int) -> Tensor:
    """FPN level of each ``(R, 4)`` xyxy box: ``floor(log2(sqrt(area) / 56))``, clamped.

    Boxes with NaN coordinates get the finest level; the losses report them.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).nan_to_num(0).clamp(min=0)
    scale = sides.prod(dim=1).sqrt()
    return torch.log2(scale / FINEST_SCALE + 1e-6).floor().clamp(0, num_levels - 1).long()


def to_rois(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes of B images, ``(R_b, 4)`` each, as ``(sum R_b, 5)``: image index and xyxy.

    The result is detached, and float32, since half precision would shift boxes by pixels. NaN and
    infinite coordinates, which would crash RoIAlign, are replaced; the losses report them.
    """
    flat = torch.cat(list(boxes)).detach().float()
    flat = flat.nan_to_num(0.0, BOX_LIMIT, -BOX_LIMIT).clamp(-BOX_LIMIT, BOX_LIMIT)
    image = [flat.new_full((len(rows), 1), index) for index, rows in enumerate(boxes)]
    return torch.cat((torch.cat(image), flat), dim=1)


def rows_by_level(levels: Tensor, num_levels: int) -> list[tuple[int, Tensor]]:
    """Each level that has boxes, with the row indices of its boxes.

    The coarsest level is always included, so that pooling no boxes gives an empty tensor.

    Args:
        levels: ``(R,)`` int64, from ``assign_levels``.
        num_levels: number of pyramid levels.
    """
    indices = [torch.nonzero(levels == level).squeeze(1) for level in range(num_levels)]
    return [
        (level, rows) for level, rows in enumerate(indices) if len(rows) or level == num_levels - 1
    ]


class RoIExtractor(nn.Module):
    """The pooling operator P of the paper's equations 1 to 3.

    Args:
        roi_size: s, bins per side.
        sampling_ratio: samples per bin and side; 0: adapt to the box size.
        finest_stride: stride of the finest map.
    """

    def __init__(self, roi_size: int, sampling_ratio: int = 2, finest_stride: int = 4) -> None:
        super().__init__()
        self.roi_size = roi_size
        self.sampling_ratio = sampling_ratio
        self.finest_stride = finest_stride

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Pool every box of every image from its level.

        Args:
            features: FPN maps ``(B, C, H_l, W_l)``, strides doubling from ``finest_stride``.
            boxes: B tensors ``(R_b, 4)``, xyxy in input pixels.

        Returns:
            ``(sum R_b, C, s, s)`` in the order of ``boxes``, with the dtype of the maps; no
            gradient flows to the boxes.
        """
        rois = to_rois(boxes)
        by_level = rows_by_level(assign_levels(rois[:, 1:], len(features)), len(features))
        pooled = [self.pool(features[level], rois[rows], level) for level, rows in by_level]
        return torch.cat(pooled)[torch.cat([rows for _, rows in by_level]).argsort()]

    def pool(self, feature: Tensor, rois: Tensor, level: int) -> Tensor:
        """Pool R boxes from the same map, ``(R, C, s, s)``.

        Args:
            feature: ``(B, C, H, W)``.
            rois: ``(R, 5)``, from ``to_rois``.
            level: level of the map; 0 is the finest.
        """
        scale = 1 / (self.finest_stride * 2**level)
        pooled = torchvision.ops.roi_align(
            feature.float(), rois, self.roi_size, scale, self.sampling_ratio, aligned=True
        )
        return pooled.to(feature.dtype)
