"""Reading image files, with orientation and bit depth."""

from __future__ import annotations

import io
import os
import struct
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from PIL import ExifTags, Image

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.utils.jpeg import JPEG_END, is_jpeg, is_truncated

Size = tuple[int, int]
"""``(height, width)`` in pixels."""

ImageLike: TypeAlias = np.ndarray | str | os.PathLike[str] | Image.Image
"""An ``(H, W, 3)`` uint8 RGB array, a PIL image, or the path of an image file."""

IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jp2",
        ".png",
        ".bmp",
        ".dib",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".exr",
        ".hdr",
    ]
)
"""Suffixes of image files, in lower case."""

SAMPLE = 32
"""Number of 16-bit files of a folder that are read to estimate the bit depth."""
_SENSOR_BITS = (8, 10, 12, 14, 16)
_PIL_ERRORS = (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError)
_ANIMATED = ("TIFF", "WEBP", "PNG", "GIF")
"""Formats whose further frames are frames; those of JPEG (MPO) are previews and depth maps."""
_ORIENTATION_WORDS = (b"Exif", b"eXIf", b"EXIF", b"tiff:Orientation")
"""JPEG, PNG and WebP files that need rotation contain at least one of these."""
_AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


class Orientation(NamedTuple):
    """The orientation of an image, from the file header.

    Attributes:
        stored: size of the stored pixels.
        exif: EXIF orientation, 1 to 8; 1: upright.
    """

    stored: Size
    exif: int = 1

    def __str__(self) -> str:
        height, width = self.upright
        rotated = f" (upright, with EXIF orientation {self.exif})" if self.exif != 1 else ""
        return f"{width}x{height} pixels{rotated}"

    @property
    def upright(self) -> Size:
        """Size of the upright image."""
        height, width = self.stored
        return (width, height) if self.exif >= 5 else (height, width)

    @property
    def is_ambiguous(self) -> bool:
        """Whether the upright image has the same size as the stored one."""
        return self.exif != 1 and self.stored == self.upright

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Rotate ``(H, W, ...)`` stored pixels upright."""
        if self.exif >= 5:
            pixels = pixels.swapaxes(0, 1)
        if self.exif in (3, 4, 7, 8):
            pixels = pixels[::-1]
        if self.exif in (2, 3, 6, 7):
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(pixels)


def read_image(path: str | Path, size: Size | None = None) -> np.ndarray:
    """Read an image file as ``(H, W, 3)`` uint8 RGB.

    The EXIF orientation is applied, as in viewers and annotation tools, unless only the stored
    pixels match ``size``. Grey images become three equal channels and
    transparency is dropped. 16-bit files are scaled to 8 bits by their bit depth
    (``inspect_image``), estimated from ``SAMPLE`` files of the folder, so that dark frames stay
    dark.

    Args:
        path: of the file.
        size: expected by the annotations of the image; None: any.

    Raises:
        InputError: the file is missing, truncated, not an image or of another size.
    """
    data = _read_bytes(path)
    pixels = _to_8_bits(_decode(data, path), Path(path))
    orientation = _orientation(data, pixels.shape[:2])
    if size in (None, orientation.upright):
        pixels = orientation.apply(pixels)
    elif size != orientation.stored:
        raise InputError(
            f"image {path}: {orientation}, but its annotations are for {size[1]}x{size[0]}"
        )
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """An ``(H, W, 3)`` uint8 RGB image as JPEG.

    Args:
        image: the image.
        quality: 1 to 100 (best).

    Raises:
        InputError: JPEG cannot store so many pixels.
    """
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    is_encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not is_encoded:
        height, width = image.shape[:2]
        raise InputError(f"an image of {width}x{height} pixels cannot be encoded as JPEG")
    return data.tobytes()


def check_frame(frame: np.ndarray) -> None:
    """Raise an InputError for an array that is not ``(H, W, 3)`` uint8, or without pixels."""
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
        raise InputError(
            f"a frame must be (height, width, 3) uint8 RGB, not {frame.shape} {frame.dtype}"
        )


def to_array(image: ImageLike, bgr: bool = False) -> np.ndarray:
    """An image as ``(H, W, 3)`` uint8 RGB.

    Files are rotated upright by their EXIF orientation; arrays and PIL images are used as they are.

    Args:
        image: a path, an array or a PIL image.
        bgr: whether the channels of an array are BGR, as in OpenCV.

    Raises:
        InputError: not a readable image, or not such an array.
    """
    if isinstance(image, np.ndarray):
        check_frame(image)
        return np.ascontiguousarray(image[:, :, ::-1]) if bgr else image
    if isinstance(image, Image.Image):
        if image.mode[0] in "IF":  # Pillow would clip the values at 255
            raise InputError(
                f"a PIL image of mode {image.mode} has no defined range: convert it to RGB, or pass"
                " the path of its file"
            )
        return np.array(image.convert("RGB"))
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image))
    raise InputError(
        f"an image must be a path, an array or a PIL image, not {type(image).__name__}"
    )


def read_orientation(path: str | Path) -> Orientation:
    """Size and orientation of an image, from the file header; warns of an animation.

    Raises:
        InputError: the file is missing or not an image.
    """
    try:
        return _parse_header(path, warn=True)
    except FileNotFoundError as error:
        raise InputError(f"image {path}: no such file") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"image {path}: has too many pixels ({error})") from error
    except _PIL_ERRORS as error:
        raise InputError(f"image {path}: not a readable image") from error


def inspect_image(path: str | Path) -> tuple[Orientation, int]:
    """Orientation and bit depth (8, 10, 12, 14 or 16) of an image.

    Cameras store values of 10, 12 or 14 bits in 16-bit files. The bit depth is the smallest of
    these that can represent the brightest pixel. The whole file is read.

    Raises:
        InputError: as for ``read_image``.
    """
    data = _read_bytes(path)
    pixels = _decode(data, path)
    return _orientation(data, pixels.shape[:2]), _used_bits(pixels)


def _read_bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"image {path}: no such file") from error
    except OSError as error:
        raise InputError(f"image {path}: cannot be read ({error.strerror})") from error


def _decode(data: bytes, path: str | Path) -> np.ndarray:
    """``(H, W, 3)`` BGR as stored, uint8, or uint16 for 16-bit files."""
    if is_jpeg(data):
        if is_truncated(data):
            raise InputError(f"image {path}: the JPEG file is truncated; copy or download it again")
        data += JPEG_END  # the end marker may be missing; a second one is harmless
    try:
        buffer = np.frombuffer(data, np.uint8)
        pixels = cv2.imdecode(buffer, _AS_STORED | cv2.IMREAD_ANYDEPTH)
        if pixels is not None and pixels.dtype not in (np.uint8, np.uint16):
            pixels = cv2.imdecode(buffer, _AS_STORED)  # floating point and the like
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(f"image {path}: {error.err}") from error
        pixels = None  # an empty buffer, or more pixels than OpenCV allows
    if pixels is None:
        raise InputError(f"image {path}: not a readable image")
    return pixels


def _used_bits(pixels: np.ndarray) -> int:
    if pixels.dtype == np.uint8:
        return 8
    brightest = int(pixels.max())
    return next(bits for bits in _SENSOR_BITS if brightest < 1 << bits)


def _to_8_bits(pixels: np.ndarray, path: Path) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    bits = max(_used_bits(pixels), _bits_in_folder(path.absolute().parent, path.suffix))
    return (pixels >> (bits - 8)).astype(np.uint8)


@lru_cache(maxsize=4096)
def _bits_in_folder(folder: Path, suffix: str) -> int:
    """The maximum bit depth of a sample of files in a folder, evenly spaced by name."""
    names: list[str] = []
    with suppress(OSError):  # a folder may be accessible but not listable
        names = sorted(name for name in os.listdir(folder) if name.endswith(suffix))
    places = np.linspace(0, len(names) - 1, min(len(names), SAMPLE))
    picked = {names[round(place)] for place in places}
    bits = [8]
    for name in sorted(picked):
        with suppress(InputError):  # reported when that file is needed
            bits.append(_used_bits(_decode(_read_bytes(folder / name), folder / name)))
    return max(bits)


def _orientation(data: bytes, stored: Size) -> Orientation:
    if not any(word in data for word in _ORIENTATION_WORDS):  # the common case
        return Orientation(stored)
    try:
        return Orientation(stored, _parse_header(io.BytesIO(data)).exif)
    except _PIL_ERRORS:  # an invalid block, which viewers ignore, too
        return Orientation(stored)


def _parse_header(source: str | Path | io.BytesIO, warn: bool = False) -> Orientation:
    with Image.open(source) as image:
        if warn and (frames := _frame_count(image)) > 1:
            warnings.warn(
                f"image {source}: only the first of its {frames} frames is read; convert it to a "
                "video or to separate images",
                InputWarning,
                stacklevel=4,
            )
        # OpenCV and Pillow always rotate TIFF files upright
        exif = 1 if image.format == "TIFF" else image.getexif().get(ExifTags.Base.Orientation)
        width, height = image.size
    return Orientation((height, width), exif if isinstance(exif, int) and 1 <= exif <= 8 else 1)


def _frame_count(image: Image.Image) -> int:
    """The number of frames of an animation or pages; 1 if they cannot be counted."""
    if image.format not in _ANIMATED:
        return 1
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # Pillow raises many types for damaged files, whose first frame may be whole
        return 1
