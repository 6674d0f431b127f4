"""RoIAlign: torchvision's, and one for the CPU that reads whole feature vectors at a time.

torchvision's CPU kernel walks channel by channel, in one thread, and copies a channels-last map
first. RoIAlign is a weighted sum of pixels: each bin is a bag of feature vectors, which
``embedding_bag`` weighs and adds with vector instructions, and whose backward it knows too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor


def roi_align(feature: Tensor, rois: Tensor, size: int, scale: float, samples: int) -> Tensor:
    """Pool boxes from one map (Mask R-CNN's RoIAlign, "aligned": no rounding, half-pixel shift).

    Args:
        feature: ``(B, C, H, W)``.
        rois: ``(R, 5)`` float32, image index and xyxy in input pixels.
        size: s, bins per side.
        scale: map pixels per input pixel.
        samples: per bin and side; 0 adapts to the size of the box.

    Returns:
        ``(R, C, s, s)`` in the map's precision; no gradient flows to ``rois``.
    """
    if feature.device.type == "cpu" and samples > 0:
        return _sum_of_bags(feature, rois.detach(), size, scale, samples)
    pooled = torchvision.ops.roi_align(
        feature.float(), rois.detach(), size, scale, samples, aligned=True
    )
    return pooled.to(feature.dtype)


def _sum_of_bags(feature: Tensor, rois: Tensor, size: int, scale: float, samples: int) -> Tensor:
    """A bag holds the pixels that a bin reads: 2 x samples rows times 2 x samples columns."""
    batch, channels, height, width = feature.shape
    pixels = feature.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    x0, y0, x1, y1 = (rois[:, 1:] * scale - 0.5).unbind(dim=1)
    columns, x_weights = _taps(x0, x1, width, size, samples)
    rows, y_weights = _taps(y0, y1, height, size, samples)
    image = rois[:, 0].long().view(-1, 1, 1, 1, 1)
    # (R, row of bins, column of bins, row in the bin, column in the bin)
    bags = (image * height + rows[:, :, None, :, None]) * width + columns[:, None, :, None, :]
    weights = y_weights[:, :, None, :, None] * x_weights[:, None, :, None, :]
    taps = (2 * samples) ** 2
    pooled = F.embedding_bag(
        bags.reshape(-1, taps),
        pixels,
        per_sample_weights=weights.reshape(-1, taps).to(pixels.dtype),
        mode="sum",
    )
    return pooled.view(len(rois), size, size, channels).permute(0, 3, 1, 2)


def _taps(low: Tensor, high: Tensor, limit: int, size: int, samples: int) -> tuple[Tensor, Tensor]:
    """What the bins of R box sides read along one axis: bilinear interpolation at each sample.

    Args:
        low, high: ``(R,)`` ends in map pixels, 0 being the first pixel's centre.
        limit: pixels of the map.
        size, samples: as for ``roi_align``.

    Returns:
        ``(R, size, 2 * samples)`` int64 pixels, and their weights. Samples in the outermost
        pixel's outer half take its value; those more than a pixel outside of the map are 0.
    """
    steps = (torch.arange(size * samples, device=low.device, dtype=low.dtype) + 0.5) / samples
    points = low[:, None] + steps * ((high - low) / size)[:, None]
    inside = (points >= -1) & (points <= limit)
    points = points.nan_to_num(0).clamp(0, limit - 1)
    first = points.floor()
    share = points - first
    pixels = torch.stack((first, (first + 1).clamp(max=limit - 1)), dim=-1).long()
    weights = torch.stack((1 - share, share), dim=-1) * inside[..., None] / samples
    return pixels.flatten(1).view(-1, size, 2 * samples), weights.view(-1, size, 2 * samples)
