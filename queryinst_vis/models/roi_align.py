"""RoIAlign for the CPU: whole feature vectors at a time, where boxes of all maps read at once.

torchvision's CPU kernel walks channel by channel, in one thread, and copies a channels-last map
first. RoIAlign is a weighted sum of pixels: each bin is a bag of feature vectors, which
``embedding_bag`` weighs and adds with vector instructions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def has_bags(device: torch.device, samples: int) -> bool:
    """Whether bags serve here: on a CPU, with a fixed number of samples."""
    return device.type == "cpu" and samples > 0


def fill_bags(
    rois: Tensor, scales: Tensor, sizes: Tensor, size: int, samples: int
) -> tuple[Tensor, Tensor]:
    """The pixels that bins read: of 2 x samples rows, 2 x samples columns each.

    Boxes are not rounded, and shifted by half a pixel (torchvision's ``aligned``).

    Args:
        rois: ``(R, 5)`` float, image index and xyxy in input pixels; no gradient flows to them.
        scales: ``(R,)`` pixels of the box's map per input pixel.
        sizes: ``(R, 2)`` int64 height and width of the box's map.
        size: s, bins per side.
        samples: n, per bin and side.

    Returns:
        ``(R, s * s, 4 n * n)`` int64 rows of the map's ``(B * H * W, C)`` vectors, and their
        weights.
    """
    corners = rois.detach()[:, 1:].unflatten(1, (2, 2)).flip(2) * scales[:, None, None] - 0.5
    pixels, weights = _taps(corners[:, 0], corners[:, 1], sizes, size, samples)
    image = rois[:, 0].long().view(-1, 1, 1, 1, 1)
    height, width = sizes.view(-1, 2, 1, 1, 1, 1).unbind(dim=1)
    # (R, row of bins, column of bins, row in the bin, column in the bin)
    rows, columns = pixels[:, 0, :, None, :, None], pixels[:, 1, None, :, None, :]
    bags = (image * height + rows) * width + columns
    shares = weights[:, 0, :, None, :, None] * weights[:, 1, None, :, None, :]
    shape = (len(rois), size**2, (2 * samples) ** 2)
    return bags.reshape(shape), shares.reshape(shape)


def pool_bags(feature: Tensor, bags: Tensor, weights: Tensor) -> Tensor:
    """The weighted sums of the bags of R boxes.

    Args:
        feature: ``(B, C, H, W)``, the map that they read.
        bags, weights: ``(R, s * s, 4 n * n)`` of these boxes, by ``fill_bags``.

    Returns:
        ``(R, C, s, s)`` in the map's precision.
    """
    pixels = feature.permute(0, 2, 3, 1).flatten(0, 2)
    shares = weights.flatten(0, 1).to(pixels.dtype)
    sum_bags = _SumBags.apply if pixels.requires_grad else _sum_bags
    pooled = sum_bags(pixels, bags.flatten(0, 1), shares)
    size = round(bags.shape[1] ** 0.5)
    return pooled.view(len(bags), size, size, feature.shape[1]).permute(0, 3, 1, 2)


def _sum_bags(pixels: Tensor, bags: Tensor, weights: Tensor) -> Tensor:
    """``(bags, C)`` weighted sums of rows of ``(pixels, C)``."""
    return F.embedding_bag(bags, pixels, per_sample_weights=weights, mode="sum")


class _SumBags(torch.autograd.Function):
    """``_sum_bags`` with a gradient for the pixels, and in a third of PyTorch's time.

    PyTorch sorts the rows first, to add up those of one pixel, of which there are few here.
    """

    @staticmethod
    def forward(ctx, pixels: Tensor, bags: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(bags, weights)
        ctx.shape, ctx.dtype = pixels.shape, pixels.dtype
        return _sum_bags(pixels, bags, weights)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        bags, weights = ctx.saved_tensors
        # bfloat16 is too coarse to add up in
        wide = torch.promote_types(ctx.dtype, torch.float32)
        parts = weights.to(wide)[..., None] * gradient.to(wide)[:, None]
        of_pixels = torch.zeros(ctx.shape, dtype=wide, device=gradient.device)
        of_pixels.index_add_(0, bags.flatten(), parts.flatten(0, 1))
        return of_pixels.to(ctx.dtype), None, None


def _taps(
    low: Tensor, high: Tensor, limits: Tensor, size: int, samples: int
) -> tuple[Tensor, Tensor]:
    """What bins read along both axes: bilinear interpolation at each sample.

    Args:
        low, high: ``(R, 2)`` ends of the box sides, y and x, in map pixels, 0 being the first
            pixel's centre.
        limits: ``(R, 2)`` pixels of the map.
        size, samples: as for ``fill_bags``.

    Returns:
        ``(R, 2, size, 2 * samples)`` int64 pixels, and their weights. Samples in the outermost
        pixel's outer half take its value; those more than a pixel outside of the map are 0.
    """
    steps = (torch.arange(size * samples, device=low.device, dtype=low.dtype) + 0.5) / samples
    points = low[..., None] + steps * ((high - low) / size)[..., None]
    limits = limits[..., None].to(points.dtype)
    inside = (points >= -1) & (points <= limits)
    points = points.nan_to_num(0).clamp(min=0).minimum(limits - 1)
    first = points.floor()
    share = points - first
    pixels = torch.stack((first, (first + 1).minimum(limits - 1)), dim=-1).long()
    weights = torch.stack((1 - share, share), dim=-1) * inside[..., None] / samples
    shape = (*low.shape, size, 2 * samples)
    return pixels.view(shape), weights.view(shape)
