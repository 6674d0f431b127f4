"""Grey frames and detections for the tests of drawing."""

import numpy as np
import torch

from queryinst_vis.structures import Detections

HEIGHT, WIDTH = 120, 160
CLASSES = ["person", "car"]
GREY = 128


def grey_frame(height=HEIGHT, width=WIDTH):
    return np.full((height, width, 3), GREY, dtype=np.uint8)


def found(boxes, track_ids, labels=None, scores=None, masks=True):
    """Detections whose masks fill their boxes."""
    count = len(boxes)
    return Detections(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor([0.9] * count if scores is None else scores),
        labels=torch.tensor([0] * count if labels is None else labels, dtype=torch.int64),
        image_size=(HEIGHT, WIDTH),
        mask_logits=torch.full((count, 28, 28), 9.0) if masks else None,
        track_ids=torch.tensor(track_ids, dtype=torch.int64),
    )
