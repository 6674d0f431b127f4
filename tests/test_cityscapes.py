"""Cityscapes: instance maps to COCO JSON, and the AP of the benchmark."""

from __future__ import annotations

import copy
import json
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from queryinst_vis import cli
from queryinst_vis.data.coco import CocoDataset
from queryinst_vis.data.convert import convert_cityscapes
from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import evaluate_cityscapes, write_cityscapes_zip
from queryinst_vis.masks import decode_rle, encode_rle

HEIGHT, WIDTH = 64, 96
ROAD, VOID, CARAVAN = 7, 0, 29001
PERSON, BICYCLE, CAR_1, CAR_2, CAR_GROUP = 24000, 33000, 26000, 26001, 26
CLASSES = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]


def street() -> np.ndarray:
    """An instance map: two cars, a group of cars, a person on a bicycle, a caravan, some void."""
    ids = np.full((HEIGHT, WIDTH), ROAD, np.uint16)
    ids[:6] = VOID
    ids[10:30, 5:25] = CAR_1
    ids[10:30, 25:50] = CAR_2
    ids[10:30, 60:90] = CAR_GROUP
    ids[34:52, 10:20] = PERSON
    ids[46:60, 5:30] = BICYCLE
    ids[40:60, 60:80] = CARAVAN
    return ids


def write_map(folder: Path, name: str, ids: np.ndarray) -> None:
    city = folder / name.partition("_")[0]
    city.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(city / f"{name}_gtFine_instanceIds.png"), ids)


@pytest.fixture
def split(tmp_path):
    """gtFine/val with a street in Ulm and an empty road in Bonn."""
    folder = tmp_path / "gtFine" / "val"
    write_map(folder, "ulm_000000_000019", street())
    write_map(folder, "bonn_000001_000019", np.full((HEIGHT, WIDTH), ROAD, np.uint16))
    return folder


@pytest.fixture
def gt(split, tmp_path):
    """What the converter writes for this split."""
    convert_cityscapes(split, tmp_path / "val.json")
    return json.loads((tmp_path / "val.json").read_text())


def detection(mask: np.ndarray, category: int, score: float = 0.9, image: int = 2) -> dict:
    entry = {"image_id": image, "category_id": category, "score": score}
    return entry | {"segmentation": encode_rle(mask)}


# The converter


def test_single_instances_and_groups_become_annotations_with_their_masks(gt):
    assert [(image["id"], image["file_name"]) for image in gt["images"]] == [
        (1, "bonn/bonn_000001_000019_leftImg8bit.png"),
        (2, "ulm/ulm_000000_000019_leftImg8bit.png"),
    ]
    assert {(image["height"], image["width"]) for image in gt["images"]} == {(HEIGHT, WIDTH)}
    found = {}
    for entry in gt["annotations"]:
        assert entry["image_id"] == 2
        mask = decode_rle(entry["segmentation"])
        (number,) = np.unique(street()[mask])
        assert mask.sum() == entry["area"] == (street() == number).sum()
        found[number] = (entry["category_id"], entry["iscrowd"])
    assert found == {
        CAR_GROUP: (26, 1),
        PERSON: (24, 0),
        CAR_1: (26, 0),
        CAR_2: (26, 0),
        BICYCLE: (33, 0),
    }
    (person,) = (entry for entry in gt["annotations"] if entry["category_id"] == 24)
    assert person["bbox"] == [10, 34, 10, 12]  # the bicycle hides the rest
    assert [category["name"] for category in gt["categories"]] == CLASSES


def test_the_converted_set_can_be_used_for_training_without_groups(gt, tmp_path):
    for image in gt["images"]:
        (tmp_path / image["file_name"]).parent.mkdir()
        assert cv2.imwrite(str(tmp_path / image["file_name"]), np.zeros((HEIGHT, WIDTH, 3)))
    dataset = CocoDataset(tmp_path / "val.json", tmp_path, CLASSES, gt)
    labels = [[CLASSES[i.label] for i in image.instances] for image in dataset.images]
    assert sorted(labels, key=len) == [[], ["person", "car", "car", "bicycle"]]


def test_the_command_prints_what_it_wrote(split, tmp_path, capsys):
    target = tmp_path / "val.json"
    words = ["convert-dataset", "cityscapes", str(split), str(target)]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"wrote {target}: 2 images, 5 instances and groups\n"


def test_a_folder_without_maps_is_refused(tmp_path):
    with pytest.raises(InputError, match="gtFine/train"):
        convert_cityscapes(tmp_path, tmp_path / "o.json")


def test_an_unreadable_map_is_refused_and_nothing_is_written(split, tmp_path):
    write_map(split, "ulm_000000_000020", np.zeros((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(InputError, match=r"ulm_000000_000020.*16-bit"):
        convert_cityscapes(split, tmp_path / "o.json")
    assert not (tmp_path / "o.json").exists()


# The benchmark's average precision


@pytest.fixture
def package():
    """The module of cityscapesscripts that evaluates instances."""
    name = "cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling"
    return pytest.importorskip(name, reason="cityscapesscripts is not installed")


@pytest.mark.usefixtures("package")
def test_ground_truth_used_as_results_scores_1(gt, split):
    results = [
        detection(decode_rle(entry["segmentation"]), entry["category_id"])
        for entry in gt["annotations"]
        if not entry["iscrowd"]
    ]
    assert evaluate_cityscapes(gt, results, split) == {
        "AP": 1,
        "AP50": 1,
        "per_class_AP": dict.fromkeys(CLASSES) | {"person": 1, "car": 1, "bicycle": 1},
    }


@pytest.mark.usefixtures("package")
def test_false_positives_on_groups_and_void_are_ignored(gt, split):
    cars = [detection(street() == number, 26) for number in (CAR_1, CAR_2)]

    def car_ap(*more):
        return evaluate_cityscapes(gt, [*cars, *more], split)["per_class_AP"]["car"]

    assert car_ap() == 1
    assert car_ap(detection(street() == CAR_GROUP, 26, 0.95)) == 1
    assert car_ap(detection(street() == VOID, 26, 0.95)) == 1
    assert car_ap(detection(street() == ROAD, 26, 0.95)) < 1


@pytest.mark.usefixtures("package")
def test_metrics_without_ground_truth_are_undefined(gt, split):
    for path in split.glob("ulm/*.png"):
        assert cv2.imwrite(str(path), np.full((HEIGHT, WIDTH), VOID, np.uint16))
    metrics = evaluate_cityscapes(gt, [detection(street() == CAR_1, 26)], split)
    assert metrics == {"AP": -1, "AP50": -1, "per_class_AP": dict.fromkeys(CLASSES)}


def random_split(folder: Path, rng: np.random.Generator, images: int = 6) -> None:
    """Maps of overlapping rectangles: instances, groups, void and ignored classes."""
    for index in range(images):
        ids = np.full((HEIGHT, WIDTH), ROAD, np.uint16)
        for number in range(14):
            label = int(rng.choice([0, 4, 24, 25, 26, 26, 26, 29, 33]))
            single = label >= 24 and rng.random() < 0.8
            y, x = rng.integers(0, (HEIGHT - 12, WIDTH - 12))
            height, width = rng.integers(6, 30, 2)
            ids[y : y + height, x : x + width] = label * 1000 + number if single else label
        write_map(folder, f"ulm_{index:06d}_000019", ids)


def random_results(gt: dict, rng: np.random.Generator) -> list[dict]:
    """Shifted ground truth, some of another class, some of it missing or found twice."""
    results = []
    for entry in gt["annotations"]:
        for _ in range(rng.integers(0, 3)):
            mask = np.roll(decode_rle(entry["segmentation"]), rng.integers(-2, 3, 2), (0, 1))
            category = 26 if rng.random() < 0.2 else entry["category_id"]
            score = float(rng.integers(1, 20)) / 20
            results.append(detection(mask, category, score, entry["image_id"]))
    return results


def test_scores_equal_those_of_cityscapesscripts_on_the_submission_zip(
    package, tmp_path, monkeypatch
):
    rng = np.random.default_rng(3)
    split = tmp_path / "gtFine" / "val"
    random_split(split, rng)
    convert_cityscapes(split, tmp_path / "val.json")
    gt = json.loads((tmp_path / "val.json").read_text())
    results = random_results(gt, rng)
    found = evaluate_cityscapes(gt, results, split)
    write_cityscapes_zip(gt, results, tmp_path / "upload.zip")

    with zipfile.ZipFile(tmp_path / "upload.zip") as archive:
        archive.extractall(tmp_path / "upload")
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # gone since NumPy 2.4
    settings = copy.copy(package.args)
    settings.predictionPath, settings.quiet = str(tmp_path / "upload"), True
    package.setInstanceLabels(settings)
    maps = sorted(map(str, split.glob("*/*.png")))
    files = [package.getPrediction(path, settings) for path in maps]
    matches = package.matchGtWithPreds(files, maps, package.instances2dict(maps), settings)
    expected = package.computeAverages(package.evaluateMatches(matches, settings), settings)

    assert 0.05 < found["AP"] < 0.95
    assert found["AP"] == pytest.approx(expected["allAp"], abs=1e-12)
    assert found["AP50"] == pytest.approx(expected["allAp50%"], abs=1e-12)
    for name, value in found["per_class_AP"].items():
        reference = expected["classes"][name]["ap"]
        assert np.isnan(reference) if value is None else value == pytest.approx(reference)


@pytest.mark.usefixtures("package")
def test_the_command_prints_writes_and_packs(split, gt, tmp_path, capsys):
    results, scores = tmp_path / "results.json", tmp_path / "scores.json"
    results.write_text(json.dumps([detection(street() == CAR_1, 26)]))
    words = ["eval-cityscapes", tmp_path / "val.json", results, split, "--json", scores]
    assert cli.main([*map(str, words), "--zip", str(tmp_path / "upload.zip")]) == 0
    assert json.loads(scores.read_text())["AP50"] == pytest.approx(0.5 / 3)
    assert "16.7" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "upload.zip") as archive:
        assert sorted(archive.namelist()) == [
            "bonn_000001_000019_leftImg8bit.txt",
            "masks/ulm_000000_000019_leftImg8bit_0.png",
            "ulm_000000_000019_leftImg8bit.txt",
        ]
        line = archive.read("ulm_000000_000019_leftImg8bit.txt").decode()
        assert line == "masks/ulm_000000_000019_leftImg8bit_0.png 26 0.9\n"


# Refusals


def test_a_missing_package_is_named_with_its_install_command(gt, split, monkeypatch):
    monkeypatch.setitem(sys.modules, "cityscapesscripts.evaluation", None)
    with pytest.raises(InputError, match=r"pip install 'queryinst-vis\[cityscapes\]'"):
        evaluate_cityscapes(gt, [detection(street() == CAR_1, 26)], split)


def rename_category(gt):
    gt["categories"][0]["name"] = "pedestrian"


def rename_image(gt):
    gt["images"][0]["file_name"] = "a.jpg"


def change_size(gt):
    gt["images"][0]["height"] = 32


def name_another_image(gt):
    gt["images"][0]["file_name"] = "bonn/bonn_9_9_leftImg8bit.png"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_category, "'pedestrian' is not a Cityscapes instance class"),
        (rename_image, "image 1: `file_name` does not end in _leftImg8bit.png"),
        (change_size, "bonn_000001_000019_gtFine_instanceIds.png: not an instance map of 96x32"),
        (name_another_image, "bonn_9_9_gtFine_instanceIds.png: no such file; give the folder"),
    ],
)
def test_results_that_do_not_match_the_set_are_refused(gt, split, change, message):
    change(gt)
    with pytest.raises(InputError, match=message):
        evaluate_cityscapes(gt, [detection(street() == CAR_1, 26)], split)
