"""Frames in memory: arrays, PIL images, and iterators of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import count
from typing import TypeAlias

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.utils.images import ImageLike, to_array
from queryinst_vis.video.frames import Frame, Selection
from queryinst_vis.video.image_sequence import check_fps

_numbers = count()  # for sources without a name

Arrays: TypeAlias = "Sequence[ImageLike] | np.ndarray | Iterable[ImageLike]"
"""A list of images, a ``(T, H, W, 3)`` array, or an iterator of images."""


class ArraySource:
    """Images in memory as the frames of a video.

    Args:
        images: a list of ``(H, W, 3)`` uint8 arrays, PIL images or paths, a ``(T, H, W, 3)``
            array, or an iterator, which is read once and only as far as needed.
        selection: the selected frames.
        fps: of the images; None: 25.
        bgr: whether the channels of arrays are BGR, as in OpenCV.

    Raises:
        InputError: an empty list, or no image in the selection. Iterating raises it for
            invalid images and different sizes.
    """

    is_live = False
    path = None
    fault = None
    pixel_aspect = Fraction(1)

    def __init__(
        self, images: Arrays, selection: Selection, *, fps: float | None = None, bgr: bool = False
    ) -> None:
        self._rate = check_fps(fps)
        self._images = images
        self._selection = selection
        self._bgr = bgr
        self.name = "frames"
        self.origin = f"frames in memory {next(_numbers)}"
        self.fps = self._rate / selection.stride
        if isinstance(images, np.ndarray) and images.ndim != 4:
            raise InputError(f"frames: expected (T, H, W, 3) uint8, got {images.shape}")
        if isinstance(images, Sequence | np.ndarray):
            seconds = np.arange(len(images)) / self._rate
            self._numbers: range | None = selection.numbers(seconds)
            if not self._numbers:
                raise InputError(f"frames: {selection.misses(seconds)}")
        else:
            self._numbers = None

    def __len__(self) -> int:
        if self._numbers is None:
            raise TypeError("an iterator has no length")
        return len(self._numbers)

    def frames(self) -> Iterator[Frame]:
        """The images as ``(H, W, 3)`` uint8 RGB, with times from the frame rate.

        Raises:
            InputError: not an image, or its size differs from that of the first.
        """
        size: tuple[int, int] | None = None
        for number, seconds, image in self._selected():
            pixels = to_array(image, self._bgr)
            size = size or (pixels.shape[0], pixels.shape[1])
            if pixels.shape[:2] != size:
                raise InputError(
                    f"frame {number} has {pixels.shape[1]}x{pixels.shape[0]} pixels, the first one "
                    f"{size[1]}x{size[0]}; the frames of a video must have the same size"
                )
            yield Frame(number, seconds, pixels)

    def _selected(self) -> Iterator[tuple[int, float, ImageLike]]:
        if self._numbers is not None and isinstance(self._images, Sequence | np.ndarray):
            for number in self._numbers:
                yield number, number / self._rate, self._images[number]
            return
        unconverted = (
            _Unconverted(n, n / self._rate, image) for n, image in enumerate(self._images)
        )
        for item in self._selection.select(unconverted):
            yield item.number, item.seconds, item.image


class _Unconverted:
    """An image that is converted only if selected."""

    def __init__(self, number: int, seconds: float, image: ImageLike) -> None:
        self.number = number
        self.seconds = seconds
        self.image = image
