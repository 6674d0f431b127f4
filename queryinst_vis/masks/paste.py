"""Pasting small masks (28x28 logits in a box) into the image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from queryinst_vis.masks import InstanceMask, MaskRegion


def paste_region(
    probabilities: np.ndarray,
    box: Sequence[float],
    image_size: tuple[int, int],
    threshold: float = 0.5,
) -> MaskRegion:
    """Resample one small mask to the pixels of its box.

    Bilinear sampling inside an axis-aligned box is separable: first all rows, then all columns.
    The values are those of ``grid_sample(align_corners=False)`` with zero padding, as Mask R-CNN
    pastes its masks.

    Args:
        probabilities: ``(h, w)`` float32 mask probabilities in 0..1.
        box: xyxy in pixels of the image; may extend beyond it.
        image_size: ``(height, width)`` of the image.
        threshold: minimum probability of mask pixels.

    Returns:
        The pixels of the box, with contiguous columns as required by ``encode_region``.
    """
    height, width = image_size
    x0, y0, x1, y1 = box
    left, right = _pixel_span(x0, x1, width)
    top, bottom = _pixel_span(y0, y1, height)
    cells = np.zeros(np.add(probabilities.shape, 2), dtype=np.float32)  # padded with zeros
    cells[1:-1, 1:-1] = probabilities
    rows = _interpolate(cells, *_positions(top, bottom, y0, y1, probabilities.shape[0]))
    columns = np.ascontiguousarray(rows.T)
    columns = _interpolate(columns, *_positions(left, right, x0, x1, probabilities.shape[1]))
    return MaskRegion((columns >= np.float32(threshold)).T, left, top)


def _pixel_span(low: float, high: float, limit: int) -> tuple[int, int]:
    """Range of pixels covered by a box side, with a margin of one pixel for the interpolation."""
    first = min(max(math.floor(low) - 1, 0), limit)
    last = max(min(math.ceil(high) + 1, limit), first)
    return first, last


def _positions(
    first: int, last: int, low: float, high: float, cells: int
) -> tuple[np.ndarray, np.ndarray]:
    """Position of pixels in the padded cells of a box side: index of the cell, and fraction.

    Args:
        first, last: of the pixels, ``last`` excluded.
        low, high: ends of the box side.
        cells: of the side, without the two of the padding.
    """
    extent = max(high - low, 1e-6)
    position = np.arange(first, last, dtype=np.float32) + 0.5  # of the centres
    position -= low
    position /= extent
    position *= cells
    position += 0.5
    np.minimum(np.maximum(position, 0, out=position), cells + 1, out=position)
    before = np.minimum(position.astype(np.intp), cells)
    position -= before.astype(np.float32)
    return before, position


def _interpolate(values: np.ndarray, before: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Linear interpolation between rows ``before`` and ``before + 1`` with weight ``share``.

    As fast as a matrix product, but without the threads of numpy's BLAS, which keep spinning
    afterwards and occupy cores that the network needs.
    """
    result = (values[1:] - values[:-1]).take(before, axis=0)
    result *= share[:, None]
    result += values.take(before, axis=0)
    return result


def paste_masks(
    mask_logits: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float = 0.5
) -> list[InstanceMask]:
    """Paste ``(N, h, w)`` mask logits into their ``(N, 4)`` boxes, one by one.

    Always on the CPU: for such small arrays, call overhead dominates.
    """
    probabilities = mask_logits.detach().float().sigmoid().cpu().numpy()
    return [
        InstanceMask(image_size, paste_region(mask, box, image_size, threshold))
        for mask, box in zip(probabilities, boxes.tolist(), strict=True)
    ]
