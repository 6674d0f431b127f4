"""How alike regions are in colour: histograms measured in the video, where they are needed."""

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

_STRIPES = 3  # a region is divided into as many from top to bottom: head, trunk and legs
_BINS = 6  # per channel of CIELAB
_LOWEST, _WIDTH = (0, 98, 98), (256, 60, 60)
"""Of OpenCV's 8-bit L, a and b; hardly anything in videos has stronger colours."""

_SIZE = _STRIPES * _BINS**3


class Colours:
    """Colour histograms of regions that the tracker found, and their cache.

    A region's descriptor is the square root of its CIELAB histogram, one histogram for each of
    three stripes, so that the product of two descriptors is their Bhattacharyya coefficient.
    Threads may share it.

    Args:
        index: of the results.
        source: the video or folder of frames; None: nothing can be measured.
        cache: file in which measured histograms are kept.
    """

    def __init__(self, index: TrackIndex, source: Path | None, cache: Path) -> None:
        self._index, self._source, self._cache = index, source, cache
        self._lock = Lock()
        self._place = np.full(len(index.frames), -1, dtype=np.int32)
        self._known = np.zeros((0, _SIZE), dtype=np.float16)
        rows, known = _read(cache, len(self._place))
        self._keep(rows, known)

    def measure(self, rows: np.ndarray) -> None:
        """Measure regions that have not been measured yet.

        Args:
            rows: ``(N,)`` of the index.

        Raises:
            InputError: the video cannot be read, or is not the one of the results.
        """
        with self._lock:
            missing = np.unique(rows[self._place[rows] < 0])
            if self._source is None or not len(missing):
                return
            self._keep(missing, self._measured(missing, self._source))
            known = np.flatnonzero(self._place >= 0)
            with atomic_path(self._cache) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, rows=known, known=self._known[self._place[known]])

    def of(self, rows: np.ndarray) -> np.ndarray | None:
        """The mean descriptor of regions, of length 1; None: none of them has been measured.

        Args:
            rows: ``(N,)`` of the index.
        """
        places = self._place[rows]
        mean = self._known[places[places >= 0]].sum(axis=0, dtype=np.float32)
        length = float(np.linalg.norm(mean))
        return mean / length if length > 0 else None

    def _keep(self, rows: np.ndarray, known: np.ndarray) -> None:
        self._place[rows] = len(self._known) + np.arange(len(rows))
        self._known = np.concatenate([self._known, known])

    def _measured(self, rows: np.ndarray, source: Path) -> np.ndarray:
        index = self._index
        tracks = index.track_ids[np.searchsorted(index.starts, rows, side="right") - 1]
        wanted: dict[int, list[int]] = defaultdict(list)
        for place, frame in enumerate(index.frames[rows].tolist()):
            wanted[frame].append(place)
        found = np.zeros((len(rows), _SIZE), dtype=np.float16)
        frames = ReviewedFrames(source, index.numbers, index.size)
        try:
            for frame in show_progress(sorted(wanted), "Comparing colours"):
                picture, regions = frames.read(frame), index.read(frame)
                for place in wanted[frame]:
                    found[place] = describe(picture, regions[int(tracks[place])].segmentation)
        finally:
            frames.close()
        return found


def describe(picture: np.ndarray, mask: RLE) -> np.ndarray:
    """The descriptor of a region.

    Args:
        picture: ``(H, W, 3)`` uint8 RGB.
        mask: the region.

    Returns:
        ``(648,)``, of length 1; 0 where the region is empty.
    """
    x0, y0, x1, y1 = bounding_box(mask)
    if x0 == x1:
        return np.zeros(_SIZE)
    rows, columns = np.nonzero(decode_columns(mask, x0, x1)[y0:y1])
    lab = cv2.cvtColor(np.ascontiguousarray(picture[y0:y1, x0:x1]), cv2.COLOR_RGB2LAB)
    levels = (lab[rows, columns].astype(int) - _LOWEST) * _BINS // _WIDTH
    code = rows * _STRIPES // (y1 - y0)
    for channel in np.clip(levels, 0, _BINS - 1).T:
        code = code * _BINS + channel
    histogram = np.bincount(code, minlength=_SIZE)
    return np.sqrt(histogram / len(code))


def _read(cache: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What a cache holds of ``count`` regions; nothing if it is missing or damaged."""
    try:
        with np.load(cache, allow_pickle=False) as stored:
            rows, known = stored["rows"], stored["known"]
        fits = rows.shape == known.shape[:1] and known.shape[1:] == (_SIZE,)
        fits &= known.dtype == np.float16 and rows.dtype == np.int64
        if fits and np.isin(rows, np.arange(count)).all() and (np.diff(rows) > 0).all():
            return rows, known
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    return np.zeros(0, dtype=np.int64), np.zeros((0, _SIZE), dtype=np.float16)
