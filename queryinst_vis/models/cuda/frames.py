"""From frames to the network input on the device: resize, normalise and pad uint8 frames."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def to_network_input(
    frames: Tensor, size: tuple[int, int], padded: tuple[int, int], mean: Tensor, std: Tensor
) -> Tensor:
    """What ``data.transforms.to_network_input`` makes of frames of one size, but for rounding.

    Args:
        frames: ``(B, H, W, 3)`` uint8 RGB.
        size: ``(height, width)`` to which they are resized.
        padded: ``(height, width)`` of the result, no smaller.
        mean, std: ``(3, 1, 1)`` in units of 0..255.

    Returns:
        ``(B, 3, *padded)`` float32, zero where padded at the right and the bottom. Resized pixels
        are rounded to integers, as OpenCV does; they may differ from its by 1.
    """
    images = frames.permute(0, 3, 1, 2).float()
    if images.shape[2:] != size:
        images = F.interpolate(images, size, mode="bilinear", align_corners=False).round()
    images = (images - mean) / std
    return F.pad(images, (0, padded[1] - size[1], 0, padded[0] - size[0]))
