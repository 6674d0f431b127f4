"""JPEG images of the frames of a video, with a cache and prefetching of neighbouring frames."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from queryinst_vis.review.frames import ReviewedFrames
from queryinst_vis.utils.images import encode_jpeg

_CACHE_SIZE = 64 << 20  # bytes
_PREFETCHED = 3  # frames
_QUALITY = 85
_WIDTHS = (320, 480, 640, 960, 1280, 1920)  # pixels; a requested width is rounded up to one of them


class FrameImages:
    """Reads the frames of a video in a separate thread and encodes them as JPEG.

    The thread also opens the video, which scans the whole file; the first image waits for it.

    Args:
        path: the video, or a folder of its frames.
        numbers: ``(F,)`` number of each frame in the video, by its index in the results.
        size: ``(height, width)`` that the frames must have.
    """

    def __init__(self, path: Path, numbers: np.ndarray, size: tuple[int, int]) -> None:
        self._size, self._count = size, len(numbers)
        self._cache: OrderedDict[tuple[int, int], bytes] = OrderedDict()  # by index and width
        self._cached_bytes = 0
        self._requests = 0
        self._last_index = 0
        self._thread = ThreadPoolExecutor(1)
        self._frames: Future[ReviewedFrames] = self._thread.submit(
            ReviewedFrames, path, numbers, size
        )

    def close(self) -> None:
        """Stop the thread and close the video."""
        self._thread.shutdown(cancel_futures=True)
        if not self._frames.cancelled() and self._frames.exception() is None:
            self._frames.result().close()

    async def jpeg(self, index: int, width: int) -> bytes:
        """The JPEG image of a frame.

        Args:
            index: index of the frame in the results.
            width: width in pixels in which it is shown; larger frames are downscaled.

        Raises:
            InputError: the video cannot be read, or is not the one of the results.
        """
        self._requests += 1
        width = next((each for each in _WIDTHS if each >= width), self._size[1])
        jpeg = self._cache.get((index, width))
        step = -1 if index < self._last_index else 1
        self._last_index = index
        if jpeg is None:
            loop = asyncio.get_running_loop()
            jpeg = await loop.run_in_executor(self._thread, self._encode, index, width)
        self._thread.submit(self._prefetch, self._requests, index, width, step)
        return jpeg

    def _encode(self, index: int, width: int) -> bytes:
        """Decode and encode a frame, unless it is in the cache; runs in the thread."""
        if (index, width) in self._cache:
            self._cache.move_to_end((index, width))
            return self._cache[index, width]
        image = self._frames.result().read(index)
        if width < image.shape[1]:
            height = max(1, round(image.shape[0] * width / image.shape[1]))
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        jpeg = self._cache[index, width] = encode_jpeg(image, _QUALITY)
        self._cached_bytes += len(jpeg)
        while self._cached_bytes > _CACHE_SIZE:
            self._cached_bytes -= len(self._cache.popitem(last=False)[1])
        return jpeg

    def _prefetch(self, requests: int, index: int, width: int, step: int) -> None:
        """Cache neighbouring frames until there is another request; runs in the thread."""
        for neighbour in _neighbours(index, step, self._count):
            if requests != self._requests or self._frames.exception() is not None:
                return
            self._encode(neighbour, width)


def _neighbours(index: int, step: int, count: int) -> Sequence[int]:
    """The frames that are likely to be requested next: some in the same direction, and one back."""
    ahead = [index + step * distance for distance in range(1, _PREFETCHED + 1)]
    return [each for each in [*ahead[:1], index - step, *ahead[1:]] if 0 <= each < count]
