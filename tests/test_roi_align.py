"""Multi-level RoIAlign and its CPU form: forward and backward equal torchvision."""

import pytest
import torch
import torchvision
from torch.testing import assert_close

from queryinst_vis.models.cpu.roi_align import CpuRoIExtractor, pool, sampling_points
from queryinst_vis.models.roi import RoIExtractor, assign_levels
from tests.closeness import assert_equal_to_rounding

HEIGHT, WIDTH, SCALE = 24, 40, 0.25


def random_rois(count, seed=0):
    """Boxes of two images inside, across and outside the 160x96 input, some empty."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([200.0, 130.0]) - 20
    sides = torch.rand(count, 2, generator=generator) * 90
    sides[::7] = 0
    image = torch.arange(count) % 2
    return torch.cat([image[:, None], corners, corners + sides], dim=1)


def roi_align(feature, rois, size, samples):
    """RoIAlign of boxes that all read this map."""
    scales = torch.full((len(rois),), SCALE, dtype=rois.dtype)
    sizes = torch.tensor([feature.shape[2:]]).expand(len(rois), 2)
    return pool(feature, *sampling_points(rois, scales, sizes, size, samples))


def for_cpus(*arguments):
    return CpuRoIExtractor(RoIExtractor(*arguments))


both_forms = pytest.mark.parametrize("form", [RoIExtractor, for_cpus])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("size", "samples"), [(7, 2), (14, 2), (5, 1), (3, 4)])
def test_values_and_gradients_equal_torchvision(size, samples, layout):
    torch.manual_seed(0)
    feature = torch.randn(2, 6, HEIGHT, WIDTH, dtype=torch.float64).to(memory_format=layout)
    ours, theirs = (feature.clone().requires_grad_() for _ in range(2))
    rois = random_rois(50).double()
    pooled = roi_align(ours, rois, size, samples)
    expected = torchvision.ops.roi_align(theirs, rois, size, SCALE, samples, aligned=True)
    assert pooled.shape == (50, 6, size, size) and (expected == 0).any() and (expected != 0).any()
    assert_close(pooled, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(expected)
    (pooled * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)


@both_forms
def test_adaptive_sampling_equals_torchvision(form):
    feature, rois = torch.randn(2, 3, HEIGHT, WIDTH), random_rois(9)
    rois = rois[rois[:, 0].argsort(stable=True)]
    extract = form(7, 0)
    expected = torchvision.ops.roi_align(feature, rois, 7, SCALE, 0, aligned=True)
    assert torch.equal(extract([feature], [rois[:5, 1:], rois[5:, 1:]]), expected)


@both_forms
def test_half_precision_maps_do_not_round_the_boxes(form):
    feature = torch.arange(WIDTH * 4.0).expand(1, 1, 8, -1)  # a ramp: values tell positions
    boxes = [torch.tensor([[301.0, 4, 309, 20]])]
    fine, coarse = (form(2)([feature.to(kind)], boxes) for kind in (torch.float32, torch.bfloat16))
    assert coarse.dtype == torch.bfloat16
    # one box side is 2 map pixels; bfloat16 coordinates near 301 are 2 input pixels apart
    assert_close(coarse.float(), fine, rtol=2**-8, atol=0)


@both_forms
@pytest.mark.parametrize("samples", [0, 2])
def test_pooling_several_maps_equals_pooling_each_alone(form, samples):
    torch.manual_seed(0)
    levels = [torch.randn(2, 3, *size) for size in ((31, 47), (16, 24), (8, 11), (5, 6))]
    rois = random_rois(40)
    rois[:, 3:] += 5 * (rois[:, 3:] - rois[:, 1:3])  # some large enough for the coarsest map
    boxes = [rois[rois[:, 0] == image, 1:] for image in range(2)]
    pooled = form(7, samples)(levels, boxes)
    chosen = assign_levels(torch.cat(boxes), 4)
    image = torch.arange(2).repeat_interleave(20)[:, None].float()
    rois = torch.cat((image, torch.cat(boxes)), dim=1)
    assert set(chosen.tolist()) == {0, 1, 2, 3}
    for row, level in enumerate(chosen.tolist()):
        expected = torchvision.ops.roi_align(
            levels[level], rois[row : row + 1], 7, 0.25 / 2**level, samples, aligned=True
        )
        assert_equal_to_rounding(pooled[row], expected[0])


@both_forms
def test_boxes_keep_their_order_over_levels(form):
    levels = [torch.full((2, 3, 128 // 2**k, 128 // 2**k), float(k)) for k in range(4)]
    sides = torch.tensor([200.0, 30, 500, 100, 120, 20])
    boxes = torch.stack([torch.zeros(6), torch.zeros(6), sides, sides], dim=1)
    pooled = form(1)(levels, [boxes[:4], boxes[4:]])
    assert (
        pooled.flatten(1)[:, 0].tolist() == assign_levels(boxes, 4).tolist() == [1, 0, 3, 0, 1, 0]
    )


@both_forms
def test_no_boxes_give_an_empty_differentiable_result(form):
    levels = [torch.randn(1, 4, 16, 16, requires_grad=True) for _ in range(2)]
    pooled = form(7)(levels, [torch.zeros(0, 4)])
    assert pooled.shape == (0, 4, 7, 7)
    pooled.sum().backward()
    assert levels[1].grad.abs().sum() == 0


def test_non_finite_boxes_are_pooled_as_zeros():
    rois = torch.tensor([[0.0, float("nan"), 0, 8, 8]])
    assert roi_align(torch.ones(1, 1, 8, 8), rois, 2, 2).eq(0).all()
