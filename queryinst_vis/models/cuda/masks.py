"""Pasting masks into frames, and their run lengths, with static shapes on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 1 << 25  # pixels of masks that are pasted at a time; they take some 20 bytes each


def turns_of_masks(
    mask_logits: Tensor,
    boxes: Tensor,
    image_size: tuple[int, int],
    threshold: float,
    capacity: int,
) -> tuple[Tensor, Tensor]:
    """Where the run lengths of pasted masks turn, column by column as COCO counts.

    Args:
        mask_logits: ``(N, h, w)``.
        boxes: ``(N, 4)`` xyxy in pixels of the image; may reach beyond it.
        image_size: ``(height, width)`` of the image.
        threshold: a pixel belongs to the mask from this probability on.
        capacity: turns of a mask that are kept.

    Returns:
        ``(N, capacity)`` int32 positions of the turns in the mask's ``height * width`` pixels,
        ascending, and ``height * width`` after the last; ``(N,)`` int32, how many turns there are,
        which may exceed the capacity.
    """
    rows = max(_CHUNK // (image_size[0] * image_size[1]), 1)
    parts = [
        _turns(paste(logits, part, image_size, threshold), capacity)
        for logits, part in zip(mask_logits.split(rows), boxes.split(rows), strict=True)
    ]
    positions, counts = zip(*parts, strict=True)
    return torch.cat(positions), torch.cat(counts)


def paste(
    mask_logits: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float
) -> Tensor:
    """Masks of a box as masks of the whole frame: the pixels of ``masks.paste.paste_region``.

    Args:
        mask_logits, boxes, image_size, threshold: as for ``turns_of_masks``.

    Returns:
        ``(N, height, width)`` bool.
    """
    height, width = image_size
    mask_height, mask_width = mask_logits.shape[1:]
    cells = F.pad(mask_logits.float().sigmoid(), (1, 1, 1, 1))
    x0, y0, x1, y1 = boxes.float().unbind(1)
    row, row_share, row_inside = _positions(y0, y1, height, mask_height)
    column, column_share, column_inside = _positions(x0, x1, width, mask_width)
    index = row[:, :, None].expand(-1, -1, mask_width + 2)
    rows = torch.lerp(cells.gather(1, index), cells.gather(1, index + 1), row_share[:, :, None])
    index = column[:, None].expand(-1, height, -1)
    values = torch.lerp(rows.gather(2, index), rows.gather(2, index + 1), column_share[:, None])
    return (values >= threshold) & row_inside[:, :, None] & column_inside[:, None]


def _positions(low: Tensor, high: Tensor, limit: int, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where all pixels of a side lie among the padded cells of N box sides.

    Args:
        low, high: ``(N,)`` ends of the box sides.
        limit: pixels of the frame's side.
        cells: of a box side, without the two of the padding.

    Returns:
        ``(N, limit)``: the cell before each pixel, int64; how far on it lies, 0..1; whether the
        box, with a pixel to spare, holds it.
    """
    pixels = torch.arange(limit, device=low.device, dtype=low.dtype)
    low, high = low[:, None], high[:, None]
    extent = (high - low).clamp(min=1e-6)
    position = ((pixels + 0.5 - low) / extent * cells + 0.5).clamp(0, cells + 1)
    before = position.floor().clamp(max=cells)
    inside = (pixels >= low.floor() - 1) & (pixels < high.ceil() + 1)
    return before.long(), position - before, inside


def _turns(masks: Tensor, capacity: int) -> tuple[Tensor, Tensor]:
    """The turns of ``(N, height, width)`` masks, as ``turns_of_masks`` returns them."""
    flat = masks.transpose(1, 2).flatten(1)
    turned = flat ^ F.pad(flat[:, :-1], (1, 0))  # the pixel before the first counts as background
    so_far = turned.cumsum(1, dtype=torch.int32)
    # the first pixel by which there were n turns is where the n-th one is
    wanted = torch.arange(1, capacity + 1, device=flat.device, dtype=torch.int32)
    positions = torch.searchsorted(so_far, wanted.expand(len(flat), -1).contiguous())
    return positions.int(), so_far[:, -1]
