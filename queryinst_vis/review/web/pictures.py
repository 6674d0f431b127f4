"""JPEGs of a video's frames for a page: the ones that were seen, and their neighbours, at once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from queryinst_vis.review.frames import ReviewedFrames

_REMEMBERED = 64 << 20  # bytes of JPEG
_AHEAD = 3  # frames that are decoded before somebody asks for them
_QUALITY = 85
_WIDTHS = (320, 480, 640, 960, 1280, 1920)  # pixels; a page is given the next larger one


class Pictures:
    """Reads the frames of a video in a thread of its own, and encodes them as JPEG.

    Opening, which looks through the whole file, happens there, too: the first picture waits for it.

    Args:
        path: the video, or a folder of its frames.
        numbers: ``(F,)``, the number of each frame in the video, by its index in the results.
        size: ``(height, width)`` that the frames must have.
    """

    def __init__(self, path: Path, numbers: np.ndarray, size: tuple[int, int]) -> None:
        self._size, self._count = size, len(numbers)
        self._known: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._bytes = 0
        self._asked = 0  # how many pictures somebody has asked for
        self._last = 0
        self._thread = ThreadPoolExecutor(1)
        self._frames: Future[ReviewedFrames] = self._thread.submit(
            ReviewedFrames, path, numbers, size
        )

    def close(self) -> None:
        """Stop, and close the video."""
        self._thread.shutdown(cancel_futures=True)
        if not self._frames.cancelled() and self._frames.exception() is None:
            self._frames.result().close()

    async def jpeg(self, index: int, width: int) -> bytes:
        """The picture of a frame.

        Args:
            index: of the frame among those of the results.
            width: pixels in which it will be shown; larger ones are made smaller.

        Raises:
            InputError: the video cannot be read, or is not the one of the results.
        """
        self._asked += 1
        width = next((each for each in _WIDTHS if each >= width), self._size[1])
        found = self._known.get((index, width))
        step = -1 if index < self._last else 1
        self._last = index
        if found is None:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._thread, self._encode, index, width)
        self._thread.submit(self._prefetch, self._asked, index, width, step)
        return found

    def _encode(self, index: int, width: int) -> bytes:
        """In the thread: the JPEG of a frame, decoded unless it is remembered."""
        if (index, width) in self._known:
            self._known.move_to_end((index, width))
            return self._known[index, width]
        picture = self._frames.result().read(index)
        if width < picture.shape[1]:
            height = max(1, round(picture.shape[0] * width / picture.shape[1]))
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        found = self._known[index, width] = data.tobytes()
        self._bytes += len(found)
        while self._bytes > _REMEMBERED:
            self._bytes -= len(self._known.popitem(last=False)[1])
        return found

    def _prefetch(self, asked: int, index: int, width: int, step: int) -> None:
        """In the thread: neighbours of a picture, until somebody asks for another one."""
        for near in _neighbours(index, step, self._count):
            if asked != self._asked or self._frames.exception() is not None:
                return
            self._encode(near, width)


def _neighbours(index: int, step: int, count: int) -> Sequence[int]:
    """What is likely to be asked for next: some frames on, and one back."""
    ahead = [index + step * away for away in range(1, _AHEAD + 1)]
    return [near for near in [*ahead[:1], index - step, *ahead[1:]] if 0 <= near < count]
