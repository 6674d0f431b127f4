"""Annotations with a box and no mask, crowds, and images without an instance: from files to batches
and through the tools."""

import json

import cv2
import numpy as np
import pytest
import torch
from data_support import (
    HEIGHT,
    WIDTH,
    batches,
    coco_content,
    rectangle,
    training_config,
    video_content,
    write_set,
)

from queryinst_vis import cli
from queryinst_vis.data.coco import CocoDataset
from queryinst_vis.data.frames import MIN_VISIBLE_SHARE, apply_view
from queryinst_vis.data.loader import TrainingSamples
from queryinst_vis.data.records import ImageRecord, Instance
from queryinst_vis.data.tools.statistics import measure_set, summarise_set
from queryinst_vis.data.tools.validate import validate_set
from queryinst_vis.data.views import View
from queryinst_vis.data.youtube_vis import YouTubeVisDataset
from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import parse_set
from queryinst_vis.formats.findings import ignore as ignore_findings
from queryinst_vis.masks import encode_rle

CLASSES = ["car", "dog"]
WITHOUT_MASK = {"empty": [], "null": None, "absent": "absent"}


def without_mask(annotation, key, value):
    """The annotation with ``value`` for its mask, or without the key."""
    rest = {name: entry for name, entry in annotation.items() if name != key}
    return rest if value == "absent" else rest | {key: value}


def boxed_coco(value=None):
    """The dog of image 70 has only a box; the car also has a mask."""
    content = coco_content()
    content["annotations"][0] = without_mask(content["annotations"][0], "segmentation", value)
    return content


def boxed_video(value=None):
    """The car has only boxes; the dog also has masks, in frames 1 and 2."""
    content = video_content()
    content["annotations"][0] = without_mask(content["annotations"][0], "segmentations", value)
    return content


def batch_of(folder, content, **settings):
    (batch,) = batches(training_config(*write_set(folder, content), **settings), 1)
    return batch


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", WITHOUT_MASK.values(), ids=WITHOUT_MASK)
def test_coco_instances_may_have_only_a_box(tmp_path, value):
    dataset = CocoDataset(*write_set(tmp_path, boxed_coco(value)), CLASSES)
    dog, car = dataset.images[0].instances
    assert dog == Instance(501, 1, (10, 8, 30, 40), None)
    assert car.segmentation is not None


@pytest.mark.parametrize("value", [None, "absent"])
def test_tracks_may_have_only_boxes(tmp_path, value):
    (video,) = YouTubeVisDataset(*write_set(tmp_path, boxed_video(value)), CLASSES).videos
    assert video.annotated_frames() == [0, 1, 2, 3]
    car, dog = video.frame(2).instances
    assert car == Instance(31, 0, (25, 5, 45, 20), None)
    assert dog.segmentation is not None


@pytest.mark.parametrize("empty", [None, []])
def test_a_frame_without_mask_shows_an_object_if_it_has_a_box(tmp_path, empty):
    content = video_content()
    car = content["annotations"][0]
    for frame in range(3):
        car["segmentations"][frame] = empty
    car["bboxes"][:2] = [None, [0, 0, 0, 0]]
    del content["annotations"][1]
    (video,) = YouTubeVisDataset(*write_set(tmp_path, content), CLASSES).videos
    assert video.annotated_frames() == [2, 3]
    assert video.frame(2).instances == [Instance(31, 0, (25, 5, 45, 20), None)]
    assert video.frame(3).instances[0].segmentation is not None


def test_a_track_with_neither_list_is_refused(tmp_path):
    content = boxed_video()
    del content["annotations"][0]["bboxes"]
    message = r"annotation 31: has neither `segmentations` nor `bboxes`"
    with pytest.raises(InputError, match=message):
        YouTubeVisDataset(*write_set(tmp_path, content), CLASSES)


def test_crowds_are_kept_separate_from_instances(tmp_path):
    image, empty = CocoDataset(*write_set(tmp_path / "coco", coco_content()), CLASSES).images
    assert [crowd.id for crowd in image.ignored] == [9] and empty.ignored == []
    content = video_content()
    content["annotations"][1]["iscrowd"] = 1
    (video,) = YouTubeVisDataset(*write_set(tmp_path / "video", content), CLASSES).videos
    assert [track.id for track in video.tracks] == [31]
    assert [[crowd.id for crowd in video.frame(n).ignored] for n in range(4)] == [
        [],
        [30],
        [30],
        [],
    ]


def test_crowds_of_classes_that_the_model_lacks_are_background(tmp_path):
    (image, _) = CocoDataset(*write_set(tmp_path, coco_content()), ["car"]).images
    assert image.ignored == []


# --- views -----------------------------------------------------------------------------------

FULL = View(0, 0, HEIGHT, WIDTH, HEIGHT, WIDTH)


def boxes_through(view, *boxes, crowds=(), ignore=True):
    """The view of instances and crowds that have only a box."""
    record = ImageRecord(
        1,
        "a.jpg",
        HEIGHT,
        WIDTH,
        [Instance(100 + i, i, box, None) for i, box in enumerate(boxes)],
        [Instance(200 + i, 0, box, None) for i, box in enumerate(crowds)],
    )
    return apply_view(np.zeros((HEIGHT, WIDTH, 3), np.uint8), record, view, ignore)


def region(frame):
    """The ignore regions of a frame as one mask."""
    mask = np.zeros(frame.image.shape[:2], bool)
    for pixels, top, left in frame.ignored:
        mask[top : top + pixels.shape[0], left : left + pixels.shape[1]] |= pixels == 1
    return mask


def test_a_fully_visible_box_is_unchanged_and_has_no_mask():
    frame = boxes_through(FULL, (10.4, 8.0, 29.8, 40.0))
    assert (frame.boxes, frame.masks) == ([(10.4, 8.0, 29.8, 40.0)], [None])
    assert (frame.labels, frame.instance_ids, frame.ignored) == ([0], [100], [])


def test_a_box_is_scaled_and_mirrored_with_the_view():
    view = View(0, 0, HEIGHT, WIDTH, 2 * HEIGHT, 3 * WIDTH, flip=True)
    assert boxes_through(view, (10, 8, 30, 40)).boxes == [(150, 16, 210, 80)]


def test_a_crop_clips_a_box_if_a_quarter_is_left():
    assert MIN_VISIBLE_SHARE == 0.25
    view = View(0, 20, HEIGHT, WIDTH, HEIGHT, WIDTH - 20)  # from column 20 on
    frame = boxes_through(view, (0, 10, 40, 30), (8, 10, 24, 30))
    assert frame.boxes == [(0, 10, 20, 30), (0, 10, 4, 30)]
    assert frame.ignored == []


def test_a_crop_ignores_the_rest_of_a_box_if_less_than_a_quarter_is_left():
    view = View(0, 20, HEIGHT, WIDTH, HEIGHT, WIDTH - 20)
    frame = boxes_through(view, (4, 10, 24, 30), (0, 10, 20, 30))
    assert frame.boxes == []
    assert (region(frame) == rectangle(0, 10, 4, 30)[:, : WIDTH - 20]).all()
    unasked = boxes_through(view, (4, 10, 24, 30), ignore=False)
    assert unasked.boxes == unasked.ignored == []


def test_the_part_of_a_box_outside_the_image_does_not_count():
    frame = boxes_through(FULL, (-90, 8, 10, 40), (WIDTH + 1, 0, WIDTH + 9, 9))
    assert frame.boxes == [(0, 8, 10, 40)] and frame.ignored == []


def test_a_box_without_a_pixel_after_scaling_is_dropped():
    view = View(0, 0, HEIGHT, WIDTH, HEIGHT // 8, WIDTH // 8)
    assert boxes_through(view, (1, 1, 3, 3), (8, 8, 24, 40)).boxes == [(1, 1, 3, 5)]


@pytest.mark.parametrize("flip", [False, True])
def test_crowd_regions_come_from_the_mask_or_else_the_box(flip):
    mask = rectangle(10, 8, 30, 40) & ~rectangle(15, 15, 20, 20)
    record = ImageRecord(
        1,
        "a.jpg",
        HEIGHT,
        WIDTH,
        ignored=[
            Instance(1, 0, (10, 8, 30, 40), encode_rle(mask)),
            Instance(2, 0, (50, 2, 70, 12), None),
        ],
    )
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    view = View(0, 12, HEIGHT, WIDTH, HEIGHT, WIDTH - 12, flip=flip)
    expected = (mask | rectangle(50, 2, 70, 12))[:, 12:]
    frame = apply_view(image, record, view, ignore=True)
    np.testing.assert_array_equal(region(frame), expected[:, ::-1] if flip else expected)
    assert frame.boxes == [] and apply_view(image, record, view).ignored == []


def test_crowds_are_decoded_only_on_request():
    broken = {"size": [HEIGHT, WIDTH], "counts": "\x01"}
    record = ImageRecord(1, "a.jpg", HEIGHT, WIDTH, ignored=[Instance(7, 0, None, broken)])
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert apply_view(image, record, FULL).ignored == []
    with pytest.raises(InputError, match="annotation 7"):
        apply_view(image, record, FULL, ignore=True)


# --- batches ---------------------------------------------------------------------------------


def test_targets_say_which_instances_have_a_mask(tmp_path):
    for target in batch_of(tmp_path, boxed_coco()).targets:
        assert target.boxes.tolist() == [[10, 8, 30, 40], [40, 5, 75, 25]]
        assert target.has_mask.tolist() == [False, True]
        assert target.masks.sum((1, 2)).tolist() == [0, 35 * 20]
        assert target.ignore is None


def test_instances_with_only_a_box_take_part_in_pairs(tmp_path):
    batch = batch_of(tmp_path, boxed_video(), pairs=True)
    for target in [*batch.targets, *batch.reference.targets]:
        assert target.instance_ids[0] == 31 and not target.has_mask[0]


def test_targets_have_ignore_regions_on_request(tmp_path):
    config = training_config(*write_set(tmp_path, coco_content()))
    config.losses.ignore_overlap = 0.7
    (batch,) = batches(config, 1)
    for target in batch.targets:
        assert target.ignore.shape == target.masks.shape[1:] and target.ignore.dtype == torch.bool
        assert torch.equal(target.ignore[:HEIGHT, :WIDTH], torch.tensor(rectangle(10, 8, 30, 40)))
        assert target.ignore.sum() == 20 * 32


def test_targets_with_and_without_crowds_form_a_batch(tmp_path):
    content = video_content()
    content["annotations"][1]["iscrowd"] = 1  # in frames 1 and 2
    config = training_config(*write_set(tmp_path, content))
    config.losses.ignore_overlap, config.train.batch_size = 0.7, 4
    (batch,) = batches(config, 1)
    crowded = {int(t.boxes[0, 0]): t.ignore is not None for t in batch.targets}
    assert crowded == {5: False, 15: True, 25: True, 35: False}


def shown_ids(config):
    """Annotation ids of the key frames of one epoch, in some order."""
    samples = TrainingSamples(config)
    return sorted(samples[n][0].instance_ids for n in range(samples.epoch_length))


def test_images_without_an_instance_are_kept_on_request(tmp_path):
    config = training_config(*write_set(tmp_path, coco_content()))
    assert shown_ids(config) == [[501, 44]]
    config.data.train.keep_empty = True
    assert shown_ids(config) == [[], [501, 44]]


@pytest.mark.parametrize("pairs", [False, True])
def test_frames_without_an_instance_are_kept_on_request(tmp_path, pairs):
    content = video_content()
    del content["annotations"][0]
    config = training_config(*write_set(tmp_path, content), pairs=pairs)
    assert shown_ids(config) == [[30], [30]]
    config.data.train.keep_empty = True
    assert shown_ids(config) == [[], [], [30], [30]]
    if pairs:  # the reference shows something wherever it can
        samples = TrainingSamples(config)
        assert all(samples[n][1].instance_ids == [30] for n in range(8))


def test_a_frame_of_an_unannotated_video_is_its_own_reference(tmp_path):
    content = video_content()
    content["annotations"] = []
    config = training_config(*write_set(tmp_path, content), pairs=True)
    config.data.train.keep_empty = True
    (batch,) = batches(config, 1)
    assert all(len(target.boxes) == 0 for target in batch.targets + batch.reference.targets)
    assert torch.equal(batch.images, batch.reference.images)


def test_frames_with_only_crowds_are_negatives_only_if_crowds_are_ignored(tmp_path):
    content = video_content()
    content["annotations"][1]["iscrowd"] = 1
    del content["annotations"][0]
    config = training_config(*write_set(tmp_path, content))
    config.data.train.keep_empty = True
    assert len(shown_ids(config)) == 2  # frames 0 and 3
    config.losses.ignore_overlap = 0.7
    assert len(shown_ids(config)) == 4


def test_images_with_only_crowds_are_negatives_only_if_crowds_are_ignored(tmp_path):
    content = coco_content()
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    config = training_config(*write_set(tmp_path, content))
    config.data.train.keep_empty = True
    assert len(shown_ids(config)) == 1
    config.losses.ignore_overlap = 0.7
    assert len(shown_ids(config)) == 2


# --- tools -----------------------------------------------------------------------------------


def run(*words):
    return cli.main([str(word) for word in words])


@pytest.mark.parametrize("value", WITHOUT_MASK.values(), ids=WITHOUT_MASK)
def test_validate_accepts_images_with_only_boxes(tmp_path, value):
    annotations, _ = write_set(tmp_path, boxed_coco(value))
    found = {(finding.kind, finding.severity) for finding in validate_set(annotations)}
    assert ("boxes only", "note") in found
    assert "error" not in {severity for _, severity in found}


@pytest.mark.parametrize("value", [None, "absent"])
def test_validate_accepts_videos_with_only_boxes(tmp_path, value):
    annotations, _ = write_set(tmp_path, boxed_video(value))
    assert [finding.kind for finding in validate_set(annotations)] == [
        "boxes only",
        "masks missing",
    ]


def test_validate_still_finds_broken_boxes_without_masks(tmp_path):
    content = boxed_video()
    content["annotations"][0]["bboxes"][2] = [1, 2, 3]
    annotations, _ = write_set(tmp_path, content)
    kinds = [finding.kind for finding in validate_set(annotations)]
    assert kinds == ["broken box", "boxes only", "masks missing"]


def test_stats_count_boxes_without_masks_separately():
    annotation_set = parse_set(boxed_video(), ignore_findings)
    numbers = summarise_set(measure_set(annotation_set), "video")
    assert (numbers["tracks"], numbers["masks"], numbers["boxes_only"]) == (2, 2, 4)
    assert numbers["classes"]["car"] == {"tracks": 1, "masks": 0, "videos": 1}
    assert numbers["mask_side"]["max"] == 20
    assert numbers["objects_per_frame"]["mean"] == 1.5
    assert numbers["motion"]["max"] == pytest.approx(10 / np.sqrt(300))


def test_browse_outlines_boxes_without_masks(tmp_path):
    content = boxed_coco()
    content["annotations"] = content["annotations"][:1]
    annotations, images = write_set(tmp_path, content)
    out = tmp_path / "sheet.png"
    assert run("data", "browse", annotations, "--images", images, "--out", out, "--limit", 1) == 0
    drawn = cv2.imread(str(out)).astype(int)[4 : 4 + HEIGHT, 4 : 4 + WIDTH]
    changed = np.abs(drawn - cv2.imread(str(images / "a.jpg"))).max(axis=2) > 20
    left, inside = changed[14:24, 10], changed[14:24, 15:25]  # above the label
    assert left.all() and not inside.any()


def test_filter_counts_frames_with_only_boxes(tmp_path):
    annotations, _ = write_set(tmp_path, boxed_video())
    assert run("data", "filter", annotations, tmp_path / "long.json", "--min-length", 3) == 0
    kept = json.loads((tmp_path / "long.json").read_text())["annotations"]
    assert [annotation["id"] for annotation in kept] == [31]


@pytest.mark.parametrize("value", [None, "absent"])
def test_conversion_to_the_strict_form_keeps_boxes_without_masks(tmp_path, value):
    annotations, _ = write_set(tmp_path, boxed_video(value))
    out, coco = tmp_path / "strict.json", tmp_path / "coco.json"
    assert run("convert-dataset", "youtube-vis", annotations, out, "--coco", coco) == 0
    car, dog = json.loads(out.read_text())["annotations"]
    assert car["segmentations"] == [None] * 4 and car["areas"] == [300] * 4
    assert car["bboxes"] == [[5 + 10 * i, 5, 20, 15] for i in range(4)]
    assert dog["bboxes"] == [None, [10, 25, 20, 20], [10, 25, 20, 20], None]
    instances = json.loads(coco.read_text())["annotations"]
    assert [i["segmentation"] == [] for i in instances] == [True] * 4 + [False] * 2


def test_converters_that_need_masks_refuse_boxes_only(tmp_path, capsys):
    annotations, images = write_set(tmp_path / "coco", boxed_coco())
    out = tmp_path / "out"
    assert run("convert-dataset", "coco-video", annotations, images, out) == 2
    assert "annotation 501: has a box but no mask" in capsys.readouterr().err
    annotations, _ = write_set(tmp_path / "video", boxed_video())
    words = ["--class", "car=car", "--class", "dog=person"]
    assert run("convert-dataset", "to-mots", annotations, out, *words) == 0
    assert "1 objects; boxes without a mask left out: 4" in capsys.readouterr().out
