"""Images whose pixels are numbers, not colours: palette PNGs and 16-bit instance maps."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from queryinst_vis.errors import InputError
from queryinst_vis.masks import RLE, encode_rle


def read_palette_indices(source: Path | BinaryIO, where: str) -> np.ndarray:
    """``(H, W)`` uint8 palette indices of an image, or the values of a grey or binary one.

    OpenCV would look the indices up and give their colours.

    Raises:
        InputError: not readable, or of another kind; ``where`` names the image.
    """
    try:
        with Image.open(source) as image:
            mode, indices = image.mode, np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{where}: not readable as an image") from error
    if mode not in ("P", "L", "1"):
        raise InputError(f"{where}: an index map has a palette or is grey, 8 bits; this is {mode}")
    return indices.astype(np.uint8)


def read_instance_map(path: Path) -> np.ndarray:
    """``(H, W)`` uint16 instance ids of a PNG (MOTS, Cityscapes).

    Raises:
        InputError: not readable, or not of one channel of 16 bits.
    """
    ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if ids is None:
        raise InputError(f"{path}: not readable as PNG")
    if ids.dtype != np.uint16 or ids.ndim != 2:
        raise InputError(f"{path}: an instance map has one channel of 16 bits")
    return ids


def masks_by_index(indices: np.ndarray) -> dict[int, RLE]:
    """The mask of every value of an ``(H, W)`` map but 0, by ascending value."""
    return {int(index): encode_rle(indices == index) for index in np.unique(indices) if index}
