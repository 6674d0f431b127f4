"""Detections to associate: distinct hand-made objects, and random crowds."""

import numpy as np
import torch
from hypothesis import strategies as st

from queryinst_vis.structures import Detections

SIZE = (100, 200)
OBJECTS = 4  # the hand-made objects 0..3 do not overlap and have orthogonal embeddings


def see(*objects, scores=None, shift=0.0):
    """Detections of hand-made objects; the same object twice is a duplicate detection."""
    which = torch.tensor(objects, dtype=torch.int64)
    left = 50.0 * which + shift
    return Detections(
        boxes=torch.stack([left, left, left + 30, left + 30], dim=1),
        scores=torch.full((len(which),), 0.9) if scores is None else torch.tensor(scores),
        labels=which % 2,
        image_size=SIZE,
        embeddings=5 * torch.eye(OBJECTS)[which],
    )


def random_frame(rng, count, channels=6):
    """Crowded random detections: ids collide, overtake and lose all the time."""
    corner = rng.uniform(0, 40, (count, 2))
    return Detections(
        boxes=torch.tensor(np.hstack([corner, corner + rng.uniform(5, 40, (count, 2))])).float(),
        scores=torch.tensor(rng.uniform(0.05, 1, count)).float(),
        labels=torch.tensor(rng.integers(0, 2, count)),
        image_size=SIZE,
        mask_logits=torch.tensor(rng.normal(size=(count, 28, 28))).float(),
        embeddings=torch.tensor(rng.normal(size=(count, channels))).float(),
    )


def random_video(seed, counts):
    rng = np.random.default_rng(seed)
    return [random_frame(rng, count) for count in counts]


videos = st.builds(
    random_video, st.integers(0, 2**32 - 1), st.lists(st.integers(0, 7), min_size=1, max_size=12)
)


def ids_of(tracker, frames):
    return [tracker.update(frame).track_ids.tolist() for frame in frames]
