"""Preprocessing of frames to network input: resizing, normalisation and padding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from queryinst_vis.config import Config
from queryinst_vis.utils.images import check_frame


def fit_size(height: int, width: int, short: float, long: float) -> tuple[int, int]:
    """``(height, width)`` of an image resized to fit into ``long`` x ``short`` pixels.

    With the aspect ratio kept, this is the largest size whose long side is at most ``long`` and
    whose short side is at most ``short``. Halves are rounded up.
    """
    scale = min(long / max(height, width), short / min(height, width))
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize ``(H, W, 3)`` uint8 images bilinearly, in training and inference (as published)."""
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def to_network_input(
    frames: Sequence[np.ndarray],
    short: int,
    long: int,
    mean: Sequence[float],
    std: Sequence[float],
    divisor: int = 32,
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Resize, normalise and pad frames.

    Args:
        frames: B frames, each ``(H, W, 3)`` uint8 RGB; sizes may differ.
        short, long: maximum short and long side after resizing, in pixels.
        mean, std: per RGB channel, for pixel values 0..255.
        divisor: the padded height and width are multiples of this.

    Returns:
        ``images``, ``(B, 3, H, W)`` float32, zero-padded at the right and the bottom, and
        ``image_sizes``, the ``(height, width)`` of each frame without padding.

    Raises:
        InputError: a frame is not ``(H, W, 3)`` uint8.
    """
    resized: list[np.ndarray] = []
    sizes: list[tuple[int, int]] = []
    for frame in frames:
        check_frame(frame)
        height, width = frame.shape[:2]
        sizes.append(fit_size(height, width, short, long))
        resized.append(resize_image(frame, *sizes[-1]))
    return pad_and_normalise(resized, mean, std, padded_size(sizes, divisor)), sizes


def network_input(
    frames: Sequence[np.ndarray], config: Config
) -> tuple[Tensor, list[tuple[int, int]]]:
    """``to_network_input`` with the test size, mean and std of a config."""
    size, backbone = config.input, config.model.backbone
    return to_network_input(frames, size.test_short, size.test_long, backbone.mean, backbone.std)


def padded_size(sizes: Sequence[tuple[int, int]], divisor: int = 32) -> tuple[int, int]:
    """The smallest ``(height, width)`` in multiples of ``divisor`` that contains all ``sizes``."""
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def pad_and_normalise(
    images: Sequence[np.ndarray],
    mean: Sequence[float],
    std: Sequence[float],
    size: tuple[int, int],
) -> Tensor:
    """``(image - mean) / std`` of uint8 images: ``(B, 3, *size)`` float32, zero-padded."""
    shape = (len(images), 3, *size)
    batch = torch.empty(shape, memory_format=torch.channels_last)
    table = _lookup_table(tuple(mean), tuple(std))
    for padded, image in zip(batch.permute(0, 2, 3, 1).numpy(), images, strict=True):
        height, width = image.shape[:2]
        padded[height:], padded[:height, width:] = 0, 0
        # one pass over the pixels instead of three (convert, subtract, divide)
        cv2.LUT(np.ascontiguousarray(image), table, dst=padded[:height, :width])
    return batch


@lru_cache(maxsize=8)
def _lookup_table(mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """``(1, 256, 3)`` float32: the normalised value of every uint8 value, per channel."""
    offset, scale = (np.array(values, np.float32) for values in (mean, std))
    return (np.arange(256, dtype=np.float32)[None, :, None] - offset) / scale
