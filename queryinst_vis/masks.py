"""Masks between their small form (28x28 logits in a box), pixels, and COCO run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from queryinst_vis.segmentations import RLE, to_rles


def paste_region(
    probabilities: Tensor, box: Tensor, image_size: tuple[int, int], threshold: float = 0.5
) -> tuple[Tensor, int, int]:
    """Resample one small mask into the pixels that its box covers, and no others.

    Bilinear sampling inside an axis-aligned box is separable, so it is two small matrix
    products; the values are those of ``grid_sample(align_corners=False)`` with zero padding,
    as Mask R-CNN pastes its masks.

    Args:
        probabilities: ``(h, w)`` mask probabilities in 0..1.
        box: ``(4,)`` xyxy in pixels of the image; may reach beyond it.
        image_size: ``(height, width)`` of the image.
        threshold: a pixel belongs to the mask from this probability on.

    Returns:
        ``(region, x, y)``: a bool tensor and the image coordinates of its top left pixel.
    """
    height, width = image_size
    x0, y0, x1, y1 = box.tolist()
    left, right = _pixel_span(x0, x1, width)
    top, bottom = _pixel_span(y0, y1, height)
    rows = _bilinear_weights(top, bottom, y0, y1, probabilities.shape[0], probabilities)
    columns = _bilinear_weights(left, right, x0, x1, probabilities.shape[1], probabilities)
    return rows @ probabilities @ columns.T >= threshold, left, top


def _pixel_span(low: float, high: float, limit: int) -> tuple[int, int]:
    """Pixels that a box side can touch, with one pixel to spare for the interpolation."""
    first = min(max(int(np.floor(low)) - 1, 0), limit)
    last = max(min(int(np.ceil(high)) + 1, limit), first)
    return first, last


def _bilinear_weights(
    first: int, last: int, low: float, high: float, cells: int, like: Tensor
) -> Tensor:
    """``(last - first, cells)`` weights with which each pixel reads the cells of a box side."""
    extent = max(high - low, 1e-6)
    centers = torch.arange(first, last, dtype=torch.float32, device=like.device) + 0.5
    position = (centers - low) / extent * cells - 0.5
    cell = torch.arange(cells, dtype=torch.float32, device=like.device)
    return (1 - (position[:, None] - cell[None, :]).abs()).clamp(min=0).to(like.dtype)


def paste_masks(
    mask_logits: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """Paste ``(N, h, w)`` mask logits into their ``(N, 4)`` boxes: ``(N, H, W)`` bool."""
    pasted = torch.zeros((len(boxes), *image_size), dtype=torch.bool, device=boxes.device)
    for mask, probabilities, box in zip(pasted, mask_logits.float().sigmoid(), boxes, strict=True):
        region, x, y = paste_region(probabilities, box, image_size, threshold)
        mask[y : y + region.shape[0], x : x + region.shape[1]] = region
    return pasted


def encode_rle(mask: np.ndarray | Tensor) -> RLE:
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
    first, last = turns[:-1], turns[1:]
    repeated = np.flatnonzero(first == last)
    turns = np.delete(turns, np.concatenate((repeated, repeated + 1)))
    counts = np.diff(turns, prepend=0, append=height * width)
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
