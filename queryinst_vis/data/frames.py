"""One annotated image, seen through a view: pixels, boxes and small pieces of masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from queryinst_vis.data.annotations import Box, ImageRecord, Instance
from queryinst_vis.data.images import read_image
from queryinst_vis.data.runs import bounding_box, decode_columns
from queryinst_vis.data.views import View
from queryinst_vis.errors import InputError
from queryinst_vis.masks import RLE, to_rle


class MaskPiece(NamedTuple):
    """The part of a view that one instance's mask spans; all else is background."""

    pixels: np.ndarray  # (h, w) uint8, 0 or 1
    top: int
    left: int


@dataclass(frozen=True)
class Frame:
    """An augmented image with its ground truth, not yet normalised or padded.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        boxes: M xyxy boxes in pixels of ``image``.
        labels: M class indices.
        instance_ids: M annotation ids.
        masks: M pieces of masks, each with at least one pixel.
    """

    image: np.ndarray
    boxes: list[Box]
    labels: list[int]
    instance_ids: list[int]
    masks: list[MaskPiece]


def load_pixels(record: ImageRecord) -> np.ndarray:
    """The record's image, ``(H, W, 3)`` uint8 RGB.

    Raises:
        InputError: it cannot be read or is not of the size that its annotations are for.
    """
    image = read_image(record.path)
    height, width = image.shape[:2]
    if (height, width) != (record.height, record.width):
        raise InputError(
            f"image {record.path}: {width}x{height} pixels, "
            f"but its annotations are for {record.width}x{record.height}"
        )
    return image


def look(image: np.ndarray, record: ImageRecord, view: View) -> Frame:
    """See ``image`` and the record's instances through ``view``.

    Instances without a single mask pixel in the view (outside of its window, or too small for
    its scale) are not there. A box that the window shows whole is the file's own, scaled; one
    that it cuts becomes the bounding box of the mask pixels that are left.

    Raises:
        InputError: a segmentation cannot be decoded.
    """
    rows, columns = view.rows(), view.columns()
    frame = Frame(view.apply(image), [], [], [], [])
    for instance in record.instances:
        where = f"image {record.path}, annotation {instance.id}"
        rle = to_rle(instance.segmentation, record.height, record.width, where)
        seen = _see_instance(instance, rle, view, rows, columns)
        if seen is not None:
            box, mask = seen
            frame.boxes.append(box)
            frame.labels.append(instance.label)
            frame.instance_ids.append(instance.id)
            frame.masks.append(mask)
    return frame


def _see_instance(
    instance: Instance, rle: RLE, view: View, rows: np.ndarray, columns: np.ndarray
) -> tuple[Box, MaskPiece] | None:
    """Box and mask of one instance in pixels of the view, or None when nothing is left of it."""
    extent = bounding_box(rle)
    x0, y0 = max(extent[0], view.left), max(extent[1], view.top)
    x1, y1 = min(extent[2], view.right), min(extent[3], view.bottom)
    if x0 >= x1 or y0 >= y1:
        return None
    mask = decode_columns(rle, x0, x1)[y0:y1]
    (first_row, last_row), (first_column, last_column) = (
        np.searchsorted(rows, (y0, y1)),
        np.searchsorted(columns, (x0, x1)),
    )
    # Masks are resized by reading the nearest pixel, so that they stay binary.
    pixels = mask[rows[first_row:last_row] - y0][:, columns[first_column:last_column] - x0]
    if not pixels.any():
        return None
    if view.flip:
        pixels, first_column = pixels[:, ::-1], view.width - last_column
    piece = MaskPiece(pixels, int(first_row), int(first_column))
    box = instance.box or extent
    whole = _covers(view, extent) and _covers(view, box)
    return view.box(box) if whole else _tight_box(piece), piece


def _covers(view: View, box: Box) -> bool:
    """Whether the view's window shows all of ``box``."""
    x0, y0, x1, y1 = box
    return view.left <= x0 and view.top <= y0 and x1 <= view.right and y1 <= view.bottom


def _tight_box(piece: MaskPiece) -> Box:
    """Bounding box of the mask pixels that are left, xyxy in pixels of the view."""
    columns = piece.left + np.flatnonzero(piece.pixels.any(axis=0))
    rows = piece.top + np.flatnonzero(piece.pixels.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
