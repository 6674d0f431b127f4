"""Instance masks between bool pixels and COCO run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.masks.rle import RLE, to_rles


def encode_rle(mask: np.ndarray) -> RLE:
    """Encode an ``(H, W)`` bool mask as compressed COCO RLE with ``counts`` as text."""
    rle = coco_mask.encode(np.asfortranarray(np.asarray(mask, dtype=np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def encode_region(region: np.ndarray, x: int, y: int, image_size: tuple[int, int]) -> RLE:
    """Encode a mask that is empty outside of one region, without touching the rest of the frame.

    Args:
        region: ``(h, w)`` bool.
        x, y: frame coordinates of its top left pixel; the region lies inside the frame.
        image_size: ``(height, width)`` of the frame.

    Returns:
        What ``encode_rle`` says of the whole mask.
    """
    height, width = image_size
    rows, columns = region.shape
    # column by column, as COCO counts, with an empty pixel at either end of every column
    framed = np.zeros((columns, rows + 2), dtype=bool)
    framed[:, 1:-1] = region.T
    flat = framed.ravel()
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), rows + 2)
    turns = (x + column) * height + y + row
    # a run that leaves the frame at the bottom and enters at the next column's top is one run
    apart = turns[1:] != turns[:-1]
    kept = np.ones(len(turns), dtype=bool)
    kept[1:] &= apart
    kept[:-1] &= apart
    ends = np.concatenate(([0], turns[kept], [height * width]))
    counts = ends[1:] - ends[:-1]
    if counts[-1] == 0:
        counts = counts[:-1]
    plain = {"size": [height, width], "counts": counts.tolist()}
    rle = coco_mask.frPyObjects(plain, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def decode_rle(rle: RLE) -> np.ndarray:
    """Decode compressed COCO RLE to an ``(H, W)`` bool array."""
    return coco_mask.decode(rle).astype(bool)


def to_rle(segmentation: Any, height: int, width: int, where: str) -> RLE:
    """Bring any COCO segmentation (polygons, plain or compressed run lengths) to one RLE.

    Args:
        segmentation: a list of polygons, or ``{"size", "counts"}`` with counts as a list,
            text or bytes.
        height, width: size of the frame that the mask must have, in pixels.
        where: file and annotation, for the error message.

    Raises:
        InputError: the segmentation cannot be read, is of another size, or its run lengths do
            not fill the frame.
    """
    [rle], _ = to_rles([segmentation], height, width, lambda _: where)
    return rle
