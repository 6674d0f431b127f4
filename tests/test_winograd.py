"""A 3x3 convolution by Winograd's algorithm is the convolution."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from queryinst_vis.models.build import build_model
from queryinst_vis.models.cpu.inference_form import to_inference_form
from queryinst_vis.models.cpu.winograd import WinogradConv2d, can_transform
from tests.tiny import tiny_config

SHAPES = [(1, 128, 16, 20), (2, 128, 13, 9), (3, 128, 5, 4), (1, 128, 3, 3), (0, 128, 8, 8)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_it_is_as_exact_as_the_plain_convolution(shape, padding, bias):
    torch.manual_seed(0)
    conv, images = nn.Conv2d(128, 130, 3, padding=padding, bias=bias), torch.randn(shape)
    found, plain = WinogradConv2d(conv)(images), conv(images)
    assert found.shape == plain.shape
    if images.numel():
        weights = [None if w is None else w.double() for w in (conv.weight, conv.bias)]
        exact = F.conv2d(images.double(), *weights, padding=padding)
        rounding = (plain - exact).abs().max().item()
        assert (found - exact).abs().max().item() < 8 * rounding + 1e-6


@torch.inference_mode()
def test_memory_format_and_threads_change_nothing():
    conv, images = WinogradConv2d(nn.Conv2d(128, 128, 3, padding=1)), torch.randn(2, 128, 14, 14)
    found = conv(images)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert_close(conv(images.contiguous(memory_format=torch.channels_last)), found)


def conv(channels=128, **options):
    return nn.Conv2d(channels, channels, **{"kernel_size": 3, **options})


def test_what_it_is_for():
    assert can_transform(conv(), torch.float32)
    assert can_transform(conv(padding=1), torch.float32)


@pytest.mark.parametrize(
    "other",
    [
        conv(64),
        conv(kernel_size=1),
        conv(stride=2),
        conv(dilation=2),
        conv(padding=2),
        conv(padding="same"),
        conv(groups=2),
        conv(padding=1, padding_mode="reflect"),
        conv(device="meta"),
    ],
    ids=str,
)
def test_what_it_is_not_for(other):
    assert not can_transform(other, torch.float32)


def test_half_precision_keeps_the_plain_convolution():
    assert not can_transform(conv(), torch.bfloat16)


def test_a_models_large_convolutions_are_such():
    """Those of the pyramid and the mask head at the published width; never a training model's."""
    config = tiny_config()
    config.model.channels = 128
    model = build_model(config)
    assert not any(isinstance(module, WinogradConv2d) for module in model.modules())
    to_inference_form(model)
    outputs = [block[0] for block in model.neck.pyramid.layer_blocks]
    assert all(isinstance(conv, WinogradConv2d) for conv in outputs)
    assert any(isinstance(module, WinogradConv2d) for module in model.mask_heads[-1].modules())
