"""Views of annotated images: pixels, boxes and masks are transformed together."""

from pathlib import Path

import numpy as np
import pytest
from data_support import (
    HEIGHT,
    WIDTH,
    rectangle,
    tight,
    uncompressed,
    whole_mask,
    write_picture,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from queryinst_vis.config import InputConfig
from queryinst_vis.data.frames import apply_view, load_pixels
from queryinst_vis.data.input_checks import check_input
from queryinst_vis.data.records import ImageRecord, Instance
from queryinst_vis.data.transforms import to_network_input
from queryinst_vis.data.views import View, draw_colour, draw_pseudo_clip, draw_view
from queryinst_vis.errors import InputError
from queryinst_vis.masks import bounding_box, decode_columns, encode_rle

FULL = (0, 0, HEIGHT, WIDTH)


def blob(rng):
    """An irregular mask with holes, as real ones are."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    cy, cx = rng.uniform(5, HEIGHT - 5), rng.uniform(5, WIDTH - 5)
    ry, rx = rng.uniform(4, 18, 2)
    distance = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2
    return distance + rng.uniform(0, 0.3, distance.shape) < 1


def record_of(masks, boxes=None):
    boxes = boxes or [None] * len(masks)
    instances = [
        Instance(100 + i, i, box, encode_rle(mask))
        for i, (mask, box) in enumerate(zip(masks, boxes, strict=True))
    ]
    return ImageRecord(1, Path("a.jpg"), HEIGHT, WIDTH, instances)


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def full_masks(frame):
    """``(N, H, W)``, also for a frame without instances."""
    masks = [whole_mask(piece, frame.size) for piece in frame.masks]
    return np.array(masks).reshape(len(masks), *frame.size)


# --- run lengths ---------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(0, WIDTH - 1), st.integers(1, WIDTH))
@settings(max_examples=50, deadline=None)
def test_decoded_columns_equal_those_of_pycocotools(seed, first, count):
    rng = np.random.default_rng(seed)
    mask = rng.random((HEIGHT, WIDTH)) < rng.uniform(0, 1)
    last = min(first + count, WIDTH)
    rle = encode_rle(mask)
    expected = coco_mask.decode(rle)[:, first:last]
    np.testing.assert_array_equal(decode_columns(rle, first, last), expected)


@pytest.mark.parametrize("value", [False, True])
def test_empty_and_full_masks_are_decoded(value):
    rle = encode_rle(np.full((HEIGHT, WIDTH), value))
    assert (decode_columns(rle, 0, WIDTH) == value).all()
    assert bounding_box(rle) == ((0, 0, WIDTH, HEIGHT) if value else (0, 0, 0, 0))


def test_long_runs_need_several_characters_a_number():
    mask = np.zeros((1000, 1200), bool)
    mask[3, 900] = True
    rle = encode_rle(mask)
    assert bounding_box(rle) == (900, 3, 901, 4)
    np.testing.assert_array_equal(decode_columns(rle, 890, 910), mask[:, 890:910])


# --- one view ------------------------------------------------------------------------------


def test_a_view_of_the_whole_image_at_its_own_size_is_unchanged():
    mask, image = rectangle(10, 8, 30, 40), picture()
    frame = apply_view(
        image, record_of([mask], [(10.4, 8.0, 29.8, 40.0)]), View(*FULL, HEIGHT, WIDTH)
    )
    np.testing.assert_array_equal(frame.image, image)
    np.testing.assert_array_equal(full_masks(frame)[0], mask)
    assert frame.boxes == [(10.4, 8.0, 29.8, 40.0)]
    assert (frame.labels, frame.instance_ids) == ([0], [100])


def test_training_resizes_exactly_as_testing_does():
    image, mean, std = picture(), [0.0] * 3, [1.0] * 3
    config = InputConfig(train_short=[40], train_long=[61], flip=0.0)
    view = draw_view(np.random.default_rng(0), HEIGHT, WIDTH, config)
    expected, [size] = to_network_input([image], 40, 61, mean, std)
    seen = view.apply(image)
    assert seen.shape[:2] == size == (37, 61)
    np.testing.assert_array_equal(seen.transpose(2, 0, 1), expected[0, :, :37, :61].numpy())


def test_a_missing_box_is_computed_from_the_mask():
    frame = apply_view(picture(), record_of([rectangle(10, 8, 30, 40)]), View(*FULL, HEIGHT, WIDTH))
    assert frame.boxes == [(10, 8, 30, 40)]


def test_resizing_scales_boxes_and_masks_with_the_pixels():
    record = record_of([rectangle(10, 8, 30, 40)], [(10, 8, 30, 40)])
    frame = apply_view(picture(), record, View(*FULL, 2 * HEIGHT, 3 * WIDTH))
    assert frame.boxes == [(30, 16, 90, 80)]
    assert tight(full_masks(frame)[0]) == (30, 16, 90, 80)
    assert full_masks(frame)[0].sum() == 6 * 20 * 32


def test_a_crop_shifts_clips_and_drops_instances():
    masks = [rectangle(20, 10, 30, 20), rectangle(5, 5, 25, 45), rectangle(60, 30, 75, 40)]
    record = record_of(masks, [tuple(map(float, tight(mask))) for mask in masks])
    frame = apply_view(picture(), record, View(8, 15, 40, 55, 32, 40))
    assert frame.instance_ids == [100, 101]
    assert frame.boxes == [(5, 2, 15, 12), (0, 0, 10, 32)]
    np.testing.assert_array_equal(full_masks(frame)[1], masks[1][8:40, 15:55])


def test_a_clipped_instance_gets_the_box_of_its_remaining_mask():
    corner = rectangle(10, 10, 40, 14) | rectangle(10, 10, 14, 40)  # an L
    record = record_of([corner], [(10, 10, 40, 40)])
    frame = apply_view(picture(), record, View(0, 20, HEIGHT, WIDTH, HEIGHT, 60))
    assert frame.boxes == [(0, 10, 20, 14)]


def test_instances_without_a_pixel_after_scaling_are_dropped():
    record = record_of([rectangle(3, 3, 4, 4), rectangle(10, 10, 40, 40)])
    frame = apply_view(picture(), record, View(*FULL, HEIGHT // 8, WIDTH // 8))
    assert frame.instance_ids == [101]


def test_a_view_without_instances_is_valid():
    record = record_of([rectangle(60, 30, 75, 40)])
    frame = apply_view(picture(), record, View(0, 0, 20, 20, 20, 20))
    assert (frame.boxes, frame.labels, frame.instance_ids, frame.masks) == ([], [], [], [])


@given(st.integers(0, 2**32 - 1))
@example(8586)  # a view that shows no instance
@settings(max_examples=60, deadline=None)
def test_flipping_changes_only_boxes_and_masks(seed):
    rng = np.random.default_rng(seed)
    config = InputConfig(train_short=[31, 48, 70], train_long=[90, 120], crop=0.7, colour=0.5)
    record, image = record_of([blob(rng) for _ in range(4)]), picture(seed)
    drawn = draw_view(rng, HEIGHT, WIDTH, config)
    plain, flipped = (
        apply_view(image, record, View(**(vars(drawn) | {"flip": flip}))) for flip in (False, True)
    )
    np.testing.assert_array_equal(flipped.image, plain.image[:, ::-1])
    np.testing.assert_array_equal(full_masks(flipped), full_masks(plain)[:, :, ::-1])
    assert flipped.labels == plain.labels
    assert flipped.instance_ids == plain.instance_ids
    assert len(flipped.boxes) == len(plain.boxes)
    for (x0, y0, x1, y1), box in zip(plain.boxes, flipped.boxes, strict=True):
        np.testing.assert_allclose(box, (drawn.width - x1, y0, drawn.width - x0, y1))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_box_is_tight_around_its_mask_to_one_pixel(seed):
    """Rectangles have no tips of a single pixel, which downscaling may lose."""
    rng = np.random.default_rng(seed)
    config = InputConfig(train_short=[33, 48, 70], train_long=[90, 120], crop=0.8)
    starts, sides = rng.integers(0, 30, (5, 2)), rng.integers(3, 40, (5, 2))
    masks = [rectangle(*start, *(start + side)) for start, side in zip(starts, sides, strict=True)]
    record = record_of(masks, [tuple(map(float, tight(mask))) for mask in masks])
    view = draw_view(rng, HEIGHT, WIDTH, config)
    frame = apply_view(picture(), record, view)
    for box, mask in zip(frame.boxes, full_masks(frame), strict=True):
        assert np.abs(np.subtract(box, tight(mask))).max() <= 1
        assert 0 <= box[0] < box[2] <= view.width + 1e-6
        assert 0 <= box[1] < box[3] <= view.height + 1e-6


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_boxes_of_clipped_instances_are_exactly_tight(seed):
    rng = np.random.default_rng(seed)
    masks = [blob(rng) for _ in range(5)]
    view = draw_view(rng, HEIGHT, WIDTH, InputConfig(train_short=[33], crop=1.0))
    frame = apply_view(picture(), record_of(masks), view)
    for number, box, seen in zip(frame.instance_ids, frame.boxes, full_masks(frame), strict=True):
        outside = masks[number - 100].copy()
        outside[view.top : view.bottom, view.left : view.right] = False
        if outside.any():
            assert box == tight(seen)


def test_image_and_masks_are_transformed_together():
    """A white object on black is white wherever its mask is, except at the blurred edge."""
    rng = np.random.default_rng(5)
    config = InputConfig(train_short=[96], train_long=[160], crop=1.0)
    for _ in range(20):
        mask = rectangle(*np.sort(rng.integers(0, 48, (2, 2)), axis=0).ravel())
        if mask.sum() < 60:
            continue
        image = np.repeat(mask[:, :, None], 3, 2).astype(np.uint8) * 255
        frame = apply_view(image, record_of([mask]), draw_view(rng, HEIGHT, WIDTH, config))
        for seen in full_masks(frame):
            assert ((frame.image[:, :, 0] > 127) != seen).mean() < 0.02


# --- drawing views -------------------------------------------------------------------------


def test_sizes_are_drawn_independently_for_both_sides():
    config = InputConfig(train_short=[30, 40], train_long=[40, 60])
    rng = np.random.default_rng(0)
    sizes = {draw_view(rng, HEIGHT, WIDTH, config).height for _ in range(60)}
    assert sizes == {24, 30, 36}  # 40 limits (24), then short 30, then 60 limits (36)


def test_crops_have_sides_within_range_and_the_given_probability():
    config = InputConfig(crop=0.4, crop_range=[0.5, 0.75])
    rng = np.random.default_rng(0)
    views = [draw_view(rng, HEIGHT, WIDTH, config) for _ in range(400)]
    cropped = [v for v in views if (v.top, v.left, v.bottom, v.right) != FULL]
    assert 0.3 < len(cropped) / len(views) < 0.5
    heights, widths = zip(*((v.bottom - v.top, v.right - v.left) for v in cropped), strict=True)
    assert (min(heights), max(heights)) == (24, 36)
    assert (min(widths), max(widths)) == (40, 60)
    assert min(v.top for v in cropped) == 0
    assert max(v.right for v in cropped) == WIDTH


def test_the_detr_crop_is_measured_in_the_resized_image():
    """384..600 pixels at a short side of 400, 500 or 600, or the whole side where it is less."""
    config = InputConfig(crop=1.0, crop_short=[400, 500, 600], crop_range=[384, 600])
    rng = np.random.default_rng(0)
    views = [draw_view(rng, 480, 960, config) for _ in range(2000)]
    heights, widths = zip(*((v.bottom - v.top, v.right - v.left) for v in views), strict=True)
    # at 400 a pixel of the crop covers 1.2 of the image, at 600 it covers .8
    assert (min(heights), max(heights)) == (round(0.8 * 384), 480)
    assert (min(widths), max(widths)) == (round(0.8 * 384), round(1.2 * 600))
    assert max(v.bottom for v in views) == 480
    assert max(v.right for v in views) == 960


def test_the_detr_crop_of_a_small_image_has_the_same_proportions():
    config = InputConfig(crop=1.0, crop_short=[400], crop_range=[384, 600])
    rng = np.random.default_rng(0)
    views = [draw_view(rng, HEIGHT, WIDTH, config) for _ in range(300)]
    heights, widths = zip(*((v.bottom - v.top, v.right - v.left) for v in views), strict=True)
    assert (min(heights), max(heights)) == (46, HEIGHT)  # 384 of 400: .96 of 48
    assert (min(widths), max(widths)) == (46, 72)  # 384..600 of 667


def test_flips_have_the_given_probability():
    rng = np.random.default_rng(0)
    flips = [draw_view(rng, HEIGHT, WIDTH, InputConfig(flip=0.25)).flip for _ in range(400)]
    assert 0.18 < np.mean(flips) < 0.32


def test_colours_are_unchanged_without_jitter_and_hue_keeps_grey():
    rng = np.random.default_rng(0)
    assert draw_colour(rng, 0.0) is None
    for _ in range(20):
        matrix = draw_colour(rng, 1.0)
        grey = matrix @ [90, 90, 90, 1]
        np.testing.assert_allclose(grey, grey[0])


def test_colour_jitter_is_visible_and_bounded():
    rng = np.random.default_rng(0)
    middles = np.array([draw_colour(rng, 1.0) @ [128, 128, 128, 1] for _ in range(300)])[:, 0]
    assert 96 <= middles.min() < 105 and 151 < middles.max() <= 160  # brightness alone: 128 +- 32
    image = picture()
    view = View(*FULL, HEIGHT, WIDTH, colour=draw_colour(rng, 0.5))
    assert view.apply(image).dtype == np.uint8
    assert np.abs(view.apply(image).astype(int) - image).mean() > 2


def test_the_two_views_of_a_pseudo_clip_share_size_and_flip_only():
    config = InputConfig(train_short=[40, 50], train_long=[70, 80], colour=0.5)
    rng = np.random.default_rng(0)
    pairs = [draw_pseudo_clip(rng, HEIGHT, WIDTH, config) for _ in range(30)]
    assert all(key.flip == reference.flip for key, reference in pairs)
    assert {key.flip for key, _ in pairs} == {False, True}
    assert all((key.top, key.left) != (ref.top, ref.left) for key, ref in pairs[:3])
    assert all((key.colour != ref.colour).any() for key, ref in pairs)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_short", []),
        ("train_long", [0]),
        ("flip", 1.5),
        ("crop", -0.1),
        ("colour", 2.0),
        ("crop_range", [0.9, 0.5]),
        ("crop_range", [0.0, 0.5]),
        ("crop_range", [0.5]),
        ("crop_range", [384, 600]),
        ("crop_short", [0]),
        ("max_frame_gap", -1),
    ],
)
def test_invalid_augmentation_settings_are_refused_by_name(key, value):
    check_input(InputConfig())
    with pytest.raises(InputError, match=rf"input\.{key}\b"):
        check_input(InputConfig(**{key: value}))


def test_a_crop_in_pixels_refuses_a_range_in_fractions():
    with pytest.raises(InputError, match=r"input\.crop_range .* in pixels"):
        check_input(InputConfig(crop_short=[400, 500, 600]))


# --- files that do not fit their annotations -----------------------------------------------


def test_an_image_that_differs_from_its_annotated_size_is_refused(tmp_path):
    write_picture(tmp_path / "a.jpg")
    record = ImageRecord(1, tmp_path / "a.jpg", WIDTH, HEIGHT)
    with pytest.raises(InputError, match=r"a\.jpg: 80x48 pixels.*for 48x80"):
        load_pixels(record)


def test_run_lengths_that_cannot_be_decoded_name_image_and_annotation():
    broken = uncompressed(rectangle(1, 1, 5, 5)) | {"counts": "\x01\x02"}
    record = ImageRecord(1, Path("a.jpg"), HEIGHT, WIDTH, [Instance(7, 0, None, broken)])
    with pytest.raises(InputError, match=r"image a\.jpg, annotation 7"):
        apply_view(picture(), record, View(*FULL, HEIGHT, WIDTH))
