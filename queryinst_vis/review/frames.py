"""The frames of a reviewed video by their numbers."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.video.image_sequence import ImageSequence
from queryinst_vis.video.source import VideoFile, open_source


class ReviewedFrames:
    """The frames of the results, read from their video in any order. Not thread-safe.

    Opening scans the whole file, once.

    Args:
        path: the video, or a folder of its frames.
        numbers: ``(F,)`` the number of each frame in the video, by its index in the results.
        size: ``(height, width)`` that the frames must have.

    Raises:
        InputError: the video cannot be read, or has fewer frames than the results.
    """

    def __init__(self, path: Path, numbers: np.ndarray, size: tuple[int, int]) -> None:
        self._path, self._numbers, self._size = path, numbers, size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracker has already warned about the file
            source = open_source(path)
        if not isinstance(source, VideoFile | ImageSequence):
            raise InputError(f"video {path}: is neither a video file nor a folder of images")
        self._access = source.random_access()
        last = int(numbers[-1])
        if last >= len(self._access):
            count = len(self._access)
            self.close()
            raise InputError(
                f"video {path}: has {count} frames, but the tracks include frame {last}"
            )

    def close(self) -> None:
        """Close the video."""
        self._access.close()

    def read(self, frame: int) -> np.ndarray:
        """A frame by its index in the results, ``(H, W, 3)`` uint8 RGB.

        Raises:
            InputError: the video cannot be read, or its frames have another size.
        """
        image = self._access.read(int(self._numbers[frame]))
        if image.shape[:2] != self._size:
            found, expected = (f"{w}x{h}" for h, w in (image.shape[:2], self._size))
            raise InputError(
                f"video {self._path}: its frames are {found} pixels, those of the tracks {expected}"
            )
        return image
