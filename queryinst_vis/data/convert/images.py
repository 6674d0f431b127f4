"""Finding, reading and writing image files in converters."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from queryinst_vis.errors import InputError
from queryinst_vis.masks import RLE, encode_rle
from queryinst_vis.utils.files import natural_key
from queryinst_vis.utils.images import IMAGE_SUFFIXES, Size, encode_jpeg, read_orientation

JPEG_QUALITY = 95
_SUFFIXES = IMAGE_SUFFIXES - {".exr", ".hdr"}  # Pillow reads the size of the others


def subfolders(folder: Path, what: str) -> list[Path]:
    """The subfolders of ``folder``, sorted; ``what`` describes them in error messages.

    Raises:
        InputError: the folder does not exist or has no subfolders.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; it should contain one folder for each {what}")
    found = sorted(path for path in folder.iterdir() if path.is_dir())
    if not found:
        raise InputError(f"{folder}: contains no folders; there should be one for each {what}")
    return found


def image_files(folder: Path, recursive: bool = False) -> list[Path]:
    """The image files of a folder, optionally including subfolders, in natural order."""
    files = folder.rglob("*") if recursive else folder.iterdir()
    return sorted((f for f in files if f.suffix.lower() in _SUFFIXES), key=natural_key)


def image_size(path: Path, annotated: Size | None = None) -> Size:
    """``(height, width)`` in pixels of an image file, read from its header.

    This is the size of the upright image, as displayed by viewers and annotation tools, unless only
    the stored orientation matches the ``annotated`` size.

    Raises:
        InputError: the file is missing or not an image.
    """
    orientation = read_orientation(path)
    return orientation.stored if annotated == orientation.stored else orientation.upright


def check_same_size(size: Size, expected: Size, what: str, where: str) -> None:
    """Raise an InputError unless a frame or a mask has the expected ``(height, width)``.

    Args:
        size: of the frame or mask.
        expected: the expected size.
        what: description of what has the expected size.
        where: the file.
    """
    if size != expected:
        raise InputError(f"{where}: {size[1]}x{size[0]} pixels, {what} {expected[1]}x{expected[0]}")


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write an ``(H, W, 3)`` uint8 RGB image, and create its folder.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(image, JPEG_QUALITY))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def read_palette_indices(source: Path | BinaryIO, where: str) -> np.ndarray:
    """``(H, W)`` uint8 palette indices of an image, or the values of a grey or binary one.

    OpenCV would return the colours of the palette instead.

    Raises:
        InputError: not readable, or another image type; ``where`` names the image.
    """
    try:
        with Image.open(source) as image:
            mode, indices = image.mode, np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{where}: not readable as an image") from error
    if mode not in ("P", "L", "1"):
        raise InputError(f"{where}: expected an 8-bit palette or grey image, got mode {mode}")
    return indices.astype(np.uint8)


def read_instance_map(path: Path) -> np.ndarray:
    """``(H, W)`` uint16 instance ids of a PNG (MOTS, Cityscapes).

    Raises:
        InputError: not readable, or not a single 16-bit channel.
    """
    ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if ids is None:
        raise InputError(f"{path}: not readable as PNG")
    if ids.dtype != np.uint16 or ids.ndim != 2:
        raise InputError(f"{path}: expected an instance map with a single 16-bit channel")
    return ids


def masks_by_index(indices: np.ndarray) -> dict[int, RLE]:
    """The mask of every nonzero value of an ``(H, W)`` map, in ascending order."""
    return {int(index): encode_rle(indices == index) for index in np.unique(indices) if index}
