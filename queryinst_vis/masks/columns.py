"""Decoding only that part of a run-length encoded mask that somebody looks at.

``pycocotools.mask.decode`` writes every pixel of the image, 0.5 ms at 960x540, and a training
frame can hold dozens of instances. Run lengths go column by column, so that the columns of the
instance's own box can be decoded alone, in a fifth of the time for a typical instance.
"""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.masks import RLE
from queryinst_vis.masks.run_lengths import decode_runs


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
    ends = np.clip(np.cumsum(decode_runs(rle["counts"])), start, stop) - start
    runs = np.diff(ends, prepend=0, append=stop - start)
    values = np.arange(len(runs), dtype=np.uint8) & 1
    values[-1] = 0  # whatever follows the last run
    return np.repeat(values, runs).reshape(last - first, height).T
