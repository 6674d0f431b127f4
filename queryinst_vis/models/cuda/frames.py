"""Preprocessing on the device: resize, normalise and pad uint8 frames."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def to_network_input(
    frames: Tensor, size: tuple[int, int], padded: tuple[int, int], mean: Tensor, std: Tensor
) -> Tensor:
    """As ``data.transforms.to_network_input`` for frames of one size, up to rounding.

    Args:
        frames: ``(B, H, W, 3)`` uint8 RGB.
        size: ``(height, width)`` after resizing.
        padded: ``(height, width)`` of the result, at least ``size``.
        mean, std: ``(3, 1, 1)``, for pixel values 0..255.

    Returns:
        ``(B, 3, *padded)`` float32, zero-padded at the right and the bottom. Resized pixels are
        rounded to integers as by OpenCV, and may differ from OpenCV's by 1.
    """
    images = frames.permute(0, 3, 1, 2).float()
    if images.shape[2:] != size:
        images = F.interpolate(images, size, mode="bilinear", align_corners=False).round()
    images = (images - mean) / std
    return F.pad(images, (0, padded[1] - size[1], 0, padded[0] - size[0]))
