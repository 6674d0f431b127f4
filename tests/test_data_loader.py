"""From annotated sets to training batches: pairs, mixing, order, resume."""

import math
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from data_support import (
    HEIGHT,
    WIDTH,
    assert_equal_batches,
    batches,
    coco_content,
    training_config,
    video_content,
    write_picture,
    write_set,
)

from queryinst_vis.config import Config, DatasetConfig
from queryinst_vis.data import records
from queryinst_vis.data.coco import CocoDataset
from queryinst_vis.data.loader import TrainingSamples, open_dataset
from queryinst_vis.data.order import SampleOrder
from queryinst_vis.data.pairs import draw_reference
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.formats.annotation_set import AnnotationSet, Video

# --- batches -------------------------------------------------------------------------------


def test_a_batch_is_normalised_padded_and_typed(images):
    (batch,) = batches(training_config(*images), 1)
    assert batch.images.shape == (2, 3, 64, 96)  # 48x80 in multiples of 32
    assert batch.images.dtype == torch.float32
    assert batch.images[:, :, HEIGHT:].abs().max() == 0
    assert batch.images[:, :, :, WIDTH:].abs().max() == 0
    assert batch.reference is None
    for target in batch.targets:
        assert target.image_size == (HEIGHT, WIDTH)
        assert target.boxes.dtype == torch.float32
        assert target.boxes.tolist() == [[10, 8, 30, 40], [40, 5, 75, 25]]
        assert target.labels.dtype == target.instance_ids.dtype == torch.int64
        assert target.labels.tolist() == [1, 0]
        assert target.instance_ids.tolist() == [501, 44]
        assert target.masks.dtype == torch.bool
        assert target.masks.shape == (2, 64, 96)
        assert target.masks.sum((1, 2)).tolist() == [20 * 32, 35 * 20]
        assert target.masks[0, 8:40, 10:30].all()


def test_images_without_trainable_instances_are_no_samples(images):
    assert not CocoDataset(*images, ["car", "dog"]).images[1].instances
    targets = [t for batch in batches(training_config(*images), 4) for t in batch.targets]
    assert all(target.instance_ids.tolist() == [501, 44] for target in targets)


def test_a_sample_without_instances_left_keeps_its_place_with_empty_targets(images):
    config = training_config(*images, crop=1.0, crop_range=[0.02, 0.05])
    targets = [target for batch in batches(config, 20) for target in batch.targets]
    empty = [target for target in targets if not len(target.boxes)]
    assert empty
    for target in empty:
        assert target.boxes.shape == (0, 4)
        assert target.masks.shape[0] == 0
        assert target.labels.dtype == torch.int64


# --- pairs ---------------------------------------------------------------------------------


def test_the_frames_of_a_video_pair_share_identities_and_size(videos):
    config = training_config(*videos, pairs=True, train_short=[48, 64], train_long=[200])
    sizes = set()
    for batch in batches(config, 12):
        assert batch.images.shape == batch.reference.images.shape
        for key, reference in zip(batch.targets, batch.reference.targets, strict=True):
            assert key.image_size == reference.image_size
            sizes.add(key.image_size)
            known = dict(zip(key.instance_ids.tolist(), key.boxes, strict=True))
            other = dict(zip(reference.instance_ids.tolist(), reference.boxes, strict=True))
            moved = (known[31] - other[31]) * HEIGHT / key.image_size[0]
            frames = moved[0].item() / 10  # the car moves by 10 pixels per frame
            assert 1 <= abs(round(frames)) <= 3  # never the key frame itself
            assert moved.tolist() == pytest.approx([10 * round(frames), 0] * 2, rel=0.01)
    assert sizes == {(48, 80), (64, 107)}


def test_both_frames_of_a_pair_are_flipped_or_neither(videos):
    samples = TrainingSamples(training_config(*videos, pairs=True, flip=0.5))
    seen = set()
    for number in range(40):
        dogs = [  # the dog stands still, left of the middle
            frame.boxes[frame.instance_ids.index(30)]
            for frame in samples[number]
            if 30 in frame.instance_ids
        ]
        if len(dogs) == 2:
            assert dogs[0] == dogs[1]
            seen.add(dogs[0])
    assert seen == {(10, 25, 30, 45), (50, 25, 70, 45)}


def test_both_frames_of_a_pair_share_crop_and_colours(videos):
    config = training_config(*videos, pairs=True, crop=1.0, colour=1.0)
    content = video_content()
    for video in range(1, 4):  # four frames of one and the same picture
        write_picture(videos[1] / content["videos"][0]["file_names"][video], seed=0)
    samples = TrainingSamples(config)
    first, second = samples[0], samples[1]
    np.testing.assert_array_equal(first[0].image, first[1].image)
    np.testing.assert_array_equal(second[0].image, second[1].image)
    assert first[0].image.shape != second[0].image.shape


def test_reference_frames_are_drawn_uniformly_from_the_other_annotated_frames():
    rng = np.random.default_rng(0)
    counts = Counter(draw_reference(rng, 5, [1, 5, 6, 9], None) for _ in range(3000))
    assert set(counts) == {1, 6, 9}
    assert min(counts.values()) > 900


def test_the_frame_gap_limits_the_reference_and_a_lone_frame_refers_to_itself():
    rng = np.random.default_rng(0)
    assert {draw_reference(rng, 5, [1, 4, 5, 7, 9], 2) for _ in range(50)} == {4, 7}
    assert draw_reference(rng, 5, [1, 5, 9], 2) == 5
    assert draw_reference(rng, 5, [5], None) == 5


def test_key_frames_are_those_that_show_something_to_train_on(tmp_path):
    content = video_content()
    del content["annotations"][0]  # the dog remains, in frames 1 and 2
    config = training_config(*write_set(tmp_path, content), pairs=True)
    for number in range(10):
        key, reference = TrainingSamples(config)[number]
        assert key.instance_ids == reference.instance_ids == [30]


def test_without_a_track_head_video_frames_are_plain_images(videos):
    (batch,) = batches(training_config(*videos), 1)
    assert batch.reference is None
    assert batch.images.shape[0] == 2


def test_a_still_image_becomes_a_pair_with_shared_ids_and_shifted_boxes(images):
    config = training_config(*images, pairs=True, crop_range=[0.8, 0.95])
    pairs = [
        pair
        for batch in batches(config, 5)
        for pair in zip(batch.targets, batch.reference.targets, strict=True)
    ]
    moved = 0
    for key, reference in pairs:
        assert set(key.instance_ids.tolist()) <= {501, 44}
        shared = set(key.instance_ids.tolist()) & set(reference.instance_ids.tolist())
        assert shared
        for identity in shared:
            first, second = (t.boxes[t.instance_ids == identity][0] for t in (key, reference))
            moved += int((first - second).abs().max() > 1)
    assert moved >= len(pairs)


# --- order, resume, ranks ------------------------------------------------------------------


def test_each_epoch_visits_every_item_once_in_another_order():
    order = SampleOrder([7], [1.0], seed=1)
    epochs = [[order[e * 7 + i][1] for i in range(7)] for e in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_sets_are_mixed_by_size_times_weight_without_dropping_items():
    order = SampleOrder([100, 30, 10], [0.5, 1.0, 3.0], seed=1)
    assert order.epoch_length == 110
    two_epochs = Counter(order[n] for n in range(220))
    assert Counter(source for source, _ in two_epochs.elements()) == {0: 100, 1: 60, 2: 60}
    assert {two_epochs[0, item] for item in range(100)} == {1}
    assert {two_epochs[1, item] for item in range(30)} == {2}
    assert {two_epochs[2, item] for item in range(10)} == {6}


def test_a_small_set_keeps_at_least_one_sample_per_epoch():
    order = SampleOrder([10, 2], [1.0, 0.1], seed=0)
    assert Counter(order[n][0] for n in range(11)) == {0: 10, 1: 1}


def test_the_seed_determines_the_order():
    first, second = (SampleOrder([50], [1.0], seed) for seed in (0, 1))
    assert [first[n] for n in range(50)] != [second[n] for n in range(50)]


def augmented(videos, images, workers):
    config = training_config(
        *videos, pairs=True, flip=0.5, crop=0.5, colour=0.5, train_short=[40, 48, 56]
    )
    config.data.train_extra = [DatasetConfig(*map(str, images), weight=2.0)]
    config.data.num_workers = workers
    return config


def test_batches_do_not_depend_on_the_number_of_workers(videos, images):
    expected = batches(augmented(videos, images, 0), 5)
    for got, wanted in zip(batches(augmented(videos, images, 2), 5), expected, strict=True):
        assert_equal_batches(got, wanted)


def test_a_resumed_loader_continues_with_the_same_batches(videos, images):
    config = augmented(videos, images, 0)
    unbroken = batches(config, 6)
    for got, wanted in zip(batches(config, 3, start_step=3), unbroken[3:], strict=True):
        assert_equal_batches(got, wanted)
    with pytest.raises(AssertionError):
        assert_equal_batches(unbroken[0], unbroken[3])


def test_ranks_share_the_samples_of_one_process_with_their_joint_batch_size(videos, images):
    config = augmented(videos, images, 0)
    ranks = [batches(config, 2, rank=rank, world_size=2) for rank in range(2)]
    alone = TrainingSamples(config)
    for step in range(2):
        for rank in range(2):
            for place, target in enumerate(ranks[rank][step].targets):
                key, _ = alone[(step * 2 + rank) * 2 + place]
                assert target.instance_ids.tolist() == key.instance_ids
                np.testing.assert_allclose(target.boxes, np.reshape(key.boxes, (-1, 4)), rtol=1e-6)


def test_the_seed_changes_the_samples(videos, images):
    config = augmented(videos, images, 0)
    (first,) = batches(config, 1)
    config.seed = 4
    (second,) = batches(config, 1)
    with pytest.raises(AssertionError):
        assert_equal_batches(first, second)


# --- what is refused -----------------------------------------------------------------------


def refusal(config, number=0):
    with pytest.raises(InputError) as caught:
        batches(config, number)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("content", [coco_content(), video_content()], ids=["coco", "video"])
def test_training_needs_annotations(tmp_path, content):
    del content["annotations"]
    message = refusal(training_config(*write_set(tmp_path, content)))
    assert "set.json" in message and "no 'annotations'" in message and "training file" in message


def test_training_needs_an_instance_to_train_on(tmp_path):
    content = coco_content()
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    message = refusal(training_config(*write_set(tmp_path, content)))
    assert "all 3 instances of the model's classes are crowds (`iscrowd` 1)" in message
    content["annotations"] = []
    message = refusal(training_config(*write_set(tmp_path, content)))
    assert "no instance of the model's classes to train on" in message


@pytest.mark.parametrize("name", ["Car", "car ", "cars", " CAR"])
def test_a_class_without_one_instance_is_refused_unless_allowed(tmp_path, name):
    content = coco_content()
    content["categories"][1]["name"] = name
    config = training_config(*write_set(tmp_path, content))
    config.data.allow_absent_classes = False
    with pytest.warns(InputWarning, match=f"'{name}' .*'car'"):
        assert "the training sets have no instance of 'car'; correct" in refusal(config)
    config.data.allow_absent_classes = True
    with pytest.warns(InputWarning, match="no instance of 'car'"):
        assert len(batches(config, 1)) == 1


def test_a_class_may_occur_in_another_set(tmp_path):
    content = coco_content()
    content["categories"][1]["name"] = "Car"
    config = training_config(*write_set(tmp_path / "a", content))
    other = write_set(tmp_path / "b", coco_content())
    config.data.train_extra = [DatasetConfig(*map(str, other))]
    config.data.allow_absent_classes = False
    with pytest.warns(InputWarning, match="left out: 'Car'"):
        assert len(batches(config, 1)) == 1


def test_missing_images_are_refused_before_the_first_step(tmp_path):
    for content, file in ((coco_content(), "b.jpg"), (video_content(), "v12/00002.jpg")):
        config = training_config(*write_set(tmp_path / file[0], content))
        missing = tmp_path / file[0] / "images" / file
        missing.unlink()
        message = refusal(config)
        assert "set.json: 1 of " in message
        assert f"images do not exist, e.g. {missing}; check the image folder" in message


def test_every_image_is_looked_up_once(tmp_path, monkeypatch):
    """One stat per image: on a network file system they dominate the start-up time."""
    names = [f"{number}.jpg" for number in range(2000)]
    videos = {number: Video("video", number, "v", 48, 80, 2000, names) for number in (1, 2)}
    asked, isfile = [], os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: asked.append(path) or isfile(path))
    with pytest.raises(InputError, match="2000 of 2000 images"):
        records.check_images(tmp_path, AnnotationSet("x", "video", {}, {}, videos, {}, True))
    assert sorted(asked) == sorted(str(tmp_path / name) for name in names)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (None, "seed", -1),
        ("train", "batch_size", 0),
        ("data", "num_workers", -1),
        ("input", "flip", 2.0),
    ],
)
def test_invalid_loader_settings_are_refused_before_reading(section, key, value):
    config = Config()
    setattr(getattr(config, section) if section else config, key, value)
    assert re.search(rf"{key}: must be .*, is {value}", refusal(config))


@pytest.mark.parametrize("weight", [0.0, math.inf, math.nan])
def test_weights_without_a_sample_order_cannot_resume_the_loader(images, weight):
    config = training_config(*images)
    config.data.train.weight = weight
    assert "data.train.weight: must be " in refusal(config)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_in_a_worker_ends_in_one_line(images, workers):
    config = training_config(*images)
    config.data.num_workers = workers
    (images[1] / "a.jpg").write_bytes(b"junk")
    assert refusal(config, 1) == f"image {images[1] / 'a.jpg'}: not a readable image"


# --- real data -----------------------------------------------------------------------------

REAL_SETS = {
    "tiny_coco": ("tiny_coco/annotations/instances_train2017.json", "tiny_coco/train2017"),
    "pennfudan": ("pennfudan/instances.json", "pennfudan/images"),
    "coco128": ("coco128/instances_train2017.json", "coco128/images"),
}


@pytest.mark.parametrize("name", REAL_SETS)
def test_real_images_give_consistent_pairs(name):
    root = os.environ.get("QUERYINST_VIS_DATA")
    if not root:
        pytest.skip("set QUERYINST_VIS_DATA to the folder with data/tiny_coco and others")
    annotations, images = (Path(root) / "data" / part for part in REAL_SETS[name])
    if not annotations.exists():
        pytest.skip(f"QUERYINST_VIS_DATA has no {annotations}")
    config = training_config(annotations, images, pairs=True, colour=0.5, train_short=[192])
    config.input.train_long = [320]
    config.model.classes = ["person", "dog", "car"]
    dataset = open_dataset(config.data.train, config.model.classes)
    assert isinstance(dataset, CocoDataset)
    assert dataset.category_ids[0] == 1
    assert sum(len(image.instances) for image in dataset.images) > 50
    instances = 0
    for batch in batches(config, 4):
        assert batch.images.isfinite().all()
        for target in [*batch.targets, *batch.reference.targets]:
            instances += len(target.boxes)
            for box, mask in zip(target.boxes, target.masks, strict=True):
                assert mask.any()
                y, x = mask.nonzero(as_tuple=True)
                tight = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
                assert (box - tight).abs().max() <= 3  # boxes of polygons, masks of pixels
    assert instances > 8
