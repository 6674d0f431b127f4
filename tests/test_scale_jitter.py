"""Large-scale jitter: any image at any scale on one canvas."""

import numpy as np
import pytest
from data_support import batches, coco_content, rectangle, training_config, video_content, write_set

from queryinst_vis.config import InputConfig
from queryinst_vis.data.frames import apply_view
from queryinst_vis.data.input_checks import check_input
from queryinst_vis.data.records import ImageRecord, Instance
from queryinst_vis.data.views import draw_pseudo_clip, draw_view
from queryinst_vis.errors import InputError
from queryinst_vis.masks import encode_rle

CANVAS = 96, 160


def config_of(low, high, **settings):
    return InputConfig(
        **({"train_short": [96], "train_long": [160], "scale_jitter": [low, high]} | settings)
    )


def views(number, height, width, config):
    rng = np.random.default_rng(0)
    return [draw_view(rng, height, width, config) for _ in range(number)]


def test_at_scale_1_the_view_equals_the_one_without_jitter():
    (jittered,) = views(1, 48, 80, config_of(1, 1, flip=0.0))
    (plain,) = views(1, 48, 80, config_of(1, 1, flip=0.0, scale_jitter=[]))
    assert jittered == plain


def test_a_downscaled_image_is_shown_whole():
    (view,) = views(1, 48, 80, config_of(0.25, 0.25))
    assert (view.top, view.left, view.bottom, view.right) == (0, 0, 48, 80)
    assert (view.height, view.width) == (24, 40)


def test_an_upscaled_image_fills_the_canvas_with_a_random_crop():
    drawn = views(300, 48, 80, config_of(2, 2))
    assert {(view.height, view.width) for view in drawn} == {CANVAS}
    assert {(view.bottom - view.top, view.right - view.left) for view in drawn} == {(24, 40)}
    assert {view.top for view in drawn} == set(range(25))
    assert {view.left for view in drawn} == set(range(41))


def test_a_portrait_image_is_cropped_to_the_canvas_height_and_padded_at_the_side():
    """Scale 1 is the size at test time, 160 pixels high."""
    drawn = views(200, 80, 48, config_of(1, 1))
    assert {(view.height, view.width) for view in drawn} == {(96, 96)}
    assert {(view.bottom - view.top, view.left, view.right) for view in drawn} == {(48, 0, 48)}
    assert {view.top for view in drawn} == set(range(33))
    (small,) = views(1, 80, 48, config_of(0.5, 0.5))
    assert (small.height, small.width) == (80, 48)


def test_scales_are_uniform_in_their_range_and_views_fit_the_canvas():
    drawn = views(600, 48, 80, config_of(0.3, 2.0))
    scales = np.array([view.width / (view.right - view.left) / 2 for view in drawn])
    assert 0.29 < scales.min() < 0.32 and 1.95 < scales.max() < 2.05
    assert abs((scales < 1).mean() - 0.7 / 1.7) < 0.06
    assert max(view.height for view in drawn) == 96
    assert max(view.width for view in drawn) == 160


@pytest.mark.parametrize("factor", [0.37, 0.8, 1.0, 1.3, 1.9])
def test_the_aspect_ratio_is_kept_within_two_pixels(factor):
    for height, width in ((480, 640), (333, 500), (640, 427)):
        for view in views(20, height, width, config_of(factor, factor)):
            across = view.width / (view.right - view.left)
            assert abs(view.height - (view.bottom - view.top) * across) < 2


def test_boxes_and_masks_scale_with_the_pixels():
    mask = rectangle(20, 8, 40, 40)
    record = ImageRecord(1, None, 48, 80, [Instance(1, 0, (20, 8, 40, 40), encode_rle(mask))])
    image = np.repeat(mask[:, :, None], 3, axis=2).astype(np.uint8) * 255
    for factor, scale in ((0.5, 1), (1, 2)):
        (view,) = views(1, 48, 80, config_of(factor, factor, flip=0.0))
        frame = apply_view(image, record, view)
        assert frame.boxes == [tuple(scale * side for side in (20, 8, 40, 40))]
        assert frame.masks[0].pixels.sum() == scale**2 * mask.sum()
    for view in views(30, 48, 80, config_of(1.5, 1.5, flip=0.0)):
        frame = apply_view(image, record, view)
        for box, piece in zip(frame.boxes, frame.masks, strict=True):
            scale = view.width / (view.right - view.left), view.height / (view.bottom - view.top)
            expected = [
                (min(max(20, view.left), view.right) - view.left) * scale[0],
                (min(max(8, view.top), view.bottom) - view.top) * scale[1],
                (min(max(40, view.left), view.right) - view.left) * scale[0],
                (min(max(40, view.top), view.bottom) - view.top) * scale[1],
            ]
            np.testing.assert_allclose(box, expected, atol=1)
            assert np.abs(np.subtract(piece.box(), box)).max() <= 1


def test_a_crop_comes_first_and_is_jittered_like_an_image():
    drawn = views(200, 48, 80, config_of(0.5, 0.5, crop=1.0, crop_range=[0.5, 0.5]))
    assert {(view.bottom - view.top, view.right - view.left) for view in drawn} == {(24, 40)}
    assert {(view.height, view.width) for view in drawn} == {(48, 80)}


def test_the_views_of_a_pseudo_clip_share_the_factor_and_differ_in_their_windows():
    config = config_of(0.3, 2.0, crop_range=[0.8, 0.8])
    rng = np.random.default_rng(0)
    clips = [draw_pseudo_clip(rng, 240, 400, config) for _ in range(40)]
    scales = np.array([[v.width / (v.right - v.left) for v in clip] for clip in clips])
    np.testing.assert_allclose(scales[:, 0], scales[:, 1], rtol=0.02)
    assert scales[:, 0].max() / scales[:, 0].min() > 4
    assert all((key.top, key.left) != (ref.top, ref.left) for key, ref in clips[:5])
    assert all((key.height, key.width) == (ref.height, ref.width) for key, ref in clips)


@pytest.mark.parametrize("content", [coco_content(), video_content()], ids=["image", "video"])
def test_every_batch_has_the_size_of_the_canvas_and_targets_that_of_the_content(tmp_path, content):
    config = training_config(*write_set(tmp_path, content), pairs=True, scale_jitter=[0.3, 2.0])
    sizes = set()
    for batch in batches(config, 10):
        assert batch.images.shape == batch.reference.images.shape == (2, 3, 64, 96)
        for image, target in zip(batch.images, batch.targets, strict=True):
            height, width = target.image_size
            assert height <= 48 and width <= 80
            assert image[:, height:].abs().sum() == image[:, :, width:].abs().sum() == 0
            assert not target.masks[:, height:].any() and not target.masks[:, :, width:].any()
            sizes.add(target.image_size)
    assert len(sizes) > 5
    assert (48, 80) in sizes


@pytest.mark.parametrize(
    "factors", [[0.5], [0.0, 1.0], [2.0, 1.0], [0.5, float("inf")], [0.5, 1e9], [0.1, 1, 2]]
)
def test_invalid_scale_ranges_are_refused(factors):
    message = r"input\.scale_jitter(\[.\]: must be| is .*\[low, high\])"
    with pytest.raises(InputError, match=message):
        check_input(config_of(1, 1, scale_jitter=factors))


@pytest.mark.parametrize("key", ["train_short", "train_long"])
def test_several_canvas_sizes_are_refused(key):
    with pytest.raises(InputError, match=rf"input\.{key} is \[96, 128\]"):
        check_input(config_of(0.5, 2.0, **{key: [96, 128]}))


@pytest.mark.parametrize(
    ("key", "value"), [("copy_paste", 1.5), ("copy_paste_max", 0), ("min_visible", 0)]
)
def test_invalid_copy_paste_settings_are_refused_by_name(key, value):
    with pytest.raises(InputError, match=rf"input\.{key}: must be .*, is {value}"):
        check_input(InputConfig(**{key: value}))
