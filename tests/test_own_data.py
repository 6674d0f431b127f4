"""Custom annotation files: missing fields are filled in, and boxes are no masks."""

from __future__ import annotations

import json
from pathlib import Path
from xml.sax.saxutils import quoteattr

import cv2
import pytest
import torch

from queryinst_vis import cli
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.config import Config, DatasetConfig, load_config
from queryinst_vis.data.convert.own_data import read_own_data
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.formats.annotation_set import open_set
from queryinst_vis.models.build import build_model
from queryinst_vis.training.finetune import finetune, finetune_config
from tests.tiny import (
    HEIGHT,
    WIDTH,
    draw_frame,
    rectangles,
    tiny_config,
    write_images,
    write_videos,
)

SHORT = ["train.max_steps=1", "train.samples=1", "data.num_workers=0"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    config = tiny_config()
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, build_model(config), config)
    return path


def rewrite(path: str | None, change) -> None:
    """Change every annotation of a file."""
    content = json.loads(Path(str(path)).read_text())
    for number, annotation in enumerate(content["annotations"]):
        change(annotation, number)
    Path(str(path)).write_text(json.dumps(content))


# COCO files


@pytest.mark.parametrize(
    "missing",
    [["segmentation"], ["segmentation", "area", "iscrowd"], ["bbox", "area"], ["iscrowd", "id"]],
    ids=", ".join,
)
def test_missing_fields_of_a_coco_file_are_filled_in(tmp_path, weights, missing):
    images = write_images(tmp_path / "data", 5)
    whole = json.loads(Path(images.annotations).read_text())["annotations"]
    rewrite(images.annotations, lambda entry, _: [entry.pop(key) for key in missing])
    for entry, before in zip(
        read_own_data(images.annotations).content["annotations"], whole, strict=True
    ):
        expected = {**before, **({"segmentation": []} if "segmentation" in missing else {})}
        assert entry == {**expected, "id": entry["id"]}
    finetune(weights, images.annotations, tmp_path / "run", SHORT, devices=1)
    assert (tmp_path / "run" / "best.safetensors").exists(), "the set held out can be scored"


def test_annotations_numbered_from_0_are_renumbered(tmp_path):
    """COCO's metrics never match an annotation of id 0."""
    images = write_images(tmp_path / "data")
    rewrite(images.annotations, lambda entry, number: entry.update(id=number))
    annotations = read_own_data(images.annotations).content["annotations"]
    assert sorted(entry["id"] for entry in annotations) == list(range(1, len(annotations) + 1))


def test_an_annotation_without_mask_and_box_is_refused_by_name(tmp_path):
    images = write_images(tmp_path / "data")
    rewrite(images.annotations, lambda entry, _: entry.update(segmentation=[], bbox=None))
    with pytest.raises(InputError, match=r"annotation 1: .*segmentation .*bbox"):
        read_own_data(images.annotations)


@pytest.mark.parametrize("write", [write_images, write_videos])
def test_files_without_annotations_are_refused_for_training(tmp_path, write):
    data = write(tmp_path / "data")
    content = json.loads(Path(data.annotations).read_text())
    del content["annotations"]
    Path(data.annotations).write_text(json.dumps(content))
    with pytest.raises(InputError, match="'annotations'"):
        read_own_data(data.annotations)


# Boxes without masks


def write_pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for index in range(2):
        assert cv2.imwrite(str(folder / f"{index}.png"), draw_frame(index)[..., ::-1])


def write_labelme(folder: Path) -> Path:
    """In each picture a rectangle, and a crate made of a rectangle and a polygon."""
    write_pictures(folder)
    for index in range(2):
        (x0, y0, x1, y1), (u0, v0, u1, v1) = rectangles(index)
        shapes = [
            {"label": "box", "group_id": None, "shape_type": "rectangle"},
            {"label": "crate", "group_id": 1, "shape_type": "rectangle"},
            {"label": "crate", "group_id": 1, "shape_type": "polygon"},
        ]
        points = [[x0, y0], [x1, y1]], [[u0, v0], [u1, v1]], [[u0, v0], [u1, v0], [u1, v1]]
        for shape, own in zip(shapes, points, strict=True):
            shape["points"] = own
        content = {"shapes": shapes, "imagePath": f"{index}.png"}
        size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
        (folder / f"{index}.json").write_text(json.dumps(content | size))
    return folder


def write_cvat(folder: Path) -> Path:
    """In each picture an upright and a rotated box."""
    write_pictures(folder / "images")
    text = ""
    for index in range(2):
        boxes = ""
        for label, box, turn in zip(("box", "crate"), rectangles(index), ("", "20"), strict=True):
            sides = zip(("xtl", "ytl", "xbr", "ybr"), map(str, box), strict=True)
            attributes = {"label": label, **dict(sides), **({"rotation": turn} if turn else {})}
            boxes += f"<box {' '.join(f'{k}={quoteattr(v)}' for k, v in attributes.items())}/>"
        head = f'<image id="{index}" name="{index}.png" width="{WIDTH}" height="{HEIGHT}">'
        text += f"{head}{boxes}</image>"
    (folder / "annotations.xml").write_text(f"<annotations><meta/>{text}</annotations>")
    return folder


@pytest.mark.parametrize(("write", "kind"), [(write_labelme, "labelme"), (write_cvat, "CVAT")])
def test_an_image_folder_that_would_be_ignored_is_refused(tmp_path, write, kind):
    write(tmp_path / "data")
    with pytest.raises(InputError, match=f"--images: not used for {kind}"):
        read_own_data(tmp_path / "data", tmp_path)


def test_validation_images_need_annotations(tmp_path, capsys):
    words = ["finetune", "people", str(tmp_path), "--work-dir", str(tmp_path / "run")]
    assert cli.main([*words, "--val-images", str(tmp_path)]) == 2
    assert "--val-images: give the annotations" in capsys.readouterr().err


@pytest.mark.parametrize("write", [write_labelme, write_cvat])
def test_an_upright_rectangle_is_a_box_whose_mask_is_unknown(tmp_path, write):
    content = read_own_data(write(tmp_path / "data")).content
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert len(content["annotations"]) == 4
    for entry in content["annotations"]:
        is_box = names[entry["category_id"]] == "box"
        assert bool(entry["segmentation"]) == (not is_box)
        if is_box:
            x0, y0, x1, y1 = rectangles(entry["image_id"] - 1)[0]
            assert entry["bbox"] == [x0, y0, x1 - x0, y1 - y0]


def test_a_group_id_that_is_not_a_number_is_refused_in_images_and_videos(tmp_path):
    write_labelme(tmp_path / "data" / "clip")
    file = tmp_path / "data" / "clip" / "0.json"
    content = json.loads(file.read_text())
    content["shapes"][0]["group_id"] = ["a"]
    file.write_text(json.dumps(content))
    for videos in (False, True):
        with pytest.raises(InputError, match=r"0\.json, shape 0: group_id \['a'\] is not"):
            read_own_data(tmp_path / "data", videos=videos)


def test_a_track_of_rectangles_has_boxes_but_no_masks(tmp_path):
    write_labelme(tmp_path / "data" / "clip")
    content = read_own_data(tmp_path / "data", videos=True).content
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert len(content["annotations"]) == 2
    for track in content["annotations"]:
        # the polygon lies within the rectangle, so that the crate is a rectangle, too
        assert track["segmentations"] == [None, None]
        label = ("box", "crate").index(names[track["category_id"]])
        for frame, box in enumerate(track["bboxes"]):
            x0, y0, x1, y1 = rectangles(frame)[label]
            assert box == [x0, y0, x1 - x0, y1 - y0]


def test_videos_with_boxes_only_are_scored_per_frame(tmp_path, weights):
    videos = write_videos(tmp_path / "data", videos=3)
    rewrite(videos.annotations, lambda entry, _: entry.pop("segmentations"))
    finetune(weights, videos.annotations, tmp_path / "run", SHORT, devices=1)
    held_out = open_set(tmp_path / "run" / "data" / "val.json")
    assert held_out.kind == "image" and len(held_out.videos) == 4, "the frames of one video"
    assert "val/bbox_AP," in (tmp_path / "run" / "metrics.csv").read_text()


# Pascal VOC


def write_voc(folder: Path, *coordinates: int) -> Path:
    write_pictures(folder)
    names = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{n}>{v}</{n}>" for n, v in zip(names, coordinates, strict=True))
    text = f"<annotation><object><name>box</name><bndbox>{box}</bndbox></object></annotation>"
    (folder / "0.xml").write_text(text)
    return folder


def test_boxes_are_clipped_to_the_image(tmp_path):
    data = read_own_data(write_voc(tmp_path / "data", 11, -30, 4000, 21))
    [entry] = data.content["annotations"]
    assert entry["bbox"] == [10, 0, WIDTH - 10, 21] and entry["area"] == (WIDTH - 10) * 21


def test_a_malformed_file_is_refused_with_its_name(tmp_path):
    (write_voc(tmp_path / "data", 1, 1, 9, 9) / "1.xml").write_text("<annotation>")
    with pytest.raises(InputError, match=r"1\.xml: .*XML"):
        read_own_data(tmp_path / "data")


# Training sets and settings


def test_no_validation_split_is_made_on_request(tmp_path, weights, capsys):
    images = write_images(tmp_path / "data")
    words = [weights, images.annotations, "--work-dir", tmp_path / "run", "--held-out", "0"]
    assert cli.main(["finetune", *map(str, words), *SHORT, "--devices", "1"]) == 0
    assert load_config(tmp_path / "run" / "config.yaml").data.val == DatasetConfig()
    assert len(open_set(tmp_path / "run" / "data" / "train.json").videos) == 4
    assert "--weights" in capsys.readouterr().out


def test_unused_classes_are_omitted_from_the_files(tmp_path, weights):
    images = write_images(tmp_path / "data")
    finetune(weights, images.annotations, tmp_path / "run", SHORT, devices=1)
    for part in ("train", "val"):
        categories = open_set(tmp_path / "run" / "data" / f"{part}.json").categories
        assert sorted(categories.values()) == ["box", "crate"]


def test_fine_tuning_uses_the_test_size_of_the_weights():
    config = Config()  # as converted: training sizes are the defaults
    config.input.test_short, config.input.test_long = 800, 1333
    sets = DatasetConfig("train.json", "images"), DatasetConfig()
    planned = finetune_config(config, Path("w"), ["box"], 50, *sets)
    assert (planned.input.train_short, planned.input.train_long) == ([800], [1333])
    config.input.train_short, config.input.train_long = [640, 800], [1333]
    assert finetune_config(config, Path("w"), ["box"], 50, *sets).input.train_short == [640, 800]


def test_images_without_xml_are_left_out_and_xml_without_image_is_refused(tmp_path, capsys):
    folder = write_voc(tmp_path / "data", 11, 1, 40, 21)
    (folder / "later.png").write_bytes((folder / "1.png").read_bytes())
    data = read_own_data(folder)
    assert "images without an XML file left out: 2" in capsys.readouterr().out
    names = [image["file_name"] for image in data.content["images"]]
    assert names == ["0.png"]
    (folder / "later.png").rename(folder / "other.png")
    (folder / "gone.xml").write_text((folder / "0.xml").read_text())
    with pytest.raises(InputError, match=r"gone\.xml: there is no image of this name"):
        read_own_data(folder)


def test_an_image_that_occurs_twice_in_cvat_is_refused(tmp_path):
    folder = write_cvat(tmp_path / "data")
    text = (folder / "annotations.xml").read_text()
    (folder / "annotations.xml").write_text(text.replace('name="1.png"', 'name="0.png"'))
    with pytest.raises(InputError, match=r"images/0\.png"):
        read_own_data(folder)


def test_objects_in_a_single_image_leave_none_for_validation(tmp_path, weights):
    data = write_labelme(tmp_path / "data")
    content = json.loads((data / "1.json").read_text())
    (data / "1.json").write_text(json.dumps({**content, "shapes": []}))
    with pytest.warns(InputWarning, match="training needs the only image with objects"):
        finetune(weights, data, tmp_path / "run", SHORT, devices=1)
    assert load_config(tmp_path / "run" / "config.yaml").data.val.annotations is None
    with pytest.raises(InputError, match="devices 0: must be at least 1"):
        finetune(weights, data, tmp_path / "again", SHORT, devices=0)
    assert not (tmp_path / "again").exists()
