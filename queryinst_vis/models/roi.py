"""RoIAlign over an FPN: every box reads the level that fits its size."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from queryinst_vis.models.cpu.lazy_pyramid import LazyPyramid
from queryinst_vis.models.roi_align import fill_bags, has_bags, pool_bags

FINEST_SCALE = 56  # boxes up to twice this size (sqrt of the area) read the finest level


def assign_levels(boxes: Tensor, num_levels: int) -> Tensor:
    """FPN level of each ``(R, 4)`` xyxy box: ``floor(log2(sqrt(area) / 56))``, clamped.

    Boxes that are not numbers read the finest: whoever reads their features has to object.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).nan_to_num(0).clamp(min=0)
    scale = sides.prod(dim=1).sqrt()
    return torch.log2(scale / FINEST_SCALE + 1e-6).floor().clamp(0, num_levels - 1).long()


class RoIExtractor(nn.Module):
    """The pooling operator P of the paper's equations 1 to 3."""

    def __init__(self, roi_size: int, sampling_ratio: int = 2, finest_stride: int = 4) -> None:
        super().__init__()
        self.roi_size = roi_size
        self.sampling_ratio = sampling_ratio
        self.finest_stride = finest_stride

    def forward(self, features: list[Tensor] | LazyPyramid, boxes: list[Tensor]) -> Tensor:
        """Pool every box of every image from its level.

        Args:
            features: FPN maps ``(B, C, H_l, W_l)``, strides doubling from ``finest_stride``.
            boxes: B tensors ``(R_b, 4)``, xyxy in input pixels.

        Returns:
            ``(sum R_b, C, roi_size, roi_size)`` in the order of ``boxes``, in the maps'
            precision; no gradient flows to the boxes.
        """
        flat = torch.cat(boxes).detach().float()  # half precision would move boxes by pixels
        image = torch.cat([flat.new_full((len(b), 1), index) for index, b in enumerate(boxes)])
        rois = torch.cat((image, flat), dim=1)
        levels = assign_levels(flat, len(features))
        in_bags = has_bags(flat.device, self.sampling_ratio)
        if in_bags:
            scales = 1 / (self.finest_stride * 2.0**levels)
            sizes = torch.tensor([_map_size(features, level) for level in range(len(features))])
            bags, weights = fill_bags(
                rois, scales, sizes[levels], self.roi_size, self.sampling_ratio
            )
        rows, pooled = [], []
        for level in range(len(features)):
            mine = torch.nonzero(levels == level).squeeze(1)
            if len(mine) == 0 and level < len(features) - 1:  # the last one, if only for its shape
                continue
            scale = 1 / (self.finest_stride * 2**level)
            lazy = isinstance(features, LazyPyramid)
            feature = features.around(level, rois[mine], scale) if lazy else features[level]
            rows.append(mine)
            if in_bags:
                pooled.append(pool_bags(feature, bags[mine], weights[mine]))
            else:
                pooled.append(self._pool(feature, rois[mine], scale))
        return torch.cat(pooled)[torch.cat(rows).argsort()]

    def _pool(self, feature: Tensor, rois: Tensor, scale: float) -> Tensor:
        """``(R, C, s, s)`` by torchvision, in the map's precision."""
        pooled = torchvision.ops.roi_align(
            feature.float(), rois, self.roi_size, scale, self.sampling_ratio, aligned=True
        )
        return pooled.to(feature.dtype)


def _map_size(features: list[Tensor] | LazyPyramid, level: int) -> tuple[int, int]:
    """Height and width of a map, which a lazy pyramid need not make for that."""
    lazy = isinstance(features, LazyPyramid)
    return tuple(features.size(level) if lazy else features[level].shape[2:])
