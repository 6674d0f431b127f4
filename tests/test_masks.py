"""Masks between small logits, pixels and run lengths."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis.masks import decode_rle, encode_region, encode_rle
from queryinst_vis.structures import Detections


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_a_region_encodes_as_the_whole_frame_does(height, width, density, seed):
    rng = np.random.default_rng(seed)
    top, left = rng.integers(height + 1), rng.integers(width + 1)
    bottom, right = rng.integers(top, height + 1), rng.integers(left, width + 1)
    frame = np.zeros((height, width), dtype=bool)
    frame[top:bottom, left:right] = rng.random((bottom - top, right - left)) < density
    region = frame[top:bottom, left:right]
    assert encode_region(region, int(left), int(top), (height, width)) == encode_rle(frame)


def test_run_lengths_of_detections_are_their_pasted_masks():
    torch.manual_seed(0)
    corners = torch.rand(8, 2) * 60 - 10  # some reach beyond the 50x40 frame
    detections = Detections(
        boxes=torch.cat([corners, corners + torch.rand(8, 2) * 40], dim=1),
        scores=torch.ones(8),
        labels=torch.zeros(8, dtype=torch.int64),
        image_size=(40, 50),
        mask_logits=torch.randn(8, 28, 28) + 1,
    )
    masks = detections.masks().numpy()
    assert masks.any()
    assert all(
        (decode_rle(rle) == mask).all() for rle, mask in zip(detections.rles(), masks, strict=True)
    )
