"""Colour descriptors of regions, measured in the video on demand and cached."""

from __future__ import annotations

import zipfile
from collections import defaultdict
from pathlib import Path
from threading import Lock

import cv2
import numpy as np

from queryinst_vis.masks import RLE, bounding_box, decode_columns
from queryinst_vis.review.frames import ReviewedFrames
from queryinst_vis.review.index import TrackIndex
from queryinst_vis.utils.files import atomic_path
from queryinst_vis.utils.progress import show_progress

_STRIPES = 3  # horizontal, of equal height: roughly head, trunk and legs
_BINS = 6  # per channel of CIELAB
_LOWEST, _RANGE = (0, 98, 98), (256, 60, 60)
"""In OpenCV's 8-bit L, a and b; more saturated colours are rare in videos and are clipped."""

_SIZE = _STRIPES * _BINS**3


class ColourDescriptors:
    """Colour descriptors of the detected regions, with a cache. Thread-safe.

    A descriptor is the square root of a normalized CIELAB histogram with ``_STRIPES`` horizontal
    stripes, so the dot product of two descriptors is their Bhattacharyya coefficient.

    Args:
        index: index of the results.
        source: the video or folder of its frames; None: nothing is measured.
        cache: cache file.
    """

    def __init__(self, index: TrackIndex, source: Path | None, cache: Path) -> None:
        self._index, self._source, self._cache = index, source, cache
        self._lock = Lock()
        self._positions = np.full(len(index.frames), -1, dtype=np.int32)  # in _descriptors
        self._descriptors = np.zeros((0, _SIZE), dtype=np.float16)
        self._add(*_read_cache(cache, len(self._positions)))

    def measure(self, rows: np.ndarray) -> None:
        """Measure regions that have not been measured yet, and write the cache.

        Args:
            rows: ``(N,)`` rows of the index.

        Raises:
            InputError: the video cannot be read, or is not the one of the results.
        """
        with self._lock:
            missing = np.unique(rows[self._positions[rows] < 0])
            if self._source is None or not len(missing):
                return
            self._add(missing, self._measured(missing, self._source))
            measured = np.flatnonzero(self._positions >= 0)
            descriptors = self._descriptors[self._positions[measured]]
            with atomic_path(self._cache) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, rows=measured, known=descriptors)

    def mean(self, rows: np.ndarray) -> np.ndarray | None:
        """The mean descriptor of regions, scaled to unit length; None if none was measured.

        Args:
            rows: ``(N,)`` rows of the index.
        """
        positions = self._positions[rows]
        total = self._descriptors[positions[positions >= 0]].sum(axis=0, dtype=np.float32)
        norm = float(np.linalg.norm(total))
        return total / norm if norm > 0 else None

    def _add(self, rows: np.ndarray, descriptors: np.ndarray) -> None:
        self._positions[rows] = len(self._descriptors) + np.arange(len(rows))
        self._descriptors = np.concatenate([self._descriptors, descriptors])

    def _measured(self, rows: np.ndarray, source: Path) -> np.ndarray:
        index = self._index
        tracks = index.track_ids[np.searchsorted(index.starts, rows, side="right") - 1]
        by_frame: dict[int, list[int]] = defaultdict(list)
        for position, frame in enumerate(index.frames[rows].tolist()):
            by_frame[frame].append(position)
        descriptors = np.zeros((len(rows), _SIZE), dtype=np.float16)
        frames = ReviewedFrames(source, index.numbers, index.size)
        try:
            for frame in show_progress(sorted(by_frame), "Comparing colours"):
                image, regions = frames.read(frame), index.read(frame)
                for position in by_frame[frame]:
                    mask = regions[int(tracks[position])].segmentation
                    descriptors[position] = colour_descriptor(image, mask)
        finally:
            frames.close()
        return descriptors


def colour_descriptor(image: np.ndarray, mask: RLE) -> np.ndarray:
    """The colour descriptor of a region.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        mask: the region.

    Returns:
        ``(648,)`` of unit length; all 0 if the region is empty.
    """
    x0, y0, x1, y1 = bounding_box(mask)
    if x0 == x1:
        return np.zeros(_SIZE)
    rows, columns = np.nonzero(decode_columns(mask, x0, x1)[y0:y1])
    lab = cv2.cvtColor(np.ascontiguousarray(image[y0:y1, x0:x1]), cv2.COLOR_RGB2LAB)
    levels = (lab[rows, columns].astype(int) - _LOWEST) * _BINS // _RANGE
    code = rows * _STRIPES // (y1 - y0)
    for channel in np.clip(levels, 0, _BINS - 1).T:
        code = code * _BINS + channel
    histogram = np.bincount(code, minlength=_SIZE)
    return np.sqrt(histogram / len(code))


def _read_cache(cache: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of measured regions and their descriptors; none if the cache is missing or damaged.

    Args:
        cache: cache file.
        count: number of rows of the index.
    """
    try:
        with np.load(cache, allow_pickle=False) as stored:
            rows, descriptors = stored["rows"], stored["known"]
        is_valid = rows.shape == descriptors.shape[:1] and descriptors.shape[1:] == (_SIZE,)
        is_valid &= descriptors.dtype == np.float16 and rows.dtype == np.int64
        if is_valid and np.isin(rows, np.arange(count)).all() and (np.diff(rows) > 0).all():
            return rows, descriptors
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    return np.zeros(0, dtype=np.int64), np.zeros((0, _SIZE), dtype=np.float16)
