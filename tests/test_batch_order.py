"""Batches of samples of similar shape: the same samples, less padding, exact resuming."""

import numpy as np
import pytest
from data_support import batches, coco_content, training_config, write_set
from hypothesis import given
from hypothesis import strategies as st

from queryinst_vis.config import InputConfig
from queryinst_vis.data.loader import TrainingSamples
from queryinst_vis.data.order import BatchOrder, group_by_shape
from queryinst_vis.data.views import draw_pseudo_clip

SHAPES = st.tuples(st.integers(1, 50), st.integers(1, 50))


def padded_area(batches, shapes):
    areas = []
    for batch in batches:
        height, width = (max(shapes[n][side] for n in batch) for side in (0, 1))
        areas.append(len(batch) * height * width)
    return sum(areas)


@given(shapes=st.lists(SHAPES, min_size=4, max_size=16), batch_size=st.sampled_from([1, 2, 4]))
def test_every_sample_is_in_one_batch(shapes, batch_size):
    shapes = dict(enumerate(shapes[: len(shapes) // batch_size * batch_size]))
    batches = group_by_shape(shapes, batch_size)
    assert sorted(n for batch in batches for n in batch) == sorted(shapes)
    assert {len(batch) for batch in batches} == {batch_size}


def test_portrait_and_landscape_images_are_kept_apart():
    sizes = [(30, 50), (50, 30), (28, 50), (50, 30), (50, 32), (30, 49), (29, 50), (48, 31)]
    shapes = dict(enumerate(sizes))
    batches = group_by_shape(shapes, 2)
    for batch in batches:
        assert len({shapes[n][0] > shapes[n][1] for n in batch}) == 1
    assert padded_area(batches, shapes) < 1.05 * sum(h * w for h, w in shapes.values())


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_windows_follow_each_other(batch_size):
    rng = np.random.default_rng(0)
    shapes = {n: tuple(rng.integers(10, 60, 2).tolist()) for n in range(100)}
    order = BatchOrder(batch_size, 12, 5, shapes.__getitem__)
    batches = [order[n] for n in range(24 // batch_size)]
    per_window = 12 // batch_size
    for window in range(2):
        numbers = [n for b in batches[window * per_window :][:per_window] for n in b]
        assert sorted(numbers) == list(range(12 * window, 12 * window + 12))
    again = BatchOrder(batch_size, 12, 5, shapes.__getitem__)
    assert [again[n] for n in reversed(range(len(batches)))] == batches[::-1]


def test_without_a_window_batches_are_consecutive_samples():
    order = BatchOrder(3, 0, 0, lambda number: pytest.fail("no shape is needed"))
    assert [order[0], order[1], order[7]] == [[0, 1, 2], [3, 4, 5], [21, 22, 23]]


def test_the_order_within_a_window_depends_on_the_seed():
    shapes = {n: (10 + n, 10) for n in range(32)}
    orders = [BatchOrder(2, 32, seed, shapes.__getitem__) for seed in range(3)]
    firsts = [[tuple(order[n]) for n in range(16)] for order in orders]
    assert len({tuple(first) for first in firsts}) == 3
    assert len({frozenset(first) for first in firsts}) == 1


@pytest.fixture
def config(tmp_path):
    config = training_config(*write_set(tmp_path / "coco", coco_content()))
    config.train.shape_window = 8
    config.input.crop = 1.0
    return config


@pytest.mark.parametrize("paired", [False, True])
def test_shapes_are_those_of_the_samples(config, paired):
    config.model.track.enabled = paired
    samples = TrainingSamples(config)
    for number in range(12):
        sizes = [frame.image.shape[:2] for frame in samples[number]]
        assert samples.shape(number) == tuple(map(max, zip(*sizes, strict=True)))


def test_a_resumed_training_sees_the_same_batches(config):
    whole = batches(config, 9)
    for start in (3, 4, 7):
        for ours, theirs in zip(batches(config, 2, start_step=start), whole[start:], strict=False):
            assert ours.images.equal(theirs.images)


def test_ranks_share_the_batches_of_one_process(config):
    alone = batches(config, 6)
    for rank in range(2):
        for ours, theirs in zip(
            batches(config, 3, rank=rank, world_size=2), alone[rank::2], strict=True
        ):
            assert ours.images.equal(theirs.images)


def test_both_views_of_a_pseudo_clip_have_one_size():
    rng = np.random.default_rng(0)
    config = InputConfig(crop_range=[0.4, 1.0], train_short=[90, 120], train_long=[200])
    for _ in range(50):
        first, second = draw_pseudo_clip(rng, 160, 300, config)
        assert abs(first.height - second.height) <= 2 and abs(first.width - second.width) <= 2
        for view in (first, second):
            height, width = view.bottom - view.top, view.right - view.left
            assert 0.39 * 160 <= height <= 160 and 0.39 * 300 <= width <= 300
