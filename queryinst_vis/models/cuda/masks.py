"""Mask pasting and run-length encoding with static shapes, on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 1 << 25  # mask pixels per chunk, at about 20 bytes each


def find_run_boundaries(
    mask_logits: Tensor,
    boxes: Tensor,
    image_size: tuple[int, int],
    threshold: float,
    capacity: int,
) -> tuple[Tensor, Tensor]:
    """Boundaries between background and foreground runs of pasted masks, in COCO's column order.

    Args:
        mask_logits: ``(N, h, w)``.
        boxes: ``(N, 4)`` xyxy in image pixels; may extend beyond the image.
        image_size: ``(height, width)`` of the image.
        threshold: minimum probability of mask pixels.
        capacity: maximum number of boundaries to return per mask.

    Returns:
        ``(N, capacity)`` int32 indices among the mask's ``height * width`` pixels, ascending and
        padded with ``height * width``; and the ``(N,)`` int32 number of boundaries, which may
        exceed the capacity.
    """
    rows = max(_CHUNK // (image_size[0] * image_size[1]), 1)
    parts = [
        _boundaries(paste(logits, part, image_size, threshold), capacity)
        for logits, part in zip(mask_logits.split(rows), boxes.split(rows), strict=True)
    ]
    positions, counts = zip(*parts, strict=True)
    return torch.cat(positions), torch.cat(counts)


def paste(
    mask_logits: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float
) -> Tensor:
    """Paste box masks into the whole frame, with the same pixels as ``masks.paste.paste_region``.

    Args:
        mask_logits, boxes, image_size, threshold: as for ``find_run_boundaries``.

    Returns:
        ``(N, height, width)`` bool.
    """
    height, width = image_size
    mask_height, mask_width = mask_logits.shape[1:]
    cells = F.pad(mask_logits.float().sigmoid(), (1, 1, 1, 1))
    x0, y0, x1, y1 = boxes.float().unbind(1)
    row, row_fraction, row_inside = _positions(y0, y1, height, mask_height)
    column, column_fraction, column_inside = _positions(x0, x1, width, mask_width)
    index = row[:, :, None].expand(-1, -1, mask_width + 2)
    rows = torch.lerp(cells.gather(1, index), cells.gather(1, index + 1), row_fraction[:, :, None])
    index = column[:, None].expand(-1, height, -1)
    values = torch.lerp(rows.gather(2, index), rows.gather(2, index + 1), column_fraction[:, None])
    return (values >= threshold) & row_inside[:, :, None] & column_inside[:, None]


def _positions(low: Tensor, high: Tensor, limit: int, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positions of all frame pixels along one axis, relative to the padded mask cells of N boxes.

    Args:
        low, high: ``(N,)`` ends of the box sides.
        limit: side of the frame in pixels.
        cells: mask cells per box side, without the two cells of padding.

    Returns:
        ``(N, limit)`` each: index of the cell before the pixel, int64; interpolation weight of the
        next cell, 0..1; whether the pixel is inside the box, with a margin of one pixel.
    """
    pixels = torch.arange(limit, device=low.device, dtype=low.dtype)
    low, high = low[:, None], high[:, None]
    extent = (high - low).clamp(min=1e-6)
    position = ((pixels + 0.5 - low) / extent * cells + 0.5).clamp(0, cells + 1)
    before = position.floor().clamp(max=cells)
    inside = (pixels >= low.floor() - 1) & (pixels < high.ceil() + 1)
    return before.long(), position - before, inside


def _boundaries(masks: Tensor, capacity: int) -> tuple[Tensor, Tensor]:
    """The run boundaries of ``(N, height, width)`` masks, as for ``find_run_boundaries``."""
    flat = masks.transpose(1, 2).flatten(1)
    changes = flat ^ F.pad(flat[:, :-1], (1, 0))  # runs start with background
    totals = changes.cumsum(1, dtype=torch.int32)
    # boundary n is the first pixel at which the running total reaches n
    ordinals = torch.arange(1, capacity + 1, device=flat.device, dtype=torch.int32)
    positions = torch.searchsorted(totals, ordinals.expand(len(flat), -1).contiguous())
    return positions.int(), totals[:, -1]
