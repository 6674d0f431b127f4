"""``data fill-masks``: pseudo-masks for annotations that have only a box."""

import json

import pytest
from data_support import coco_content, parsed, run_cli, video_content, write_json
from pycocotools import mask as coco_mask

from queryinst_vis.data.tools.fill_masks import fill_masks
from queryinst_vis.errors import InputError
from queryinst_vis.masks.segmentation import to_rle

DOG, CAR = 18, 3
HEIGHT, WIDTH = 48, 80


def boxes_only():
    """The dog of ``coco_content`` has only a box; the car keeps its mask."""
    content = coco_content()
    del content["annotations"][0]["segmentation"]
    return content


def detection(box, category_id=DOG, image_id=70):
    """A prediction whose mask is its box."""
    x, y, width, height = box
    polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
    mask = to_rle([polygon], HEIGHT, WIDTH, "the prediction")
    ids = {"image_id": image_id, "category_id": category_id}
    return {**ids, "score": 0.4, "bbox": list(box), "segmentation": mask}


def fill(results, tmp_path, content=None, **options):
    path = write_json(results, tmp_path / "results.json")
    return fill_masks(parsed(content or boxes_only()), path, **options)


def test_the_mask_of_the_prediction_with_the_best_box_is_taken(tmp_path):
    near, exact = detection([12, 8, 20, 32]), detection([10, 8, 20, 32])
    content, filled = fill([near, exact], tmp_path)
    assert content["annotations"][0] == {
        **boxes_only()["annotations"][0],
        "segmentation": exact["segmentation"],
        "area": int(coco_mask.area(exact["segmentation"])),
    }
    assert content["annotations"][1:] == boxes_only()["annotations"][1:]
    assert (filled.missing, filled.filled) == (1, 1)


@pytest.mark.parametrize(
    ("results", "what"),
    [
        ([detection([20, 8, 20, 32])], "the IoU of the boxes is a third"),
        ([detection([10, 8, 20, 32], CAR)], "another class"),
        ([detection([10, 8, 20, 32], image_id=7)], "another image"),
        ([], "nothing was detected"),
    ],
)
def test_an_annotation_without_a_matching_prediction_keeps_only_its_box(results, what, tmp_path):
    content, filled = fill(results, tmp_path)
    assert content == boxes_only(), what
    assert (filled.missing, filled.filled) == (1, 0)


def test_the_minimum_iou_is_inclusive(tmp_path):
    half = detection([10, 8, 20, 16])
    assert fill([half], tmp_path, min_iou=0.5)[1].filled == 1
    assert fill([half], tmp_path, min_iou=0.51)[1].filled == 0


def test_existing_masks_and_crowds_do_not_change_and_measure_the_quality(tmp_path):
    content, filled = fill([detection([40, 5, 35, 20], CAR), detection([0, 0, 80, 48])], tmp_path)
    assert content == boxes_only()
    assert filled.agreement == [pytest.approx(1.0)]


def test_predictions_are_matched_one_to_one(tmp_path):
    """Two overlapping dogs, one prediction: it belongs to the dog that it fits better."""
    content = boxes_only()
    twin = {**content["annotations"][0], "id": 502, "bbox": [13, 8, 20, 32]}
    content["annotations"].append(twin)
    new, filled = fill([detection([13, 8, 20, 32])], tmp_path, content)
    assert (filled.missing, filled.filled) == (2, 1)
    assert "segmentation" not in new["annotations"][0] and "segmentation" in new["annotations"][3]


def test_the_file_of_detect_is_matched_by_file_and_class_names(tmp_path):
    found = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "dog"}],
        "annotations": [{**detection([10, 8, 20, 32], 2, 1), "id": 1, "iscrowd": 0}],
    }
    content, filled = fill(found, tmp_path)
    assert filled.filled == 1 and content["annotations"][0]["category_id"] == DOG
    found["images"][0]["file_name"] = "other.jpg"
    with pytest.raises(InputError, match=r"no detection in an image of .*matched by file name"):
        fill(found, tmp_path)


def test_videos_and_predictions_without_masks_are_refused(tmp_path):
    with pytest.raises(InputError, match="contains videos"):
        fill([], tmp_path, video_content())
    plain = detection([10, 8, 20, 32])
    del plain["segmentation"]
    with pytest.raises(InputError, match=r"entry 0: has no `segmentation`"):
        fill([plain], tmp_path)


def test_malformed_boxes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"results .*entry 0.*`bbox` must be"):
        fill([detection([10, 8, 20, 32]) | {"bbox": [1, 2, 3]}], tmp_path)
    content = boxes_only()
    content["annotations"][0]["bbox"] = None
    with pytest.raises(InputError, match=r"annotation 501.*`bbox` must be"):
        fill([detection([10, 8, 20, 32])], tmp_path, content)


def test_the_command(tmp_path, capsys):
    path, out = write_json(boxes_only(), tmp_path / "boxes.json"), tmp_path / "out.json"
    results = [detection([10, 8, 20, 32]), detection([40, 5, 35, 20], CAR)]
    found = write_json(results, tmp_path / "found.json")
    assert run_cli("data", "fill-masks", path, found, out) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {out}: 2 images, 3 annotations, 2 classes",
        "filled 1 of 1 missing masks",
        "mean IoU with 1 annotated masks: 1.00",
    ]
    assert "segmentation" in json.loads(out.read_text())["annotations"][0]
    assert run_cli("data", "fill-masks", path, found, found) == 2
    assert "is also an input or another output" in capsys.readouterr().err
