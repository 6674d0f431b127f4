"""Faulty ground truth and results: a one-line error with the place."""

import json
import zipfile

import pytest
from eval_cases import box_mask

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import evaluate_coco, evaluate_tracking, evaluate_youtube_vis
from queryinst_vis.masks import encode_rle
from tests.eval_faults import GROUND_TRUTH_FAULTS, RESULT_FAULTS, valid


def error_of(gt, results, evaluate=evaluate_youtube_vis):
    with pytest.raises(InputError) as caught:
        evaluate(gt, results)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_unmodified_files_are_accepted():
    assert evaluate_youtube_vis(*valid())["AP"] > 0.99


@pytest.mark.parametrize(("change", "message"), RESULT_FAULTS.values(), ids=RESULT_FAULTS)
def test_faulty_result_entries_are_refused_with_their_place(change, message):
    gt, results = valid()
    results[0].update(change)
    assert message in error_of(gt, results)


@pytest.mark.parametrize("key", ["video_id", "category_id", "score", "segmentations"])
def test_missing_result_keys_are_refused(key):
    gt, results = valid()
    del results[0][key]
    assert f"results: entry 0: has no `{key}`" in error_of(gt, results)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"a": 1}, "results: must be a list of predictions, is a dict"),
        ([None], "entry 0: must be an object, is a NoneType"),
    ],
)
def test_results_that_are_no_list_of_detections_are_refused(results, message):
    assert message in error_of(valid()[0], results)


def test_an_empty_list_of_results_scores_0():
    gt, _ = valid()
    assert evaluate_youtube_vis(gt, [])["AP"] == 0
    tracking = evaluate_tracking(gt, [])["class_averaged"]
    assert (tracking["HOTA"], tracking["IDF1"], tracking["TP"], tracking["FP"]) == (0, 0, 0, 0)
    assert tracking["FN"] > 0
    images, _ = image_files()
    metrics = evaluate_coco(images, [])
    assert [metrics[kind]["AP"] for kind in ("bbox", "segm")] == [0, 0]
    assert metrics["segm"]["AR100"] == 0


@pytest.mark.parametrize(
    ("spoil", "message"), GROUND_TRUTH_FAULTS.values(), ids=GROUND_TRUTH_FAULTS
)
def test_faulty_ground_truth_is_refused_with_its_place(spoil, message):
    gt, results = valid()
    spoil(gt)
    assert message in error_of(gt, results)


def test_swapped_files_are_recognised():
    gt, results = valid()
    assert "were ground truth and results swapped?" in error_of(results, gt)


def test_errors_name_the_file(tmp_path):
    gt, results = valid()
    path = tmp_path / "gt.json"
    assert f"ground truth {path}: no such file" in error_of(path, results)
    path.write_text("{")
    assert f"ground truth {path}: not readable as JSON" in error_of(path, results)
    path.write_text(json.dumps(gt))
    found = tmp_path / "found.json"
    found.write_text(json.dumps([{**results[0], "video_id": 4}]))
    assert f"results {found}: entry 0: video_id 4" in error_of(path, found)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "out/results.json",
            "[]",
            "no results.json at the root of the zip; it is in a folder, as out/results",
        ),
        ("other.json", "[]", "at the root of the zip; the zip holds ['other.json']"),
        ("results.json", "[", "results.json is not JSON"),
    ],
)
def test_faulty_zips_are_refused(tmp_path, name, content, message):
    path = tmp_path / "upload.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    assert error_of(valid()[0], path).startswith(f"results {path}: ")
    assert message in error_of(valid()[0], path)


def test_a_damaged_zip_is_refused(tmp_path):
    path = tmp_path / "upload.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("results.json", "[1, 2, 3]" * 50)
    content = bytearray(path.read_bytes())
    content[45:50] = b"\xff" * 5
    path.write_bytes(content)
    assert f"results {path}: unreadable zip" in error_of(valid()[0], path)


def image_files():
    gt = {
        "images": [{"id": 1, "height": 50, "width": 60}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [0, 0, 9, 9],
                "area": 81,
                "segmentation": encode_rle(box_mask(0, 0, 9, 9, 50, 60)),
            }
        ],
    }
    keys = ("image_id", "category_id", "bbox", "segmentation")
    return gt, [{"score": 0.5, **{key: gt["annotations"][0][key] for key in keys}}]


IMAGE_FAULTS = {
    "unknown image": (lambda gt, found: found[0].update(image_id=2), "entry 0: image_id 2 is not"),
    "unknown class": (lambda gt, found: found[0].update(category_id=2), "category_id 2 is not"),
    "no annotations": (lambda gt, found: gt.pop("annotations"), "has no `annotations`"),
    "video data set": (lambda gt, found: gt.update(videos=gt.pop("images")), "with eval-video"),
    "no area": (lambda gt, found: gt["annotations"][0].pop("area"), "annotation 1: has no `area`"),
    "area as text": (
        lambda gt, found: gt["annotations"][0].update(area="big"),
        "annotation 1: area 'big' is not a number of pixels",
    ),
    "three numbers": (
        lambda gt, found: found[0].update(bbox=[1, 2, 3]),
        "entry 0: `bbox` must be [x, y, width, height], is [1, 2, 3]",
    ),
    "NaN box": (
        lambda gt, found: found[0].update(bbox=[1, 2, 3, float("nan")]),
        "entry 0: `bbox` must be [x, y, width, height]",
    ),
    "wrong size": (
        lambda gt, found: gt["images"][0].update(width=61),
        "the mask is 60x50 pixels, its frame 61x50",
    ),
    "no image size": (
        lambda gt, found: gt["images"][0].pop("width"),
        "image 1: `width` is None: must be a positive integer",
    ),
    "masks here and there": (
        lambda gt, found: found.append({**found[0], "segmentation": None}),
        "entry 1: has no `segmentation`, but others in the file have",
    ),
    "neither": (
        lambda gt, found: (found[0].pop("bbox"), found[0].pop("segmentation")),
        "entry 0: has neither `bbox` nor `segmentation`",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), IMAGE_FAULTS.values(), ids=IMAGE_FAULTS)
def test_faulty_coco_files_are_refused(spoil, message):
    gt, results = image_files()
    assert evaluate_coco(gt, results)["segm"]["AP"] > 0.99
    spoil(gt, results)
    assert message in error_of(gt, results, evaluate_coco)
