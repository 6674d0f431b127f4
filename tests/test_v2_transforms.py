"""Transforms of torchvision.transforms.v2: by config, by argument, over frames and pairs."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from data_support import (
    HEIGHT,
    WIDTH,
    batches,
    training_config,
    whole_mask,
)

from queryinst_vis.config import Config, InputConfig, apply_overrides, config_to_dict, load_config
from queryinst_vis.data.frames import Frame, MaskPiece, apply_view
from queryinst_vis.data.input_checks import check_input
from queryinst_vis.data.loader import TrainingSamples, train_loader
from queryinst_vis.data.records import ImageRecord, Instance
from queryinst_vis.data.v2_transforms import apply_transforms, build_transforms
from queryinst_vis.data.views import View
from queryinst_vis.errors import InputError
from queryinst_vis.masks import encode_rle


def blobs():
    """Three irregular masks with holes."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for cy, cx, radius in ((15, 20, 12), (30, 50, 14), (8, 70, 7)):
        distance = ((y - cy) ** 2 + (x - cx) ** 2) / radius**2
        yield distance + rng.uniform(0, 0.3, distance.shape) < 1


def frame_of(flip=False):
    record = ImageRecord(
        1,
        Path("a.jpg"),
        HEIGHT,
        WIDTH,
        [Instance(100 + i, i, None, encode_rle(mask)) for i, mask in enumerate(blobs())],
    )
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return apply_view(image, record, View(0, 0, HEIGHT, WIDTH, HEIGHT, WIDTH, flip))


def with_boxes_only():
    """The second instance has only a box, and a corner of the frame is an ignore region."""
    frame = frame_of()
    frame.instances[1] = frame.instances[1]._replace(box=(36.25, 16.0, 64.5, 44.0), mask=None)
    frame.ignored.append(MaskPiece(np.ones((4, 6), np.uint8), 0, 0))
    return frame


def transformed(frame, *entries, seed=0):
    chain = [build_transforms(entries)] if isinstance(entries[0], dict) else list(entries)
    return apply_transforms(frame, chain, seed)


def assert_same(first, second):
    np.testing.assert_array_equal(first.image, second.image)
    assert first.boxes == second.boxes
    assert (first.labels, first.instance_ids) == (second.labels, second.instance_ids)
    size = first.image.shape[:2]
    for ours, theirs in zip(first.masks, second.masks, strict=True):
        np.testing.assert_array_equal(whole_mask(ours, size), whole_mask(theirs, size))


# --- frames --------------------------------------------------------------------------------


def test_a_horizontal_flip_is_the_flip_of_a_view():
    entry = {"name": "RandomHorizontalFlip", "p": 1.0}
    assert_same(transformed(frame_of(), entry), frame_of(flip=True))


def test_identity_transforms_keep_even_loose_boxes():
    frame = frame_of()
    frame.instances[0] = frame.instances[0]._replace(box=(5.5, 2.25, 33.0, 28.0))
    assert_same(transformed(frame, {"name": "Identity"}), frame)


def test_rotated_masks_are_exact_and_boxes_tight():
    frame = transformed(frame_of(), {"name": "RandomRotation", "degrees": [90, 90], "expand": True})
    assert frame.image.shape == (WIDTH, HEIGHT, 3)
    np.testing.assert_array_equal(frame.image, np.rot90(frame_of().image))
    for piece, box, mask in zip(frame.masks, frame.boxes, blobs(), strict=True):
        np.testing.assert_array_equal(whole_mask(piece, (WIDTH, HEIGHT)), np.rot90(mask))
        rows, columns = np.nonzero(np.rot90(mask))
        assert box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_instances_without_a_pixel_left_are_removed_with_label_and_id():
    before = frame_of()
    frame = transformed(before, {"name": "CenterCrop", "size": [HEIGHT, 20]})  # columns 30 to 50
    assert (frame.labels, frame.instance_ids) == ([0, 1], [100, 101])
    np.testing.assert_array_equal(frame.image, before.image[:, 30:50])
    for piece, box, mask in zip(frame.masks, frame.boxes, list(blobs())[:2], strict=True):
        np.testing.assert_array_equal(whole_mask(piece, (HEIGHT, 20)), mask[:, 30:50])
        assert box == piece.box()


def test_boxes_without_masks_and_ignore_regions_are_transformed():
    before = with_boxes_only()
    frame = transformed(before, {"name": "RandomHorizontalFlip", "p": 1.0})
    assert frame.masks[1] is None
    assert frame.boxes[1] == (WIDTH - 64.5, 16.0, WIDTH - 36.25, 44.0)
    assert [(piece.box(), piece.pixels.all()) for piece in frame.ignored] == [
        ((74, 0, 80, 4), True)
    ]
    frame = transformed(before, {"name": "CenterCrop", "size": [HEIGHT, 20]})
    assert frame.boxes[1] == (6.25, 16.0, 20.0, 44.0)
    assert frame.ignored == []


def test_a_box_without_mask_is_removed_when_outside_the_frame():
    before = with_boxes_only()
    before.instances[1] = before.instances[1]._replace(box=(1.0, 1.0, 20.0, 9.0))
    frame = transformed(before, {"name": "CenterCrop", "size": [HEIGHT, 20]})
    assert frame.instance_ids == [100]


def test_a_frame_without_instances_is_transformed():
    empty = Frame(frame_of().image)
    frame = transformed(empty, {"name": "RandomRotation", "degrees": 20}, {"name": "RandomIoUCrop"})
    assert (frame.boxes, frame.masks) == ([], [])


def test_sanitizing_removes_instances_with_all_their_fields():
    crop = {"name": "CenterCrop", "size": [HEIGHT, 20]}
    frame = transformed(with_boxes_only(), crop, {"name": "SanitizeBoundingBoxes"})
    assert frame.instance_ids == [100, 101]
    frame = transformed(frame_of(), {"name": "SanitizeBoundingBoxes", "min_area": 300})
    assert frame.instance_ids == [100, 101]


def test_instances_that_a_callable_adds_are_kept():
    def doubled(sample):
        twice = {key: torch.cat([sample[key]] * 2) for key in ("boxes", "masks", "labels")}
        return sample | twice | {"ids": torch.arange(6) + 100}

    frame = transformed(frame_of(), doubled)
    assert frame.instance_ids == [100, 101, 102, 103, 104, 105]
    assert frame.boxes[3:] == frame.boxes[:3]


def test_boxes_in_other_formats_are_supported():
    entry = {"name": "ConvertBoundingBoxFormat", "format": "CXCYWH"}
    frame = transformed(with_boxes_only(), entry)
    assert frame.boxes[1] == (36.25, 16.0, 64.5, 44.0)


# --- random numbers ------------------------------------------------------------------------

DISTORTION = [
    {"name": "RandomAffine", "degrees": 20, "translate": [0.2, 0.2], "scale": [0.7, 1.3]},
    {"name": "ElasticTransform", "alpha": 40.0},
    {"name": "RandomPhotometricDistort"},
    {"name": "RandomApply", "p": 0.5, "transforms": [{"name": "GaussianBlur", "kernel_size": 5}]},
]


def test_transforms_depend_only_on_the_seed():
    first = transformed(frame_of(), *DISTORTION, seed=5)
    torch.manual_seed(99)
    assert_same(transformed(frame_of(), *DISTORTION, seed=5), first)
    assert (transformed(frame_of(), *DISTORTION, seed=6).image != first.image).any()


def test_global_random_generators_are_not_advanced():
    def draws():
        return torch.rand(1).item(), np.random.rand(), random.random()

    def noisy(sample):
        seen.append(draws())
        return sample

    seen = []
    for generator in (torch.manual_seed, np.random.seed, random.seed):
        generator(1)
    expected = [draws(), draws()]
    for generator in (torch.manual_seed, np.random.seed, random.seed):
        generator(1)
    got = [draws()]
    transformed(frame_of(), noisy, seed=7)
    transformed(frame_of(), noisy, seed=7)
    assert [*got, draws()] == expected
    assert seen[0] == seen[1] and seen[0] not in expected


def test_both_frames_of_a_pair_get_the_same_transform(videos):
    """The dog does not move, so any change comes from the transforms."""
    config = training_config(*videos, pairs=True)
    config.input.transforms = [{"name": "RandomAffine", "degrees": 45, "translate": [0.1, 0.1]}]
    samples = TrainingSamples(config)
    boxes = []
    for number in range(40):
        dogs = [
            (frame.boxes[place], whole_mask(frame.masks[place]))
            for frame in samples[number]
            if 30 in frame.instance_ids
            for place in [frame.instance_ids.index(30)]
        ]
        if len(dogs) == 2:
            assert dogs[0][0] == dogs[1][0]
            np.testing.assert_array_equal(dogs[0][1], dogs[1][1])
            boxes.append(dogs[0][0])
    assert len(set(boxes)) > 5


def test_batches_do_not_depend_on_workers_or_resume_step(images):
    config = training_config(*images, pairs=True)
    config.input.transforms = DISTORTION
    unbroken = batches(config, 4, transforms=twice_as_dark)
    config.data.num_workers = 2
    resumed = batches(config, 2, start_step=2, transforms=twice_as_dark)
    for got, wanted in zip(resumed, unbroken[2:], strict=True):
        assert torch.equal(got.images, wanted.images)
        assert torch.equal(got.reference.images, wanted.reference.images)
        for ours, theirs in zip(got.targets, wanted.targets, strict=True):
            assert torch.equal(ours.masks, theirs.masks)
            assert torch.equal(ours.boxes, theirs.boxes)


def twice_as_dark(sample):
    return sample | {"image": sample["image"] // 2}


def test_a_callable_is_applied_after_the_configured_transforms(images):
    config = training_config(*images)
    (plain,) = TrainingSamples(config)[0]
    config.input.transforms = [{"name": "RandomInvert", "p": 1.0}]
    (frame,) = TrainingSamples(config, twice_as_dark)[0]
    np.testing.assert_array_equal(frame.image, (255 - plain.image) // 2)


def test_large_scale_jitter_keeps_its_canvas_unless_a_transform_exceeds_it(images):
    config = training_config(*images, scale_jitter=[0.5, 2.0])
    config.input.transforms = [{"name": "Resize", "size": [20, 30]}]
    assert next(iter(train_loader(config))).images.shape[2:] == (64, 96)
    config.input.transforms = [{"name": "Resize", "size": [20, 130], "interpolation": "nearest"}]
    assert next(iter(train_loader(config))).images.shape[2:] == (64, 160)


# --- configs -------------------------------------------------------------------------------


def test_configured_transforms_are_saved_in_checkpoints_and_can_be_overridden(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        """
input:
  transforms:
    - {name: RandomRotation, degrees: 5, interpolation: bilinear}
    - name: RandomChoice
      transforms: [{name: ColorJitter, brightness: 0.2}, {name: Grayscale, num_output_channels: 3}]
"""
    )
    config = load_config(path)
    assert config.input.transforms[1]["transforms"][0] == {"name": "ColorJitter", "brightness": 0.2}
    assert config_to_dict(config)["input"]["transforms"] == config.input.transforms
    check_input(config.input)
    other = apply_overrides(config, ["input.transforms=[{name: RandomVerticalFlip}]"])
    assert other.input.transforms == [{"name": "RandomVerticalFlip"}]


@pytest.mark.parametrize("value", ["3", "[3]", "[RandomRotation]", "{name: RandomRotation}"])
def test_transforms_that_are_no_list_of_entries_are_refused(value):
    with pytest.raises(InputError, match=r"input\.transforms(\[0\])?' must"):
        apply_overrides(Config(), [f"input.transforms={value}"])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"degrees": 5}, r"\[0\]: expected {name: CLASS"),
        ({"name": "RandomRotatoin"}, r"'RandomRotatoin'.* did you mean RandomRotation"),
        ({"name": "os.system"}, r"no transform 'os.system'"),
        ({"name": "torchvision.transforms.v2.RandomCrop"}, r"no transform"),
        ({"name": "Transform"}, r"no transform 'Transform'"),
        ({"name": "Lambda", "lambd": "print"}, r"no transform 'Lambda'"),
        ({"name": "InterpolationMode"}, r"no transform"),
        ({"name": "functional"}, r"no transform"),
        (
            {"name": "RandomRotation", "degree": 5},
            r"RandomRotation has no argument 'degree'; did you mean degrees",
        ),
        ({"name": "RandomRotation"}, r"RandomRotation rejects its arguments: .*degrees"),
        ({"name": "ColorJitter", "brightness": -1}, r"ColorJitter rejects its arguments"),
        (
            {"name": "Resize", "size": 9, "interpolation": "best"},
            r"unknown 'best'; choose from nearest",
        ),
        (
            {"name": "RandomApply", "transforms": [{"name": "Blur"}]},
            r"\[0\]\.transforms\[0\]: .*no transform 'Blur'.*GaussianBlur",
        ),
    ],
)
def test_unknown_transforms_are_refused_with_place_and_suggestions(entry, message):
    with pytest.raises(InputError, match=message) as caught:
        check_input(InputConfig(transforms=[entry]))
    assert str(caught.value).startswith("input.transforms[0]")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "Normalize", "mean": [0], "std": [1]}, r"input\.transforms\[0\] \(Normalize\)"),
        ({"name": "RandomCrop", "size": [400, 400]}, r"\(RandomCrop\): fails on a sample"),
        ({"name": "Grayscale"}, r"\(3, H, W\) uint8, got \(1, 48, 80\)"),
        ({"name": "FiveCrop", "size": 8}, r"\(FiveCrop\): fails on a sample: BoundingBoxes"),
        ({"name": "ToDtype", "dtype": None}, r"input\.transforms\[0\]"),
    ],
)
def test_transforms_that_remove_every_sample_are_refused_in_one_line(images, entry, message):
    config = training_config(*images)
    config.input.transforms = [entry]
    with pytest.raises(InputError, match=message) as caught:
        next(iter(train_loader(config)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sample: None, "got NoneType"),
        (lambda sample: {"image": sample["image"]}, "got image Image"),
        (lambda sample: sample | {"image": sample["image"] / 255}, r"float32.*normalised later"),
        (lambda sample: sample | {"ids": sample["ids"][:1]}, r"ids have shape \(1,\)"),
        (lambda sample: sample | {"masks": sample["masks"][:, :5]}, "masks have shape"),
        (lambda sample: sample | {"boxes": sample["boxes"] * torch.nan}, "not finite"),
    ],
)
def test_a_bad_return_value_of_a_callable_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        transformed(frame_of(), change)


def test_exceptions_of_a_callable_keep_their_traceback():
    def broken(sample):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transformed(frame_of(), broken)
