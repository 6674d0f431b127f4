"""Masks: from logits to pixels to RLE."""

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis.masks import decode_rle, encode_region, encode_rle
from queryinst_vis.masks.paste import paste_masks
from queryinst_vis.structures import Detections


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_encoding_a_region_equals_encoding_the_whole_frame(height, width, density, seed):
    rng = np.random.default_rng(seed)
    top, left = rng.integers(height + 1), rng.integers(width + 1)
    bottom, right = rng.integers(top, height + 1), rng.integers(left, width + 1)
    frame = np.zeros((height, width), dtype=bool)
    frame[top:bottom, left:right] = rng.random((bottom - top, right - left)) < density
    region = frame[top:bottom, left:right]
    assert encode_region(region, int(left), int(top), (height, width)) == encode_rle(frame)


def test_rles_of_detections_equal_their_pasted_masks():
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


def sampled_masks(logits, boxes, image_size):
    """Probabilities at every pixel as Mask R-CNN reads them: ``grid_sample`` over the frame."""
    height, width = image_size
    x0, y0, x1, y1 = boxes.double()[:, :, None].unbind(1)
    x = (torch.arange(width) + 0.5 - x0) / (x1 - x0) * 2 - 1
    y = (torch.arange(height) + 0.5 - y0) / (y1 - y0) * 2 - 1
    shape = (len(boxes), height, width)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=3)
    return F.grid_sample(logits.double().sigmoid()[:, None], grid, align_corners=False)[:, 0]


def pasted(logits, boxes, image_size, threshold=0.5):
    """``(N, H, W)`` bool."""
    frames = np.zeros((len(boxes), *image_size), dtype=bool)
    for frame, mask in zip(frames, paste_masks(logits, boxes, image_size, threshold), strict=True):
        mask.write(frame)
    return torch.from_numpy(frames)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.floats(0.1, 0.9), st.integers(0, 2**31))
def test_mask_pasting_equals_grid_sample(height, width, threshold, seed):
    random = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height])
    corners = (torch.rand(5, 2, generator=random) * 1.4 - 0.4) * size
    boxes = torch.cat([corners, corners + torch.rand(5, 2, generator=random) * size + 0.1], dim=1)
    logits = torch.randn(5, 28, 28, generator=random)
    expected = sampled_masks(logits, boxes, (height, width))
    clear = (expected - threshold).abs() > 1e-4  # the reference has more digits
    masks = pasted(logits, boxes, (height, width), threshold)
    assert (masks == (expected >= threshold))[clear].all()


def test_a_full_mask_covers_exactly_its_box():
    boxes = torch.tensor([[3.0, 2.0, 7.0, 5.0], [-4.0, -4.0, 2.0, 1.0], [30.0, 2.0, 40.0, 5.0]])
    masks = pasted(torch.full((3, 28, 28), 20.0), boxes, (8, 10))
    expected = torch.zeros(3, 8, 10, dtype=torch.bool)
    expected[0, 2:5, 3:7] = True
    expected[1, :1, :2] = True
    assert torch.equal(masks, expected)
