"""Preprocessing from frames to the network input."""

import numpy as np
import pytest
import torch

from queryinst_vis.data.transforms import fit_size, padded_size, to_network_input
from queryinst_vis.errors import InputError

MEAN, STD = [100.0, 110.0, 120.0], [50.0, 55.0, 60.0]


@pytest.mark.parametrize(
    ("size", "short", "long", "expected"),
    [
        ((720, 1280), 360, 640, (360, 640)),
        ((480, 640), 360, 640, (360, 480)),  # the short side limits
        ((300, 1200), 360, 640, (160, 640)),  # the long side limits
        ((1280, 720), 360, 640, (640, 360)),  # portrait: sides, not axes
        ((90, 160), 360, 640, (360, 640)),  # small images grow
        ((427, 640), 800, 1333, (800, 1199)),  # published COCO size of this image
        ((3, 4), 2, 100, (2, 3)),  # 2.67 rounds up
        ((2, 5), 1, 100, (1, 3)),  # and so does 2.5
        ((1, 1000), 100, 100, (1, 100)),  # never nothing
    ],
)
def test_fit_size_keeps_the_aspect_within_both_limits(size, short, long, expected):
    assert fit_size(*size, short, long) == expected


def test_padding_reaches_the_next_multiple_of_the_divisor_for_all_images():
    assert padded_size([(33, 64), (10, 65)]) == (64, 96)
    assert padded_size([(32, 64)]) == (32, 64)
    assert padded_size([(5, 5)], divisor=8) == (8, 8)


def test_pixels_are_normalised_per_rgb_channel_and_padding_is_zero():
    frame = np.zeros((36, 64, 3), np.uint8)
    frame[:] = (150, 55, 180)
    images, sizes = to_network_input([frame], 36, 64, MEAN, STD)
    assert sizes == [(36, 64)]
    assert images.shape == (1, 3, 64, 64)
    assert images.dtype == torch.float32
    assert images[0, :, :36].amin((1, 2)).tolist() == [1, -1, 1]
    assert images[0, :, :36].amax((1, 2)).tolist() == [1, -1, 1]
    assert images[0, :, 36:].abs().max() == 0


def test_frames_of_different_sizes_share_a_batch_and_do_not_influence_each_other():
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, size, dtype=np.uint8) for size in ((90, 160, 3), (80, 60, 3))]
    images, sizes = to_network_input(frames, 45, 80, MEAN, STD)
    assert sizes == [(45, 80), (60, 45)]
    assert images.shape == (2, 3, 64, 96)
    for frame, (height, width), image in zip(frames, sizes, images, strict=True):
        alone, _ = to_network_input([frame], 45, 80, MEAN, STD)
        torch.testing.assert_close(image[:, :height, :width], alone[0, :, :height, :width])


@pytest.mark.parametrize(
    "frame",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
)
def test_frames_that_are_not_rgb_are_refused(frame):
    with pytest.raises(InputError, match="uint8 RGB"):
        to_network_input([frame], 32, 32, MEAN, STD)
