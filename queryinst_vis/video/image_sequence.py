"""A video as image files: a folder of frames, a glob, a list of paths, or a single image."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from glob import glob
from pathlib import Path

import numpy as np

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.utils.files import natural_key
from queryinst_vis.utils.images import IMAGE_SUFFIXES, Size, read_image, read_orientation
from queryinst_vis.video.frames import DamagedFramesWarning, Frame, Selection

DEFAULT_FPS = 25.0
"""Default frame rate of images, as in FFmpeg."""

_NAMED = 3  # maximum number of suffixes in a warning


class ImageSequence:
    """Image files of the same size as the frames of a video.

    The headers of all selected files are read on opening. An image that cannot be decoded is
    handled like a damaged frame of a video: it is replaced by the last good one and marked as
    damaged, and an ``InputWarning`` gives its number.

    Args:
        files: at least one file, in order.
        name: name of the sequence, valid as a file name.
        origin: identifier of the sequence.
        selection: the selected frames.
        fps: frame rate of the images; None: 25.
        strict: raise an error if an image cannot be decoded.

    Raises:
        InputError: an image is missing, images differ in size, or the selection is empty.
    """

    is_live = False
    path = None
    fault = None
    pixel_aspect = Fraction(1)

    def __init__(
        self,
        files: Sequence[Path],
        name: str,
        origin: str,
        selection: Selection,
        *,
        fps: float | None = None,
        strict: bool = False,
    ) -> None:
        rate = check_fps(fps)
        self.name = name
        self.origin = origin
        self.fps = rate / selection.stride
        self._rate = rate
        self._strict = strict
        self._files = list(files)
        self._numbers = selection.numbers(self.seconds())
        if not self._numbers:
            raise InputError(f"images {origin}: {selection.misses(self.seconds())}")
        self._size = self._common_size()

    def __len__(self) -> int:
        return len(self._numbers)

    def frames(self) -> Iterator[Frame]:
        """The images, rotated upright by their EXIF orientation.

        Raises:
            InputError: with ``strict``, an image cannot be decoded.
        """
        last = np.zeros((*self._size, 3), np.uint8)
        damaged = []
        try:
            for number in self._numbers:
                is_damaged = False
                try:
                    last = read_image(self._files[number], self._size)
                except InputError:
                    if self._strict:
                        raise
                    is_damaged = True
                    damaged.append(number)
                yield Frame(number, number / self._rate, last, is_damaged)
        finally:
            if damaged:
                warnings.warn(
                    DamagedFramesWarning(
                        f"images {self.origin}",
                        damaged,
                        len(self._files),
                        f"the first one is {self._files[damaged[0]].name}; they show the last "
                        "good image, without detections",
                    ),
                    stacklevel=2,
                )

    def seconds(self) -> np.ndarray:
        """``(F,)`` times in seconds of all images, regardless of the selection."""
        return np.arange(len(self._files)) / self._rate

    def key_frames(self) -> list[int]:
        """Numbers of the images at which decoding can start: all."""
        return list(range(len(self._files)))

    def random_access(self) -> ImageAccess:
        """All images by number, regardless of the selection."""
        return ImageAccess(self._files, self._size)

    def _common_size(self) -> Size:
        """The common size of all selected images with readable headers."""
        first: tuple[Path, Size] | None = None
        error: InputError | None = None
        for number in self._numbers:
            file = self._files[number]
            if not file.is_file():
                raise InputError(f"image {file}: no such file")
            try:
                size = read_orientation(file).upright
            except InputError as unreadable:
                if self._strict:
                    raise
                error = error or unreadable
                continue
            first = first or (file, size)
            if size != first[1]:
                (height, width), (other_height, other_width) = first[1], size
                raise InputError(
                    f"images {self.origin}: {first[0].name} has {width}x{height} pixels, "
                    f"{file.name} {other_width}x{other_height}; the frames of a video must have "
                    "the same size. For unrelated photos, use queryinst-vis detect"
                )
        if first is None:
            raise error or InputError(f"images {self.origin}: none can be read")
        return first[1]


class ImageAccess:
    """Images of the same size by number, with the interface of ``random_access.RandomAccess``."""

    def __init__(self, files: Sequence[Path], size: Size) -> None:
        self._files, self._size = files, size

    def __len__(self) -> int:
        """The number of images."""
        return len(self._files)

    def close(self) -> None:
        """Nothing to close."""

    def read(self, number: int) -> np.ndarray:
        """An image as ``(H, W, 3)`` uint8 RGB; the last good one if it cannot be decoded.

        Raises:
            IndexError: the number is out of range.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"image {number} of {len(self)}")
        for file in reversed(self._files[: number + 1]):
            try:
                return read_image(file, self._size)
            except InputError:
                continue
        return np.zeros((*self._size, 3), np.uint8)


def check_fps(fps: float | None) -> float:
    """Check the rate of frames without timestamps; None: the default.

    Raises:
        InputError: not a positive number.
    """
    if fps is not None and not 0 < fps < float("inf"):
        raise InputError(f"fps must be above 0, got {fps}")
    return fps or DEFAULT_FPS


def is_image(path: str | Path) -> bool:
    """Whether a file has the suffix of an image."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def images_in(folder: Path) -> list[Path]:
    """The images of a folder in natural order; warns about other files.

    Raises:
        InputError: there are no images.
    """
    visible = [path for path in folder.iterdir() if path.is_file() and path.name[0] != "."]
    return _sorted_images(visible, str(folder))


def images_of_glob(pattern: str) -> list[Path]:
    """The images that match a glob, in natural order (``**`` includes subfolders).

    Raises:
        InputError: there are no images.
    """
    found = [Path(path) for path in glob(pattern, recursive=True)]
    return _sorted_images([path for path in found if path.is_file()], pattern)


def _sorted_images(files: list[Path], where: str) -> list[Path]:
    images = sorted((path for path in files if is_image(path)), key=natural_key)
    others = [path for path in files if not is_image(path)]
    if not images:
        found = f"{len(others)} other files" if others else "no files"
        raise InputError(
            f"images {where}: no images ({found}); expected .jpg, .png, .bmp, .webp, .tif or .ppm "
            "files"
        )
    if others:
        kinds = Counter(path.suffix or path.name for path in others).most_common(_NAMED)
        named = ", ".join(f"{count} {kind}" for kind, count in kinds)
        warnings.warn(
            f"images {where}: {len(others)} files that are not images are left out ({named}"
            f"{', ...' if sum(count for _, count in kinds) < len(others) else ''})",
            InputWarning,
            stacklevel=2,
        )
    return images
