"""The lazy pyramid gives boxes what the whole one gives them, and computes less."""

from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis.models.build import build_model
from queryinst_vis.models.cpu import lazy_pyramid
from queryinst_vis.models.cpu.forms import Forms, replace_roi_and_fpn
from queryinst_vis.models.cpu.lazy_pyramid import TILE, LazyFPN, LazyPyramid
from queryinst_vis.models.cpu.roi_align import CpuRoIExtractor
from queryinst_vis.models.cpu.winograd import WinogradConv2d
from queryinst_vis.models.neck import FPN
from queryinst_vis.models.roi import RoIExtractor
from tests.closeness import assert_equal_to_rounding
from tests.tiny import tiny_config

HEIGHT, WIDTH = 256, 416  # of the input: P2 is 64x104, no multiple of the tile
SIDES = st.floats(1, 120)


@pytest.fixture(scope="module", autouse=True)
def no_level_is_cheap():
    """Small maps stand for large ones here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lazy_pyramid, "CHEAP", 0)
        yield


@pytest.fixture(scope="module")
def pyramid():
    """An FPN and backbone maps of two images."""
    torch.manual_seed(0)
    levels = [
        torch.randn(2, 5 + k, HEIGHT // 2 ** (k + 2), WIDTH // 2 ** (k + 2)) for k in range(4)
    ]
    return FPN([5, 6, 7, 8], 6).eval(), levels


@torch.no_grad()
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-30, WIDTH + 30), st.floats(-30, HEIGHT + 30), SIDES, SIDES),
        max_size=12,
    )
)
def test_boxes_read_the_same_whatever_was_read_before(pyramid, drawn):
    fpn, levels = pyramid
    lazy, whole = LazyPyramid(fpn, levels), fpn(levels)
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in drawn]).reshape(-1, 4)
    for by_vectors in (True, False):
        extract = CpuRoIExtractor(RoIExtractor(7), by_vectors)
        for some in (boxes[::2], boxes):  # the second time some tiles are there already
            split = [some[: len(some) // 2], some[len(some) // 2 :]]
            with _fresh_memory_is_nan():
                pooled = extract(lazy, split)
            assert_equal_to_rounding(pooled, extract(whole, split))


@torch.inference_mode()
def test_tiles_by_winograd_are_those_of_the_whole_map(pyramid):
    """Tiles are convolved without padding, the whole map with."""
    _, levels = pyramid
    fpn = FPN([5, 6, 7, 8], 128).eval()
    for block in fpn.pyramid.layer_blocks:
        block[0] = WinogradConv2d(block[0])
    boxes = [
        torch.tensor([[10.0, 20, 60, 90], [-20, 200, 50, 300]]),
        torch.tensor([[40.0, 40, 90, 200]]),
    ]
    extract = CpuRoIExtractor(RoIExtractor(7))
    pooled = extract(LazyPyramid(fpn, levels), boxes)
    assert_equal_to_rounding(pooled, RoIExtractor(7)(fpn(levels), boxes))


@contextmanager
def _fresh_memory_is_nan():
    """What nobody computed shows wherever it is read, be it with weight 0."""
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan()
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@torch.no_grad()
def test_only_what_is_read_is_computed(pyramid, monkeypatch):
    fpn, levels = pyramid
    lazy = LazyPyramid(fpn, levels)
    computed = []
    conv2d = torch.nn.functional.conv2d

    def count(pixels, weight, *rest):
        if weight.shape[-1] == 3:
            computed.append(len(pixels))
        return conv2d(pixels, weight, *rest)

    monkeypatch.setattr("torch.nn.functional.conv2d", count)
    inside = 4 * TILE * torch.tensor([0.2, 0.2, 0.8, 0.8])  # of the first tile of P2
    image = torch.zeros(1, 1)
    lazy.around(0, torch.cat([image, inside[None]], dim=1), 0.25)
    assert computed == [1]
    lazy.around(0, torch.cat([image, inside[None]], dim=1), 0.25)
    assert computed == [1]
    across = inside + 4 * TILE * torch.tensor([0.0, 0, 1, 1])  # and its three neighbours
    lazy.around(0, torch.cat([image, across[None]], dim=1), 0.25)
    assert computed == [1, 3]


@torch.no_grad()
def test_a_whole_level_can_be_had_at_any_time(pyramid):
    fpn, levels = pyramid
    lazy, whole = LazyPyramid(fpn, levels), fpn(levels)
    lazy.around(0, torch.tensor([[1.0, 10, 10, 60, 60]]), 0.25)
    assert len(lazy) == 4
    for ours, theirs in zip(lazy, whole, strict=True):
        assert_equal_to_rounding(ours, theirs)
    assert [size[0] for size in lazy.sizes] == [level.shape[2] for level in lazy[:]]


@torch.no_grad()
def test_a_cheap_level_is_computed_as_a_whole(pyramid, monkeypatch):
    fpn, levels = pyramid
    monkeypatch.setattr(lazy_pyramid, "CHEAP", 10**9)
    lazy = LazyPyramid(fpn, levels)
    read = lazy.around(0, torch.tensor([[1.0, 10, 10, 60, 60]]), 0.25)
    assert_equal_to_rounding(read, fpn(levels)[0])


@pytest.mark.parametrize("roi_align", [True, False])
def test_a_model_with_a_lazy_pyramid_gives_what_it_gave(roi_align):
    torch.manual_seed(0)
    model = build_model(tiny_config()).eval()
    images, sizes = torch.randn(2, 3, 96, 128), [(96, 128), (90, 100)]
    plain = model(images, sizes)
    replace_roi_and_fpn(model, Forms(roi_align=roi_align))
    with torch.no_grad():
        lazy = model(images, sizes)
    assert isinstance(lazy.features, LazyPyramid)
    for ours, theirs in zip(lazy.stages, plain.stages, strict=True):
        assert_equal_to_rounding(ours.boxes, theirs.boxes)
        assert_equal_to_rounding(ours.class_logits, theirs.class_logits)


@pytest.mark.parametrize("reason", ["training", "gradients"])
def test_maps_are_whole_where_gradients_may_be_wanted(pyramid, reason):
    """In training also without gradient: such maps may be read with gradient later."""
    fpn, levels = pyramid
    lazy = LazyFPN(fpn).train(reason == "training")
    with torch.set_grad_enabled(reason == "gradients"):
        maps = lazy(levels)
    assert isinstance(maps, list)
    fpn.eval()
    for ours, theirs in zip(maps, fpn(levels), strict=True):
        assert torch.equal(ours, theirs)


def test_the_names_of_parameters_stay(pyramid):
    fpn, _ = pyramid
    assert list(LazyFPN(fpn).state_dict()) == list(fpn.state_dict())
