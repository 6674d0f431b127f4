"""Readers of COCO and YouTube-VIS files: supported content, and refusals."""

import json

import numpy as np
import pytest
from data_support import (
    HEIGHT,
    WIDTH,
    coco_content,
    rectangle,
    uncompressed,
    video_content,
    write_set,
)

from queryinst_vis.config import DatasetConfig
from queryinst_vis.data.coco import CocoDataset
from queryinst_vis.data.loader import open_dataset
from queryinst_vis.data.youtube_vis import YouTubeVisDataset
from queryinst_vis.errors import InputError
from queryinst_vis.masks import decode_rle, encode_rle, to_rle

CLASSES = ["car", "dog"]


def open_coco(tmp_path, content, classes=CLASSES):
    return CocoDataset(*write_set(tmp_path, content), classes)


def open_video(tmp_path, content, classes=CLASSES):
    return YouTubeVisDataset(*write_set(tmp_path, content), classes)


def assert_refused(action, *parts):
    """Opening must fail with a one-line error that contains all ``parts``."""
    with pytest.raises(InputError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


# --- what is read --------------------------------------------------------------------------


def test_coco_images_keep_their_ids_paths_and_order(tmp_path):
    dataset = open_coco(tmp_path, coco_content())
    assert [image.id for image in dataset.images] == [70, 7]
    assert dataset.images[0].path == tmp_path / "images" / "a.jpg"
    assert (dataset.images[0].height, dataset.images[0].width) == (HEIGHT, WIDTH)
    assert dataset.has_annotations


def test_classes_are_matched_by_name_not_by_id_or_order(tmp_path):
    dataset = open_coco(tmp_path, coco_content(), ["zebra", "dog", "car"])
    assert dataset.category_ids == [None, 18, 3]
    assert {i.id: i.label for i in dataset.images[0].instances} == {501: 1, 44: 2}


def test_crowds_and_unknown_classes_are_not_targets(tmp_path):
    dataset = open_coco(tmp_path, coco_content(), ["dog"])
    assert [i.id for i in dataset.images[0].instances] == [501]


def test_coco_boxes_become_xyxy(tmp_path):
    dataset = open_coco(tmp_path, coco_content())
    assert dataset.images[0].instances[0].box == (10, 8, 30, 40)


@pytest.mark.parametrize(
    "encode",
    [
        lambda mask: [[10, 8, 30, 8, 30, 40, 10, 40]],
        uncompressed,
        encode_rle,
    ],
    ids=["polygon", "uncompressed", "compressed"],
)
def test_all_segmentation_encodings_give_the_same_mask(tmp_path, encode):
    mask = rectangle(10, 8, 30, 40)
    content = coco_content()
    content["annotations"][0]["segmentation"] = encode(mask)
    instance = open_coco(tmp_path, content).images[0].instances[0]
    decoded = decode_rle(to_rle(instance.segmentation, HEIGHT, WIDTH, "test"))
    np.testing.assert_array_equal(decoded, mask)


def test_videos_keep_ids_paths_and_per_frame_instances(tmp_path):
    dataset = open_video(tmp_path, video_content())
    (video,) = dataset.videos
    assert (video.id, video.name, len(video)) == (12, "v12", 4)
    assert video.paths[3] == tmp_path / "images" / "v12" / "00003.jpg"
    assert dataset.category_ids == [9, 5]
    assert [[i.id for i in video.frame(n).instances] for n in range(4)] == [
        [31],
        [31, 30],
        [31, 30],
        [31],
    ]
    assert video.frame(2).instances[0].box == (25, 5, 45, 20)
    assert video.frame(2).path == video.paths[2]


def test_frames_without_instances_are_not_counted_as_annotated(tmp_path):
    content = video_content()
    del content["annotations"][0]
    (video,) = open_video(tmp_path, content).videos
    assert video.annotated_frames() == [1, 2]


@pytest.mark.parametrize("null", [True, False])
@pytest.mark.parametrize("content", [coco_content(), video_content()], ids=["coco", "video"])
def test_public_validation_files_open_without_annotations(tmp_path, content, null):
    if null:
        content["annotations"] = None
    else:
        del content["annotations"]
    annotations, images = write_set(tmp_path, content)
    dataset = open_dataset(DatasetConfig(str(annotations), str(images)), CLASSES)
    assert not dataset.has_annotations


def test_image_and_video_sets_are_told_apart_by_content(tmp_path):
    for content, kind in ((coco_content(), CocoDataset), (video_content(), YouTubeVisDataset)):
        annotations, images = write_set(tmp_path, content)
        config = DatasetConfig(str(annotations), str(images))
        assert isinstance(open_dataset(config, CLASSES), kind)


# --- what is refused, for either format ----------------------------------------------------


def test_missing_and_broken_files_are_refused(tmp_path):
    path = tmp_path / "set.json"
    config = DatasetConfig(str(path), str(tmp_path))
    assert_refused(lambda: open_dataset(config, CLASSES), str(path), "no such file")
    path.write_text("{", encoding="utf-8")
    assert_refused(lambda: open_dataset(config, CLASSES), str(path), "not readable as JSON")
    path.write_text("[]", encoding="utf-8")
    assert_refused(lambda: open_dataset(config, CLASSES), str(path), "`images` or `videos`")
    path.write_text("{}", encoding="utf-8")
    assert_refused(lambda: open_dataset(config, CLASSES), str(path), "neither 'images'")
    assert_refused(lambda: open_dataset(DatasetConfig(), CLASSES), "data.SET.annotations=FILE")


def test_a_wrong_image_folder_is_refused_on_opening(tmp_path):
    annotations, images = write_set(tmp_path, coco_content())
    assert_refused(
        lambda: CocoDataset(annotations, tmp_path / "nowhere", CLASSES), "nowhere", "no such folder"
    )
    (images / "a.jpg").unlink()
    assert_refused(lambda: CocoDataset(annotations, images, CLASSES), "a.jpg", "image folder")


def test_no_class_in_common_is_refused_with_both_class_lists(tmp_path):
    assert_refused(
        lambda: open_coco(tmp_path, coco_content(), ["zebra", "mouse"]),
        "'zebra', 'mouse'",
        "'dog', 'car'",
    )


def coco_case(change):
    content = coco_content()
    change(content)
    return content


def video_case(change):
    content = video_content()
    change(content)
    return content


OTHER_SIZE = {"size": [WIDTH, HEIGHT], "counts": [0, WIDTH * HEIGHT]}

COCO_FAULTS = {
    "unknown image": (lambda c: c["annotations"][0].update(image_id=71), ["501", "image_id 71"]),
    "unknown category": (
        lambda c: c["annotations"][0].update(category_id=4),
        ["annotation 501", "category_id 4"],
    ),
    "repeated image id": (
        lambda c: c["images"][1].update(id=70),
        ["images[1]", "id 70 is used twice"],
    ),
    "repeated annotation id": (
        lambda c: c["annotations"][1].update(id=501),
        ["annotations[1]", "id 501 is used twice"],
    ),
    "repeated category id": (
        lambda c: c["categories"][1].update(id=18),
        ["categories[1]", "id 18 is used twice"],
    ),
    "repeated category name": (
        lambda c: c["categories"][1].update(name="dog"),
        ["category 3", "`name` 'dog' is used twice"],
    ),
    "no categories": (lambda c: c.pop("categories"), ["`categories` must be a list, is missing"]),
    "text for an id": (
        lambda c: c["images"][0].update(id="70"),
        ["images[0]: `id` must be an integer, is '70'"],
    ),
    "no height": (lambda c: c["images"][0].pop("height"), ["image 70", "`height` is None"]),
    "no area": (
        lambda c: c["images"][0].update(width=0),
        ["image 70", "`width` is 0: must be a positive integer"],
    ),
    "no object": (lambda c: c["annotations"].append(5), ["annotations", "is a int"]),
    "RLE of another size": (
        lambda c: c["annotations"][1].update(segmentation=OTHER_SIZE),
        ["annotation 44", "48x80 pixels, its frame 80x48"],
    ),
    "neither mask nor box": (
        lambda c: c["annotations"][0].update(segmentation=[], bbox=[10, 8, 0, 32]),
        ["annotation 501", "no segmentation and no bbox with an area"],
    ),
    "text for a segmentation": (
        lambda c: c["annotations"][0].update(segmentation="mask"),
        ["annotation 501", "neither polygons nor an object with"],
    ),
    "a point for a polygon": (
        lambda c: c["annotations"][0].update(segmentation=[[1, 2]]),
        ["annotation 501", "three or more finite points"],
    ),
    "counts of no kind": (
        lambda c: c["annotations"][0].update(segmentation={"size": [48, 80], "counts": 5}),
        ["annotation 501", "counts"],
    ),
    "three numbers for a box": (
        lambda c: c["annotations"][0].update(bbox=[1, 2, 3]),
        ["annotation 501", "[1, 2, 3]", "[x, y, width, height]"],
    ),
    "an infinite box": (
        lambda c: c["annotations"][0].update(bbox=[1, 2, 3, float("inf")]),
        ["annotation 501", "[1, 2, 3, inf] is not [x, y, width, height]"],
    ),
}

VIDEO_FAULTS = {
    "unknown video": (lambda c: c["annotations"][0].update(video_id=1), ["31", "video_id 1"]),
    "unknown category": (lambda c: c["annotations"][0].update(category_id=1), ["category_id 1"]),
    "repeated video id": (
        lambda c: c["videos"].append(dict(c["videos"][0])),
        ["videos[1]", "id 12 is used twice"],
    ),
    "too few segmentations": (
        lambda c: c["annotations"][0]["segmentations"].pop(),
        ["annotation 31", "`segmentations` must have 4 entries, one per frame, has 3"],
    ),
    "too many boxes": (
        lambda c: c["annotations"][0]["bboxes"].append(None),
        ["annotation 31", "`bboxes` must have 4 entries, one per frame, has 5"],
    ),
    "a missing file name": (
        lambda c: c["videos"][0]["file_names"].pop(),
        ["video 12", "`length` is 4", "3 `file_names`"],
    ),
    "no file names": (lambda c: c["videos"][0].update(file_names=[]), ["video 12", "file_names"]),
    "RLE of another size": (
        lambda c: c["annotations"][0]["segmentations"].__setitem__(2, OTHER_SIZE),
        ["annotation 31, frame 2", "48x80 pixels"],
    ),
}


@pytest.mark.parametrize(("change", "parts"), COCO_FAULTS.values(), ids=COCO_FAULTS)
def test_errors_in_a_coco_file_are_refused_with_their_place(tmp_path, change, parts):
    content = coco_case(change)
    assert_refused(lambda: open_coco(tmp_path, content), "set.json", *parts)


@pytest.mark.parametrize(("change", "parts"), VIDEO_FAULTS.values(), ids=VIDEO_FAULTS)
def test_errors_in_a_video_file_are_refused_with_their_place(tmp_path, change, parts):
    content = video_case(change)
    assert_refused(lambda: open_video(tmp_path, content), "set.json", *parts)


def test_the_unmodified_contents_are_accepted(tmp_path):
    open_coco(tmp_path, json.loads(json.dumps(coco_content())))
    open_video(tmp_path, json.loads(json.dumps(video_content())))
