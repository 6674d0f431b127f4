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
from queryinst_vis.utils.images import Size, read_image, read_orientation
from queryinst_vis.video.frames import DamagedFramesWarning, Frame, Selection

SUFFIXES = frozenset(
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
"""Of files that are taken for images, in lower case."""

DEFAULT_FPS = 25.0
"""Frames per second of images, which do not say when they are shown; FFmpeg assumes the same."""

_NAMED = 3  # files in a note; more are only counted


class ImageSequence:
    """Image files of one size as the frames of a video.

    The headers of all selected files are read on opening. An image that cannot be decoded keeps
    its place, like a damaged frame of a video: the last good one stands in, nothing is found in
    it, and an ``InputWarning`` gives its number.

    Args:
        files: in order, at least one.
        name: of the sequence, suits a file name.
        origin: tells it from others.
        selection: which frames.
        fps: of the images; None: 25.
        strict: raise an error at an image that cannot be decoded.

    Raises:
        InputError: an image is missing, images differ in size, or no image is in the selection.
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
        """The images, upright by their EXIF orientation.

        Raises:
            InputError: one cannot be decoded, with ``strict``.
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
                        f"the first one is {self._files[damaged[0]].name}; the last good image is "
                        "shown there, and nothing is found in it",
                    ),
                    stacklevel=2,
                )

    def seconds(self) -> np.ndarray:
        """``(F,)``, when each image is shown, whatever the selection."""
        return np.arange(len(self._files)) / self._rate

    def key_frames(self) -> list[int]:
        """Numbers of the images at which decoding can begin: all."""
        return list(range(len(self._files)))

    def random_access(self) -> ImageAccess:
        """All images by their numbers, whatever the selection."""
        return ImageAccess(self._files, self._size)

    def _common_size(self) -> Size:
        """The height and width of all selected images whose headers can be read."""
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
                    f"images {self.origin}: {first[0].name} has {width}x{height} pixels and "
                    f"{file.name} {other_width}x{other_height}; the frames of a video have one "
                    "size. For unrelated photos use the image mode: queryinst-vis detect"
                )
        if first is None:
            raise error or InputError(f"images {self.origin}: none can be read")
        return first[1]


class ImageAccess:
    """Images of one size by their numbers; the interface of ``random_access.RandomAccess``."""

    def __init__(self, files: Sequence[Path], size: Size) -> None:
        self._files, self._size = files, size

    def __len__(self) -> int:
        """The number of images."""
        return len(self._files)

    def close(self) -> None:
        """Nothing is open."""

    def is_near(self, number: int) -> bool:
        """Every image is at hand."""
        return True

    def read(self, number: int) -> np.ndarray:
        """An image as ``(H, W, 3)`` uint8 RGB; the last good one where it cannot be decoded.

        Raises:
            IndexError: there is no such image.
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
    """The rate of frames that have no times of their own; None: the default.

    Raises:
        InputError: not a positive number.
    """
    if fps is not None and not 0 < fps < float("inf"):
        raise InputError(f"fps must be above 0, got {fps}")
    return fps or DEFAULT_FPS


def is_image(path: str | Path) -> bool:
    """Whether a file's name is one of an image."""
    return Path(path).suffix.lower() in SUFFIXES


def images_in(folder: Path) -> list[Path]:
    """The images of a folder in natural order; a warning counts other files.

    Raises:
        InputError: there are none.
    """
    visible = [path for path in folder.iterdir() if path.is_file() and path.name[0] != "."]
    return _sorted_images(visible, str(folder))


def images_of_glob(pattern: str) -> list[Path]:
    """The images that a glob matches in natural order (``**``: in folders below, too).

    Raises:
        InputError: there are none.
    """
    found = [Path(path) for path in glob(pattern, recursive=True)]
    return _sorted_images([path for path in found if path.is_file()], pattern)


def _sorted_images(files: list[Path], where: str) -> list[Path]:
    images = sorted((path for path in files if is_image(path)), key=natural_key)
    others = [path for path in files if not is_image(path)]
    if not images:
        found = f"{len(others)} other files" if others else "no files"
        raise InputError(
            f"images {where}: no images ({found}); a folder of frames holds .jpg, .png, "
            ".bmp, .webp, .tif or .ppm files"
        )
    if others:
        kinds = Counter(path.suffix or path.name for path in others).most_common(_NAMED)
        named = ", ".join(f"{count} {kind}" for kind, count in kinds)
        warnings.warn(
            f"images {where}: {len(others)} files that are no images are left out ({named}"
            f"{', ...' if sum(count for _, count in kinds) < len(others) else ''})",
            InputWarning,
            stacklevel=2,
        )
    return images
