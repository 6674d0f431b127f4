"""Views of annotated images: pixels, boxes, and cropped masks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from queryinst_vis.data.records import Corners, ImageRecord, Instance
from queryinst_vis.data.views import View
from queryinst_vis.masks import bounding_box, decode_columns, to_rle
from queryinst_vis.utils.images import read_image

MIN_VISIBLE_SHARE = 0.25
"""Minimum visible fraction of the box of an instance without a mask. Below it, the object itself
may be out of view, and the remainder of the box becomes an ignore region."""


class MaskPiece(NamedTuple):
    """The mask of one instance, cropped to a part of a view; it is empty outside."""

    pixels: np.ndarray  # (h, w) uint8, 0 or 1
    top: int
    left: int

    def box(self) -> Corners:
        """Bounding box of the mask, which is not empty: xyxy in the view."""
        columns = self.left + np.flatnonzero(self.pixels.any(axis=0))
        rows = self.top + np.flatnonzero(self.pixels.any(axis=1))
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)

    def window(self, array: np.ndarray) -> np.ndarray:
        """The part of a view's ``(H, W, ...)`` array, which may be padded, under the piece."""
        height, width = self.pixels.shape
        return array[self.top : self.top + height, self.left : self.left + width]

    def add_to(self, mask: np.ndarray) -> None:
        """Set the piece's pixels in an ``(H, W)`` bool or uint8 mask of the view."""
        window = self.window(mask)
        np.logical_or(window, self.pixels, out=window)


class VisibleInstance(NamedTuple):
    """One instance in a frame.

    Attributes:
        box: xyxy in pixels of the frame.
        label: class index.
        id: the annotation's id; the same in both frames of a pair.
        mask: not empty; None if only the box is known.
    """

    box: Corners
    label: int
    id: int
    mask: MaskPiece | None

    def shape(self) -> MaskPiece:
        """The mask, or the whole box if only that is known."""
        return fill_box(self.box) if self.mask is None else self.mask


@dataclass(frozen=True)
class Frame:
    """An augmented image with its ground truth, not yet normalised or padded.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        instances: the M instances to train on.
        ignored: masks of ignore regions, not empty.
    """

    image: np.ndarray
    instances: list[VisibleInstance] = field(default_factory=list)
    ignored: list[MaskPiece] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the image."""
        height, width = self.image.shape[:2]
        return height, width

    @property
    def boxes(self) -> list[Corners]:
        """The instances' boxes."""
        return [instance.box for instance in self.instances]

    @property
    def labels(self) -> list[int]:
        """The instances' class indices."""
        return [instance.label for instance in self.instances]

    @property
    def instance_ids(self) -> list[int]:
        """The instances' annotation ids."""
        return [instance.id for instance in self.instances]

    @property
    def masks(self) -> list[MaskPiece | None]:
        """The instances' masks."""
        return [instance.mask for instance in self.instances]


def without_small(frame: Frame, min_visible: int) -> Frame:
    """The frame without the instances of fewer than ``min_visible`` pixels.

    Pixels are those of the mask, or of the box if only that is known. Removed instances
    become ignore regions, because too little of them is visible.
    """
    kept, ignored = [], list(frame.ignored)
    for instance in frame.instances:
        shape = instance.shape()
        if np.count_nonzero(shape.pixels) >= min_visible:
            kept.append(instance)
        else:
            ignored.append(shape)
    return Frame(frame.image, kept, ignored)


def load_pixels(record: ImageRecord) -> np.ndarray:
    """The record's image, ``(H, W, 3)`` uint8 RGB.

    Raises:
        InputError: it cannot be read, or its size differs from that of the annotations.
    """
    return read_image(record.path, (record.height, record.width))


def apply_view(image: np.ndarray, record: ImageRecord, view: View, ignore: bool = False) -> Frame:
    """Apply a view to an image and its instances.

    Instances without mask pixels in the view (outside its window, or too small at its scale) are
    removed. A box completely inside the window is taken from the file and scaled; a truncated one
    is replaced by the bounding box of the remaining mask pixels or, without a mask, by the
    remaining part of the box (see ``MIN_VISIBLE_SHARE``).

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        record: annotations of the image.
        view: window, size, flip and colours.
        ignore: set ``Frame.ignored``.

    Raises:
        InputError: a segmentation cannot be decoded.
    """
    grid = view.rows(), view.columns()
    frame = Frame(view.apply(image))
    for instance in record.instances:
        part = _visible_part(instance, record, view, grid)
        if part is None:
            continue
        if part.share >= MIN_VISIBLE_SHARE:
            frame.instances.append(
                VisibleInstance(part.box, instance.label, instance.id, part.mask)
            )
        elif ignore:
            frame.ignored.append(fill_box(part.box))
    if ignore:
        for crowd in record.ignored:
            part = _visible_part(crowd, record, view, grid)
            if part is not None:
                frame.ignored.append(part.mask or fill_box(part.box))
    return frame


class _VisiblePart(NamedTuple):
    """The visible part of one object.

    Attributes:
        box: xyxy in pixels of the view.
        mask: None if unknown.
        share: visible fraction of the box, 0..1; 1 if there is a mask.
    """

    box: Corners
    mask: MaskPiece | None
    share: float


def _visible_part(
    instance: Instance, record: ImageRecord, view: View, grid: tuple[np.ndarray, np.ndarray]
) -> _VisiblePart | None:
    """The visible part of an object, or None; ``grid`` contains the view's rows and columns."""
    if instance.segmentation is not None:
        return _visible_mask(instance, record, view, grid)
    if instance.box is None:
        return None
    # the part of the box outside the image does not count
    whole = _intersect(instance.box, (0, 0, record.width, record.height))
    visible = _intersect(whole, (view.left, view.top, view.right, view.bottom))
    box = view.box(visible)
    if not fill_box(box).pixels.size:
        return None
    return _VisiblePart(box, None, _area(visible) / _area(whole))


def _visible_mask(
    instance: Instance, record: ImageRecord, view: View, grid: tuple[np.ndarray, np.ndarray]
) -> _VisiblePart | None:
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
    # nearest-neighbour interpolation keeps masks binary
    pixels = mask[rows[first_row:last_row] - y0][:, columns[first_column:last_column] - x0]
    if not pixels.any():
        return None
    if view.flip:
        pixels, first_column = pixels[:, ::-1], view.width - last_column
    piece = MaskPiece(pixels, int(first_row), int(first_column))
    box = instance.box or extent
    whole = _covers(view, extent) and _covers(view, box)
    return _VisiblePart(view.box(box) if whole else piece.box(), piece, 1.0)


def _intersect(box: Corners, other: Corners) -> Corners:
    """The intersection of ``box`` and ``other``, with zero area if they do not overlap."""
    x0, y0 = max(box[0], other[0]), max(box[1], other[1])
    return x0, y0, max(min(box[2], other[2]), x0), max(min(box[3], other[3]), y0)


def _area(box: Corners) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def fill_box(box: Corners) -> MaskPiece:
    """The pixels whose centres are in ``box``, xyxy in pixels of the view; may be empty."""
    x0, y0, x1, y1 = (int(np.ceil(side - 0.5)) for side in box)
    return MaskPiece(np.ones((y1 - y0, x1 - x0), np.uint8), y0, x0)


def _covers(view: View, box: Corners) -> bool:
    """Whether ``box`` is completely inside the view's window."""
    x0, y0, x1, y1 = box
    return view.left <= x0 and view.top <= y0 and x1 <= view.right and y1 <= view.bottom
