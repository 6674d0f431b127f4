"""Reading one image file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from queryinst_vis.errors import InputError

_JPEG_START = b"\xff\xd8"
_JPEG_SCAN = b"\xff\xda"
_JPEG_END = b"\xff\xd9"


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as ``(H, W, 3)`` uint8 RGB.

    Grey images become three equal channels and transparency is dropped. The EXIF orientation
    is ignored: COCO's annotations count the pixels as they are stored.

    Raises:
        InputError: the file is missing, cut short or not an image.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"image {path}: no such file") from error
    except OSError as error:
        raise InputError(f"image {path}: cannot be read ({error.strerror})") from error
    if data.startswith(_JPEG_START) and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
        # OpenCV would fill the missing part with grey and say nothing.
        raise InputError(f"image {path}: the JPEG file is cut short; fetch it again")
    pixels = _decode(data)
    if pixels is None:
        raise InputError(f"image {path}: not a readable image")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _decode(data: bytes) -> np.ndarray | None:
    """``(H, W, 3)`` BGR, or None where OpenCV finds no image in ``data``."""
    try:
        return cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error:  # an empty buffer, or more pixels than OpenCV is willing to decode
        return None
