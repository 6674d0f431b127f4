"""Detection of hard cuts between shots."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from queryinst_vis.errors import InputError

_THUMBNAIL = (64, 36)  # width and height in pixels
_BINS = 8  # of each colour channel
_HISTORY = 3  # changes that the current one is compared with
_FLOOR = 0.05  # smaller changes count as this large: a still image has no level of its own


class CutDetector:
    """Finds hard cuts online, each with the first frame of the new shot.

    The change from frame to frame is the distance of their colour histograms: the share of the
    pixels, 0..1, that changed their colour. Motion hardly changes histograms. A change is a cut
    where it is ``threshold`` times as large as the mean of the last three, so that a fast camera
    is none; comparing with a running mean is the idea of PySceneDetect's adaptive detector. A cut
    between two views of much the same colours, a fade and a dissolve are not found.

    Args:
        threshold: above 1. ``benchmarks/cuts.py`` measures what it finds and what it confuses.

    Raises:
        InputError: ``threshold`` is not above 1.
    """

    def __init__(self, threshold: float) -> None:
        if not threshold > 1:
            raise InputError(
                f"tracking.cut_threshold: expected null or above 1, such as 4, got {threshold}"
            )
        self._threshold = threshold
        self.reset()

    def reset(self) -> None:
        """Begin anew: the next frame is the first of a video."""
        self._previous: np.ndarray | None = None
        self._changes: deque[float] = deque(maxlen=_HISTORY)

    def is_cut(self, frame: np.ndarray) -> bool:
        """Whether another shot begins with the video's next frame, ``(H, W, 3)`` uint8 RGB.

        A video's first frame and the one after it, to which no change can be compared, are none.
        """
        histogram = _histogram(frame)
        previous, self._previous = self._previous, histogram
        if previous is None:
            return False
        change = float(np.abs(histogram - previous).sum()) / 2
        level = max(float(np.mean(self._changes)), _FLOOR) if self._changes else np.inf
        self._changes.append(change)
        return change > self._threshold * level


def _histogram(frame: np.ndarray) -> np.ndarray:
    """Shares of the pixels by colour, of a small copy of the frame."""
    small = cv2.resize(frame, _THUMBNAIL, interpolation=cv2.INTER_AREA)
    red, green, blue = np.moveaxis(small.astype(np.int64) * _BINS // 256, -1, 0)
    counts = np.bincount(((red * _BINS + green) * _BINS + blue).ravel(), minlength=_BINS**3)
    return counts / counts.sum()
