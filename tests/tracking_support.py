"""A tracker that knows the frames of ``tiny.draw_frame``, in place of a network."""

import numpy as np
import torch

from queryinst_vis.inference.result import FrameResult, nothing_found
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.structures import Detections
from tests.tiny import CLASSES, HEIGHT, WIDTH, rectangles

FRAMES = 12


class KnowingTracker(VideoTracker):
    """Tracks the red box (id 0) in every frame and the green crate (id 1) from frame 4."""

    class_names = CLASSES
    precision = "32-true"
    detector = None

    def __init__(self, detector=None):
        self.detector = detector
        self.reset()

    def reset(self):
        self.frames = []

    def follow_video(self, frames, batch=1, *, classes=None, conf=None, iou=None):
        for index, time, image, is_damaged in frames:
            found = nothing_found(image) if is_damaged else self.update(image, time)
            yield FrameResult(image, index, time, found)

    def update(self, frame, time=None):
        # The red box moves by three pixels a frame: it tells which frame of the video this is.
        reddish = (frame[..., 0] > 170) & (frame[..., 1] < 90)
        self.frames.append(round((np.flatnonzero(reddish.any(axis=0))[0] - 8) / 3))
        count = 1 if self.frames[-1] < 4 else 2
        return Detections(
            boxes=torch.tensor(rectangles(self.frames[-1]), dtype=torch.float32)[:count],
            scores=torch.tensor([0.9, 0.6])[:count],
            labels=torch.tensor([0, 1])[:count],
            image_size=(HEIGHT, WIDTH),
            mask_logits=torch.full((count, 28, 28), 9.0),
            track_ids=torch.tensor([0, 1])[:count],
        )


def rectangle(x0, y0, x1, y1):
    """A filled rectangle as the mask of a frame; ends exclusive."""
    pixels = np.zeros((HEIGHT, WIDTH), dtype=bool)
    pixels[y0:y1, x0:x1] = True
    return pixels
