"""Frames of a video of any length within a byte budget: first downscaled, then subsampled."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from queryinst_vis.masks import RLE, resize_rle
from queryinst_vis.utils.images import encode_jpeg

SIDES = (960, 640, 480, 320)
"""Longer sides of the pictures in pixels, tried in this order; small videos are not upscaled."""

EXCERPT = 64
"""Length of an excerpt in frames."""

_QUALITY = 65  # of JPEG
_ESCAPED = 1.2  # bytes of masks in a page by bytes of JSON: "<" is written as six characters


@dataclass(frozen=True)
class Instance:
    """An instance in a frame.

    Attributes:
        track: its id.
        score: 0..1.
        box: xyxy in pixels of the video.
        mask: None for box-only instances.
    """

    track: int
    score: float
    box: list[float]
    mask: RLE | None

    def resized(self, height: int, width: int) -> Instance:
        """The instance with a mask of another frame size; the box stays in pixels of the video."""
        return (
            self if self.mask is None else replace(self, mask=resize_rle(self.mask, height, width))
        )

    def packed(self) -> list[Any]:
        """JSON for the script of the page."""
        box = [round(side, 1) for side in self.box]
        return [self.track, round(self.score, 3), box, self.mask and self.mask["counts"]]


class _Shown:
    """A frame in the page."""

    def __init__(self, picture: np.ndarray, instances: list[Instance], is_damaged: bool) -> None:
        height, width = picture.shape[:2]
        self._instances = [instance.resized(height, width) for instance in instances]
        self._is_damaged = is_damaged
        self._jpeg = encode_jpeg(picture, _QUALITY)
        text = json.dumps([instance.packed() for instance in self._instances])
        self.size = 4 * len(self._jpeg) // 3 + round(_ESCAPED * len(text)) + 32

    def resized(self, height: int, width: int) -> _Shown:
        pixels = cv2.imdecode(np.frombuffer(self._jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None  # encoded above
        smaller = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return _Shown(smaller[..., ::-1], self._instances, self._is_damaged)

    def packed(self) -> list[Any]:
        """``[JPEG in base64, instances, 1 for a damaged frame]``."""
        instances = [instance.packed() for instance in self._instances]
        return [base64.b64encode(self._jpeg).decode(), instances, int(self._is_damaged)]


class Excerpts:
    """Collects the frames of a video online, within a byte budget.

    If the budget is exceeded, all pictures are downscaled; at the smallest size, every second
    excerpt is dropped, and so on, so that excerpts stay evenly spaced for any length of video.

    Args:
        budget: bytes for pictures, boxes and masks.
        sides: longer sides to try, in pixels, descending.

    Attributes:
        seen: number of frames so far, including dropped ones.
        size: ``(height, width)`` of pictures and masks.
    """

    def __init__(self, budget: int, sides: Iterable[int] = SIDES) -> None:
        self.seen = 0
        self.size = (0, 0)
        self._budget = budget
        self._sides = list(sides)
        self._video_size = (0, 0)
        self._step = 1  # every n-th excerpt is kept
        self._kept: dict[int, _Shown] = {}
        self._bytes = 0

    def add(self, frame: np.ndarray, instances: list[Instance], is_damaged: bool = False) -> None:
        """Add the next frame.

        Args:
            frame: ``(H, W, 3)`` uint8 RGB.
            instances: its instances, with masks of the whole frame.
            is_damaged: the frame could not be decoded, and ``frame`` replaces it.
        """
        index, self.seen = self.seen, self.seen + 1
        if not index:
            self._video_size = frame.shape[0], frame.shape[1]
            self.size = self._size_of(self._sides.pop(0))
        if not self._keeps(index):
            return
        height, width = self.size
        if self.size != self._video_size:
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        self._kept[index] = _Shown(frame, instances, is_damaged)
        self._bytes += self._kept[index].size
        while self._bytes > self._budget:
            self._shrink()

    def ranges(self) -> list[tuple[int, int]]:
        """``(first, end)`` of each contiguous range of kept frames, ``end`` exclusive."""
        indices = list(self._kept)
        starts = [b for a, b in pairwise([-2, *indices]) if b != a + 1]
        ends = [a + 1 for a, b in pairwise([*indices, -2]) if b != a + 1]
        return list(zip(starts, ends, strict=True))

    def packed(self) -> list[list[Any]]:
        """The kept frames as JSON for the script of the page."""
        return [shown.packed() for shown in self._kept.values()]

    def _keeps(self, index: int) -> bool:
        return index // EXCERPT % self._step == 0

    def _shrink(self) -> None:
        if self._sides:
            self.size = self._size_of(self._sides.pop(0))
            self._kept = {at: shown.resized(*self.size) for at, shown in self._kept.items()}
        elif max(self._kept) >= EXCERPT:
            self._step *= 2
            self._kept = {at: shown for at, shown in self._kept.items() if self._keeps(at)}
        else:  # a single excerpt is too large: truncate it
            self._kept.popitem()
        self._bytes = sum(shown.size for shown in self._kept.values())

    def _size_of(self, side: int) -> tuple[int, int]:
        height, width = self._video_size
        scale = min(1.0, side / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))
