"""Recent paths of instances in a video, as in supervision's ``TraceAnnotator``."""

from __future__ import annotations

from collections import deque

import numpy as np


class Paths:
    """Recent positions of the instances of a video: bottom centres of their boxes.

    Args:
        length: number of frames to keep.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._frame = 0
        self._seen: deque[tuple[int, dict[int, np.ndarray]]] = deque()

    def __len__(self) -> int:
        """The stored positions."""
        return sum(len(positions) for _, positions in self._seen)

    def follow(self, ids: list[int], boxes: np.ndarray) -> list[np.ndarray]:
        """Add the next frame, and return the path of each of its instances.

        Args:
            ids: N identities.
            boxes: ``(N, 4)`` xyxy in pixels.

        Returns:
            N times ``(K, 2)`` int32 xy, the oldest first.
        """
        if ids:
            feet = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]], axis=1)
            self._seen.append((self._frame, dict(zip(ids, feet.astype(np.int32), strict=True))))
        if len(self._seen) > self._length:  # frames without instances do not count
            while self._seen[0][0] <= self._frame - self._length:
                self._seen.popleft()
        self._frame += 1
        return [np.array([seen[i] for _, seen in self._seen if i in seen]) for i in ids]
