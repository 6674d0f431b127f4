"""What tracking says of one frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from queryinst_vis.structures import Detections


@dataclass(frozen=True, eq=False)
class FrameResult:
    """A frame and what was found in it.

    Attributes:
        frame: ``(H, W, 3)`` uint8 RGB.
        index: of the frame in its video, from 0, among the frames that a player shows.
        seconds: when the frame is shown; None where that is unknown.
        detections: as ``VideoTracker.update`` gives them.
    """

    frame: np.ndarray
    index: int
    seconds: float | None
    detections: Detections
