"""COCO AP: exactly the numbers of pycocotools."""

import contextlib
import copy
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from queryinst_vis.cli import main
from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import evaluate_coco
from queryinst_vis.evaluation.average_precision import METRICS
from queryinst_vis.masks import decode_rle, encode_rle, to_rle

GOLDEN = Path(__file__).parent / "data" / "ytvis_eval"


def pycocotools_stats(gt, results, kind):
    """The numbers of pycocotools itself: (twelve metrics, AP per class)."""
    gt, results = copy.deepcopy((gt, results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = gt
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = {category["id"]: category["name"] for category in gt["categories"]}
    by_class = {}
    for k, category_id in enumerate(evaluation.params.catIds):
        values = evaluation.eval["precision"][:, :, k, 0, 2]
        defined = values > -1
        by_class[names[category_id]] = values[defined].mean() if defined.any() else None
    return dict(zip(METRICS, evaluation.stats.tolist(), strict=True)), by_class


def assert_equal(found, expected):
    stats, by_class = expected
    assert found["per_class_AP"] == by_class
    assert {name: found[name] for name in METRICS} == stats


def without(results, key):
    return [{k: v for k, v in entry.items() if k != key} for entry in results]


def perturbed(gt, rng):
    """Shifted ground truth as detections, some of another class, some missing."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in gt["images"]}
    categories = [category["id"] for category in gt["categories"]]
    results = []
    for annotation in gt["annotations"]:
        for _ in range(rng.integers(0, 3)):
            rle = to_rle(annotation["segmentation"], *sizes[annotation["image_id"]], "test")
            mask = np.roll(decode_rle(rle), rng.integers(0, 8, 2), (0, 1))
            box = np.array(annotation["bbox"]) + rng.normal(0, 3, 4)
            box[2:] = box[2:].clip(1)
            category = annotation["category_id"]
            if rng.random() < 0.1:
                category = int(rng.choice(categories))
            results.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": category,
                    "score": float(rng.integers(1, 40)) / 40,
                    "bbox": box.tolist(),
                    "segmentation": encode_rle(mask),
                }
            )
    return results


def synthetic(rng):
    annotations = []
    for k in range(1, 41):
        height, width = rng.integers(4, 140, 2)
        y, x = rng.integers(0, 200 - height), rng.integers(0, 220 - width)
        mask = np.zeros((200, 220), dtype=bool)
        mask[y : y + height, x : x + width] = True
        annotations.append(
            {
                "id": k,
                "image_id": int(rng.integers(5, 13)),
                "category_id": int(rng.choice([2, 7, 30])),
                "iscrowd": int(rng.random() < 0.1),
                "bbox": [float(v) for v in (x, y, width, height)],
                "area": float(mask.sum()),
                "segmentation": encode_rle(mask),
            }
        )
    return {
        "images": [{"id": i, "height": 200, "width": 220} for i in range(5, 14)],
        "categories": [{"id": i, "name": f"class {i}"} for i in (30, 2, 7, 4)],
        "annotations": annotations,
    }


@pytest.mark.parametrize("seed", range(3))
def test_coco_ap_equals_pycocotools(seed):
    rng = np.random.default_rng(seed)
    gt = synthetic(rng)
    results = perturbed(gt, rng)
    before = copy.deepcopy((gt, results))
    found = evaluate_coco(gt, results)
    assert (gt, results) == before
    assert 0.05 < found["segm"]["AP"] < 0.95
    assert found["bbox"]["per_class_AP"]["class 4"] is None
    assert_equal(found["bbox"], pycocotools_stats(gt, results, "bbox"))
    assert_equal(found["segm"], pycocotools_stats(gt, without(results, "bbox"), "segm"))
    json.dumps(found, allow_nan=False)


def test_classes_that_a_model_lacks_can_be_left_out():
    rng = np.random.default_rng(0)
    gt = synthetic(rng)
    results = perturbed(gt, rng)
    everything = evaluate_coco(gt, results)["segm"]["per_class_AP"]
    found = evaluate_coco(gt, results, classes=["class 2", "class 7", "absent"])["segm"]
    assert found["per_class_AP"] == {name: everything[name] for name in ("class 2", "class 7")}
    assert found["AP"] == pytest.approx(np.mean(list(found["per_class_AP"].values())))


def test_boxes_change_only_the_area_ranges_of_masks():
    rng = np.random.default_rng(5)
    gt = synthetic(rng)
    results = perturbed(gt, rng)
    for entry in results:  # a box ten times too large
        entry["bbox"][2] *= 10
    ours = evaluate_coco(gt, results)["segm"]
    theirs, _ = pycocotools_stats(gt, results, "segm")
    by_area = ("APs", "APm", "APl")
    assert {n for n in METRICS if ours[n] != theirs[n]} <= set(by_area)
    assert any(ours[name] != theirs[name] for name in by_area)


def test_missing_boxes_are_computed_from_masks_but_not_the_reverse():
    rng = np.random.default_rng(1)
    gt = synthetic(rng)
    results = perturbed(gt, rng)
    masks = without(results, "bbox")
    found = evaluate_coco(gt, masks)
    assert_equal(found["bbox"], pycocotools_stats(gt, masks, "bbox"))
    boxes = without(results, "segmentation")
    assert evaluate_coco(gt, boxes) == {"bbox": evaluate_coco(gt, results)["bbox"]}
    gt["annotations"] = without(gt["annotations"], "segmentation")
    assert evaluate_coco(gt, results).keys() == {"bbox"}


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
def test_evaluation_prints_nothing(backend, capfd):
    if backend == "hotcoco":
        pytest.importorskip("hotcoco")
    rng = np.random.default_rng(1)
    gt = synthetic(rng)
    evaluate_coco(gt, perturbed(gt, rng), backend)
    assert capfd.readouterr() == ("", "")


def test_a_backend_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    gt = synthetic(np.random.default_rng(1))
    with pytest.raises(InputError, match=r"hotcoco: .*pip install"):
        evaluate_coco(gt, [], backend="hotcoco")


def equally_scored(gt, results):
    for entry in results:
        entry["score"] = 0.5


def mostly_crowds(gt, results):
    for annotation in gt["annotations"][::2]:
        annotation["iscrowd"] = 1


def areas_on_the_bounds(gt, results):
    for k, annotation in enumerate(gt["annotations"]):
        annotation["area"] = (0.0, 32.0**2, 96.0**2, 1e5)[k % 4]


def more_than_a_hundred(gt, results):
    results *= 8


def nothing_found(gt, results):
    results.clear()


def masks_alone(gt, results):
    results[:] = without(results, "bbox")


@pytest.mark.parametrize(
    "spoil",
    [
        equally_scored,
        mostly_crowds,
        areas_on_the_bounds,
        more_than_a_hundred,
        nothing_found,
        masks_alone,
    ],
    ids=lambda function: function.__name__,
)
def test_hotcoco_gives_every_digit_of_pycocotools(spoil):
    pytest.importorskip("hotcoco")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        gt = synthetic(rng)
        results = perturbed(gt, rng)
        spoil(gt, results)
        assert evaluate_coco(gt, results, "hotcoco") == evaluate_coco(gt, results)


def test_eval_image_takes_a_backend(tmp_path, monkeypatch):
    hotcoco = pytest.importorskip("hotcoco")
    rng = np.random.default_rng(1)
    gt = synthetic(rng)
    paths = [str(tmp_path / name) for name in ("gt.json", "results.json")]
    for path, content in zip(paths, (gt, perturbed(gt, rng)), strict=True):
        Path(path).write_text(json.dumps(content))
    used = []
    monkeypatch.setattr(
        hotcoco, "COCO", lambda *args, made=hotcoco.COCO: used.append(1) or made(*args)
    )
    found = []
    for backend in ("pycocotools", "hotcoco"):
        assert bool(used) is False
        out = tmp_path / f"{backend}.json"
        assert main(["eval-image", *paths, "--backend", backend, "--json", str(out)]) == 0
        found.append(out.read_text())
    assert used
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["small", "medium"])
def test_hotcoco_agrees_on_the_frames_of_the_golden_sets(name):
    pytest.importorskip("hotcoco")
    gt, results = (
        json.loads((GOLDEN / f"{name}_{part}.json").read_text()) for part in ("gt", "results")
    )
    images, frames = [], {}
    for video in gt["videos"]:
        for frame in range(video["length"]):
            frames[video["id"], frame] = len(images) + 1
            size = {key: video[key] for key in ("height", "width")}
            images.append({"id": len(images) + 1, **size})

    def by_frame(tracks, *keys):
        return [
            {
                **{key: track[key] for key in keys},
                "image_id": frames[track["video_id"], frame],
                "segmentation": mask,
            }
            for track in tracks
            for frame, mask in enumerate(track["segmentations"])
            if mask is not None
        ]

    annotations = by_frame(gt["annotations"], "category_id", "iscrowd")
    for number, entry in enumerate(annotations, start=1):
        size = next(image for image in images if image["id"] == entry["image_id"])
        rle = to_rle(entry["segmentation"], size["height"], size["width"], "test")
        box = coco_mask.toBbox(rle).tolist()
        entry |= {"id": number, "area": float(coco_mask.area(rle)), "bbox": box}
    gt = {"images": images, "categories": gt["categories"], "annotations": annotations}
    found = evaluate_coco(gt, by_frame(results, "category_id", "score"), "hotcoco")
    assert 0 < found["segm"]["AP"] < 1
    assert found == evaluate_coco(gt, by_frame(results, "category_id", "score"))


def test_annotation_id_0_is_warned_about():
    gt = synthetic(np.random.default_rng(1))
    results = perturbed(gt, np.random.default_rng(1))
    gt["annotations"][0]["id"] = 0
    with pytest.warns(UserWarning, match=r"annotation 0: .*id 0"):
        evaluate_coco(gt, results)


def test_real_coco_annotations_score_as_in_pycocotools():
    root = os.environ.get("QUERYINST_VIS_DATA")
    if not root:
        pytest.skip("QUERYINST_VIS_DATA is not set: no real COCO annotations to evaluate on")
    path = Path(root) / "data/tiny_coco/annotations/instances_val2017.json"
    gt = json.loads(path.read_text())
    results = perturbed(gt, np.random.default_rng(0))
    found = evaluate_coco(path, results)
    assert 0.05 < found["segm"]["AP"] < 0.95
    assert_equal(found["bbox"], pycocotools_stats(gt, results, "bbox"))
    assert_equal(found["segm"], pycocotools_stats(gt, without(results, "bbox"), "segm"))
