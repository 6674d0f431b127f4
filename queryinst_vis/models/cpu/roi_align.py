"""RoIAlign for CPUs, on whole feature vectors and on the boxes of all levels together.

torchvision's CPU kernel loops over channels in one thread, and copies channels-last maps first.
RoIAlign is a weighted sum of pixels: here ``embedding_bag`` computes the weighted sum of each
bin's feature vectors with vector instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from queryinst_vis.models.roi import RoIExtractor, assign_levels, rows_by_level, to_rois


class CpuRoIExtractor(RoIExtractor):
    """A faster ``RoIExtractor`` for CPUs; adaptive sampling is left to torchvision.

    Args:
        extractor: the module to replace.
    """

    def __init__(self, extractor: RoIExtractor) -> None:
        super().__init__(extractor.roi_size, extractor.sampling_ratio, extractor.finest_stride)

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """As ``RoIExtractor``."""
        if self.sampling_ratio == 0:
            return super().forward(features, boxes)
        rois = to_rois(boxes)
        levels = assign_levels(rois[:, 1:], len(features))
        scales = 1 / (self.finest_stride * 2.0**levels)
        sizes = torch.tensor([feature.shape[2:] for feature in features])[levels]
        points, weights = sampling_points(rois, scales, sizes, self.roi_size, self.sampling_ratio)
        by_level = rows_by_level(levels, len(features))
        pooled = [pool(features[level], points[rows], weights[rows]) for level, rows in by_level]
        return torch.cat(pooled)[torch.cat([rows for _, rows in by_level]).argsort()]


def sampling_points(
    rois: Tensor, scales: Tensor, sizes: Tensor, size: int, samples: int
) -> tuple[Tensor, Tensor]:
    """The pixels read by each bin, 2n rows of 2n columns, and their bilinear weights.

    Boxes are not rounded, but shifted by half a pixel (torchvision's ``aligned``).

    Args:
        rois: ``(R, 5)`` float, image index and xyxy in input pixels; no gradient flows to them.
        scales: ``(R,)`` scale of each box's map, 1 / stride.
        sizes: ``(R, 2)`` int64 height and width of each box's map.
        size: s, bins per side.
        samples: n, samples per bin and side.

    Returns:
        ``(R, s * s, 4 n * n)`` int64 rows of the map flattened to ``(B * H * W, C)``, and their
        weights.
    """
    corners = rois.detach()[:, 1:].unflatten(1, (2, 2)).flip(2) * scales[:, None, None] - 0.5
    pixels, weights = _taps(corners[:, 0], corners[:, 1], sizes, size, samples)
    image = rois[:, 0].long().view(-1, 1, 1, 1, 1)
    height, width = sizes.view(-1, 2, 1, 1, 1, 1).unbind(dim=1)
    # (R, row of bins, column of bins, row in the bin, column in the bin)
    rows, columns = pixels[:, 0, :, None, :, None], pixels[:, 1, None, :, None, :]
    points = (image * height + rows) * width + columns
    products = weights[:, 0, :, None, :, None] * weights[:, 1, None, :, None, :]
    shape = (len(rois), size**2, (2 * samples) ** 2)
    return points.reshape(shape), products.reshape(shape)


def pool(feature: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """Pool R boxes: weighted sums over the pixels of each bin.

    Args:
        feature: ``(B, C, H, W)``, the map of these boxes.
        points, weights: ``(R, s * s, 4 n * n)`` of these boxes, from ``sampling_points``.

    Returns:
        ``(R, C, s, s)`` with the dtype of the map.
    """
    pixels = feature.permute(0, 2, 3, 1).flatten(0, 2)
    bin_weights = weights.flatten(0, 1).to(pixels.dtype)
    sum_rows = _SumRows.apply if pixels.requires_grad else _sum_rows
    pooled = sum_rows(pixels, points.flatten(0, 1), bin_weights)
    size = round(points.shape[1] ** 0.5)
    return pooled.view(len(points), size, size, feature.shape[1]).permute(0, 3, 1, 2)


def _sum_rows(pixels: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """``(bins, C)`` weighted sums of rows of ``(pixels, C)``."""
    return F.embedding_bag(points, pixels, per_sample_weights=weights, mode="sum")


class _SumRows(torch.autograd.Function):
    """``_sum_rows`` with a backward pass for the pixels that takes a third of PyTorch's time.

    PyTorch sorts the rows first to combine duplicates, of which there are few here.
    """

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(points, weights)
        ctx.shape, ctx.dtype = pixels.shape, pixels.dtype
        return _sum_rows(pixels, points, weights)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        points, weights = ctx.saved_tensors
        # bfloat16 is too coarse to accumulate in
        sum_dtype = torch.promote_types(ctx.dtype, torch.float32)
        parts = weights.to(sum_dtype)[..., None] * gradient.to(sum_dtype)[:, None]
        pixel_gradient = torch.zeros(ctx.shape, dtype=sum_dtype, device=gradient.device)
        pixel_gradient.index_add_(0, points.flatten(), parts.flatten(0, 1))
        return pixel_gradient.to(ctx.dtype), None, None


def _taps(
    low: Tensor, high: Tensor, limits: Tensor, size: int, samples: int
) -> tuple[Tensor, Tensor]:
    """Bilinear interpolation taps of each sample along both axes.

    Args:
        low, high: ``(R, 2)`` ends of the box sides, y and x, in map pixels; 0 is the centre of the
            first pixel.
        limits: ``(R, 2)`` height and width of the map.
        size, samples: as for ``sampling_points``.

    Returns:
        ``(R, 2, size, 2 * samples)`` int64 pixel indices, and their weights. Samples beyond the
        centre of a border pixel take its value; those more than a pixel outside the map are 0.
    """
    steps = (torch.arange(size * samples, device=low.device, dtype=low.dtype) + 0.5) / samples
    points = low[..., None] + steps * ((high - low) / size)[..., None]
    limits = limits[..., None].to(points.dtype)
    inside = (points >= -1) & (points <= limits)
    points = points.nan_to_num(0).clamp(min=0).minimum(limits - 1)
    first = points.floor()
    fraction = points - first
    pixels = torch.stack((first, (first + 1).minimum(limits - 1)), dim=-1).long()
    weights = torch.stack((1 - fraction, fraction), dim=-1) * inside[..., None] / samples
    shape = (*low.shape, size, 2 * samples)
    return pixels.view(shape), weights.view(shape)
