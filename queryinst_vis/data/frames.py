"""One annotated image, seen through a view: pixels, boxes and small pieces of masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from queryinst_vis.data.views import View
from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotations import Box, ImageRecord, Instance
from queryinst_vis.masks import bounding_box, decode_columns, to_rle
from queryinst_vis.utils.images import read_image

MIN_VISIBLE_SHARE = 0.25
"""Of an instance without a mask: where a crop leaves less of its box, nobody knows whether the
object itself is still in view, and what is left of the box becomes a region to ignore."""


class MaskPiece(NamedTuple):
    """The part of a view that one instance's mask spans; all else is background."""

    pixels: np.ndarray  # (h, w) uint8, 0 or 1
    top: int
    left: int

    def box(self) -> Box:
        """Bounding box of its mask pixels, of which there is one at least: xyxy in the view."""
        columns = self.left + np.flatnonzero(self.pixels.any(axis=0))
        rows = self.top + np.flatnonzero(self.pixels.any(axis=1))
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)

    def window(self, array: np.ndarray) -> np.ndarray:
        """What the piece lies over of a view's ``(H, W, ...)`` array, which may be padded."""
        height, width = self.pixels.shape
        return array[self.top : self.top + height, self.left : self.left + width]


@dataclass(frozen=True)
class Frame:
    """An augmented image with its ground truth, not yet normalised or padded.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        boxes: M xyxy boxes in pixels of ``image``.
        labels: M class indices.
        instance_ids: M annotation ids.
        masks: M pieces of masks, each with at least one pixel; None where only the box is known.
        ignored: pieces of regions in which nothing is known, each with at least one pixel.
    """

    image: np.ndarray
    boxes: list[Box]
    labels: list[int]
    instance_ids: list[int]
    masks: list[MaskPiece | None]
    ignored: list[MaskPiece] = field(default_factory=list)

    def select(self, kept: Sequence[int]) -> Frame:
        """The frame with the instances at these positions only."""
        boxes, labels, instance_ids, masks = (
            [values[index] for index in kept]
            for values in (self.boxes, self.labels, self.instance_ids, self.masks)
        )
        return Frame(self.image, boxes, labels, instance_ids, masks, self.ignored)

    def shapes(self) -> list[MaskPiece]:
        """The masks, and the whole box where only that is known."""
        return [
            fill_box(box) if mask is None else mask
            for box, mask in zip(self.boxes, self.masks, strict=True)
        ]


def without_small(frame: Frame, min_visible: int) -> Frame:
    """The frame without the instances of fewer than ``min_visible`` pixels.

    Pixels are those of the mask, or of the box where only that is known. They become a region
    to ignore: something is there, but not enough of it to be found.
    """
    shapes = frame.shapes()
    areas = [np.count_nonzero(shape.pixels) for shape in shapes]
    small = [shape for shape, area in zip(shapes, areas, strict=True) if area < min_visible]
    kept = [index for index, area in enumerate(areas) if area >= min_visible]
    return replace(frame.select(kept), ignored=frame.ignored + small)


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


def look(image: np.ndarray, record: ImageRecord, view: View, ignore: bool = False) -> Frame:
    """See ``image`` and the record's instances through ``view``.

    Instances without a single mask pixel in the view (outside of its window, or too small for
    its scale) are not there. A box that the window shows whole is the file's own, scaled; one
    that it cuts becomes the bounding box of the mask pixels that are left, or, without a mask,
    the part of the box that is left (see ``MIN_VISIBLE_SHARE``).

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        record: its annotations.
        view: what is seen of it.
        ignore: fill in ``Frame.ignored``; costs nothing otherwise.

    Raises:
        InputError: a segmentation cannot be decoded.
    """
    grid = view.rows(), view.columns()
    frame = Frame(view.apply(image), [], [], [], [])
    for instance in record.instances:
        seen = _see(instance, record, view, grid)
        if seen is None:
            continue
        if seen.share >= MIN_VISIBLE_SHARE:
            frame.boxes.append(seen.box)
            frame.labels.append(instance.label)
            frame.instance_ids.append(instance.id)
            frame.masks.append(seen.mask)
        elif ignore:
            frame.ignored.append(fill_box(seen.box))
    if ignore:
        for crowd in record.ignored:
            seen = _see(crowd, record, view, grid)
            if seen is not None:
                frame.ignored.append(seen.mask or fill_box(seen.box))
    return frame


class _Seen(NamedTuple):
    """What a view shows of one object.

    Attributes:
        box: xyxy in pixels of the view.
        mask: None where none is known.
        share: of the box that is in view, 0..1; 1 where a mask tells exactly what is left.
    """

    box: Box
    mask: MaskPiece | None
    share: float


def _see(
    instance: Instance, record: ImageRecord, view: View, grid: tuple[np.ndarray, np.ndarray]
) -> _Seen | None:
    """One object, or None when nothing is left of it; ``grid`` are the view's rows and columns."""
    if instance.segmentation is None:
        return _see_box(instance, record, view)
    return _see_mask(instance, record, view, grid)


def _see_box(instance: Instance, record: ImageRecord, view: View) -> _Seen | None:
    """An object without a mask; the part of its box outside of the image does not count."""
    whole = _intersect(instance.box, (0, 0, record.width, record.height))
    left = _intersect(whole, (view.left, view.top, view.right, view.bottom))
    box = view.box(left)
    if not fill_box(box).pixels.size:
        return None
    return _Seen(box, None, _area(left) / _area(whole))


def _see_mask(
    instance: Instance, record: ImageRecord, view: View, grid: tuple[np.ndarray, np.ndarray]
) -> _Seen | None:
    """An object with a mask."""
    rows, columns = grid
    where = f"image {record.path}, annotation {instance.id}"
    rle = to_rle(instance.segmentation, record.height, record.width, where)
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
    return _Seen(view.box(box) if whole else piece.box(), piece, 1.0)


def _intersect(box: Box, other: Box) -> Box:
    """The part of ``box`` inside ``other``, without area where they do not meet."""
    x0, y0 = max(box[0], other[0]), max(box[1], other[1])
    return x0, y0, max(min(box[2], other[2]), x0), max(min(box[3], other[3]), y0)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def fill_box(box: Box) -> MaskPiece:
    """The pixels whose centres lie in ``box``, xyxy in pixels of the view; perhaps none."""
    x0, y0, x1, y1 = (int(np.ceil(side - 0.5)) for side in box)
    return MaskPiece(np.ones((y1 - y0, x1 - x0), np.uint8), y0, x0)


def _covers(view: View, box: Box) -> bool:
    """Whether the view's window shows all of ``box``."""
    x0, y0, x1, y1 = box
    return view.left <= x0 and view.top <= y0 and x1 <= view.right and y1 <= view.bottom
