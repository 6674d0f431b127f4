"""Decoding only that part of a run-length encoded mask that somebody looks at.

``pycocotools.mask.decode`` writes every pixel of the image, 0.5 ms at 960x540, and a training
frame can hold dozens of instances. Run lengths go column by column, so that the columns of the
instance's own box can be decoded alone, in a fifth of the time for a typical instance.
"""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.masks import RLE


def bounding_box(rle: RLE) -> tuple[int, int, int, int]:
    """Tight ``(x0, y0, x1, y1)`` of a mask in pixels, ends exclusive; all 0 when it is empty."""
    x, y, width, height = (int(value) for value in coco_mask.toBbox(rle))
    return x, y, x + width, y + height


def decode_columns(rle: RLE, first: int, last: int) -> np.ndarray:
    """Columns ``first`` to ``last`` (exclusive) of a compressed RLE: ``(H, last - first)`` uint8.

    Runs beyond the image are cut off, missing ones count as background.
    """
    height = rle["size"][0]
    start, stop = first * height, last * height
    ends = np.clip(np.cumsum(_run_lengths(rle["counts"])), start, stop) - start
    runs = np.diff(ends, prepend=0, append=stop - start)
    values = np.arange(len(runs), dtype=np.uint8) & 1
    values[-1] = 0  # whatever follows the last run
    return np.repeat(values, runs).reshape(last - first, height).T


def _run_lengths(counts: str) -> np.ndarray:
    """The run lengths behind COCO's text: background first, then turn by turn.

    Each number is written in groups of five bits, least significant first, as one character
    from ``"0"`` on; bit 5 says that another group follows and bit 4 of the last group is the
    sign. From the fourth number on it is the difference to the run two places earlier.
    """
    groups = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - ord("0")
    last = np.flatnonzero((groups & 32) == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    shift = 5 * (np.arange(len(groups)) - np.repeat(first, last - first + 1))
    numbers = np.add.reduceat((groups & 31) << shift, first)
    numbers -= np.where(groups[last] & 16, np.int64(1) << (shift[last] + 5), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
