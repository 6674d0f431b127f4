"""Detection of hard cuts between shots."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from queryinst_vis.errors import InputError

_THUMBNAIL = (64, 36)  # width and height in pixels
_BINS = 8  # per colour channel
_HISTORY = 3  # previous changes used as reference
_FLOOR = 0.05  # minimum of the reference, for still images


class CutDetector:
    """Online detection of hard cuts, at the first frame of the new shot.

    The change between frames is the distance of their colour histograms, 0..1, which hardly
    depends on motion. A change is a cut if it is ``threshold`` times as large as the mean of the
    last three, so that fast camera motion is not a cut; comparing with a running mean follows
    PySceneDetect's adaptive detector. Cuts between views with similar colours, fades and dissolves
    are not detected.

    Args:
        threshold: above 1. ``benchmarks/cuts.py`` measures precision and recall.

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
        """Reset: the next frame is the first of a video."""
        self._previous: np.ndarray | None = None
        self._changes: deque[float] = deque(maxlen=_HISTORY)

    def is_cut(self, frame: np.ndarray) -> bool:
        """Whether a new shot starts with the next frame, ``(H, W, 3)`` uint8 RGB.

        Never for the first two frames of a video, for which there is no reference.
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
    """Normalised colour histogram of a thumbnail of the frame."""
    small = cv2.resize(frame, _THUMBNAIL, interpolation=cv2.INTER_AREA)
    red, green, blue = np.moveaxis(small.astype(np.int64) * _BINS // 256, -1, 0)
    counts = np.bincount(((red * _BINS + green) * _BINS + blue).ravel(), minlength=_BINS**3)
    return counts / counts.sum()
