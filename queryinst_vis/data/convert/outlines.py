"""Shapes of annotation tools (polygons, boxes, circles) to masks."""

from __future__ import annotations

import base64
import math
from collections.abc import Hashable, Mapping, Sequence
from io import BytesIO
from typing import TypeVar

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.data.convert.images import read_palette_indices
from queryinst_vis.errors import InputError
from queryinst_vis.masks import RLE, encode_rle, to_rle
from queryinst_vis.masks.rle import as_text

Key = TypeVar("Key", bound=Hashable)
Point = tuple[float, float]


def check_points(points: Sequence[Point], height: int, width: int, where: str) -> None:
    """Raise an InputError for a point that is not finite or is far outside the frame.

    Shapes may extend slightly beyond the frame; more than a frame size beyond it is a
    mistake.
    """
    for x, y in points:
        # comparisons with NaN are false, so NaN is rejected, too
        if not (-width <= x <= 2 * width and -height <= y <= 2 * height):
            raise InputError(
                f"{where}: point ({x:g}, {y:g}) is far outside the frame of {width}x{height} pixels"
            )


def polygon_rle(points: Sequence[Point], height: int, width: int, where: str) -> RLE:
    """A polygon filled as in COCO: ``(x, y)`` are relative to the corner of the first pixel.

    Raises:
        InputError: fewer than three points, or one that is not finite or far outside the frame.
    """
    flat = [float(value) for point in points for value in point]
    return to_rle([flat], height, width, where)


def box_corners(
    left: float, top: float, right: float, bottom: float, degrees: float = 0.0
) -> list[Point]:
    """Corners of a box, rotated clockwise about its centre."""
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    if degrees == 0:
        return corners
    centre_x, centre_y = (left + right) / 2, (top + bottom) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    offsets = [(x - centre_x, y - centre_y) for x, y in corners]
    return [(centre_x + cos * x - sin * y, centre_y + sin * x + cos * y) for x, y in offsets]


def ellipse_rle(
    centre: Point,
    radii: Point,
    height: int,
    width: int,
    where: str,
    degrees: float = 0.0,
) -> RLE:
    """The pixels whose centres are in an ellipse, rotated clockwise by ``degrees``.

    Raises:
        InputError: radii that are not positive, or an ellipse that extends far outside the frame.
    """
    (x, y), (radius_x, radius_y) = centre, radii
    if not (radius_x > 0 and radius_y > 0):
        raise InputError(f"{where}: radii {radius_x:g}, {radius_y:g} are not positive")
    box = (x - radius_x, y - radius_y, x + radius_x, y + radius_y)
    check_points(box_corners(*box), height, width, where)
    rows, columns = np.ogrid[0.5:height, 0.5:width]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along = cos * (columns - x) + sin * (rows - y)
    across = cos * (rows - y) - sin * (columns - x)
    return encode_rle((along / radius_x) ** 2 + (across / radius_y) ** 2 <= 1)


def check_window(
    left: int, top: int, size: tuple[int, int], height: int, width: int, where: str
) -> None:
    """Raise an InputError unless a mask's window is inside the frame.

    Args:
        left, top: first pixel of the window in which the mask is stored.
        size: its ``(rows, columns)``.
        height, width: of the frame.
        where: file and shape, for the error message.
    """
    bottom, right = top + size[0], left + size[1]
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise InputError(
            f"{where}: a mask over x {left} to {right}, y {top} to {bottom} does not fit into the "
            f"frame of {width}x{height} pixels"
        )


def png_patch(text: str, where: str) -> np.ndarray:
    """``(h, w)`` bool from a grey PNG in base64, nonzero where the mask is.

    Raises:
        InputError: not base64, or not such a PNG.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InputError(f"{where}: 'mask' is not base64") from error
    return read_palette_indices(BytesIO(data), f"{where}: 'mask'") > 0


def unite(parts: Mapping[Key, Sequence[RLE]]) -> dict[Key, RLE]:
    """The union of the masks (of equal size) of each key; empty unions are left out."""
    unions = {key: coco_mask.merge(list(rles)) for key, rles in parts.items()}
    return {
        key: {"size": list(union["size"]), "counts": as_text(union["counts"])}
        for key, union in unions.items()
        if coco_mask.area(union)
    }
