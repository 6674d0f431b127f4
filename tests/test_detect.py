"""``detect``: from photos to a COCO file and annotated pictures, all or none."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from queryinst_vis import Detector, InputError, cli
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.errors import InputWarning
from queryinst_vis.inference.detect_images import detect_images, find_images
from queryinst_vis.masks import decode_rle
from queryinst_vis.models import build
from tests.tiny import draw_frame, tiny_config


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small untrained model with many detections."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    config = tiny_config()
    config.inference.score_threshold = 0.001
    torch.manual_seed(0)
    save_weights(path, build.build_model(config), config)
    return str(path)


@pytest.fixture
def photos(tmp_path):
    """Two photos of one size in a folder, one in a subfolder, and a text file."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    Image.fromarray(draw_frame(0)).save(folder / "photo2.png")
    Image.fromarray(draw_frame(1)).save(folder / "photo10.jpg")
    Image.fromarray(draw_frame(2)[:50]).save(folder / "more" / "scan.tif")
    return folder


def run(*words):
    return cli.main(["detect", *map(str, words), "--device", "cpu"])


def test_detect_writes_a_coco_file_and_annotated_pictures(photos, weights, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(photos, photos / "more", "--weights", weights, "--out", out) == 0
    names = ["more/scan.tif.png", "photo10.jpg", "photo2.png"]
    files = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
    assert sorted(files) == ["detections.json", *names]
    for name, height in zip(names, (50, 64, 64), strict=True):
        with Image.open(out / name) as picture:
            assert picture.size == (96, height)
    said = capsys.readouterr().out
    assert "in 3 images (" in said and f"wrote {out}/detections.json" in said
    assert f"wrote 3 pictures to {out}" in said


def test_the_coco_file_has_the_detections_of_the_python_api(photos, weights, tmp_path):
    out = tmp_path / "out"
    assert (
        run(photos / "photo2.png", photos / "photo10.jpg", "--weights", weights, "--out", out) == 0
    )
    coco = COCO(out / "detections.json")
    assert {c["name"]: c["id"] for c in coco.loadCats(coco.getCatIds())} == {"box": 1, "crate": 2}
    images = coco.loadImgs(coco.getImgIds())
    assert [image["file_name"] for image in images] == ["photo2.png", "photo10.jpg"]
    detector = Detector.from_pretrained(weights, "cpu")
    for image in images:
        expected = detector.detect(photos / image["file_name"])
        assert expected.image_size == (image["height"], image["width"])
        found = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert [a["score"] for a in found] == expected.scores.tolist()
        assert [a["category_id"] - 1 for a in found] == expected.labels.tolist()
        masks = np.stack([decode_rle(a["segmentation"]) for a in found])
        np.testing.assert_array_equal(masks, expected.masks().numpy())
        assert [a["area"] for a in found] == masks.sum(axis=(1, 2)).tolist()
    assert len(coco.loadRes(list(coco.anns.values())).anns) == len(coco.anns)


def test_options_reach_the_detector(photos, weights, tmp_path):
    out = tmp_path / "out"
    words = ["--classes", "crate", "--conf", "0.002", "--batch", "2", "--no-pictures"]
    words += ["inference.max_per_image=3"]
    assert run(f"{photos}/*.*g", "--weights", weights, "--out", out, *words) == 0
    assert os.listdir(out) == ["detections.json"]
    content = json.loads((out / "detections.json").read_text())
    assert len(content["images"]) == 2
    assert {a["category_id"] for a in content["annotations"]} == {2}
    assert all(a["score"] >= 0.002 for a in content["annotations"])


def test_no_detections_print_a_suggestion(photos, weights, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(photos, "--weights", weights, "--out", out, "--score-threshold", "1") == 0
    said = capsys.readouterr()
    assert "0 instances in 2 images" in said.out
    assert "nothing was found: these weights detect box, crate; try other" in said.err
    assert json.loads((out / "detections.json").read_text())["annotations"] == []


def test_unreadable_images_are_skipped_with_a_warning(photos, weights, tmp_path):
    (photos / "photo3.png").write_bytes(b"no image")
    with pytest.warns(InputWarning, match=r"1 of 3 images .*photo3\.png"):
        summary = detect_images(find_images([str(photos)]), tmp_path / "out", weights, device="cpu")
    assert summary.images == summary.pictures == 2


def test_without_a_readable_image_nothing_is_written(tmp_path, weights, capsys):
    (tmp_path / "clip.mp4").write_bytes(b"no image")
    assert run(tmp_path / "clip.mp4", "--weights", weights, "--out", tmp_path / "out") == 2
    assert "videos are for 'queryinst-vis track'" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.jpg"], "image none.jpg: no such file"),
        (["none*.jpg"], "no images"),
        (["."], "no images"),
        (["photo.jpg", "--classes", "creates"], "did you mean 'crate'?"),
        (["photo.jpg", "--conf", "30"], "expected a number between 0 and 1"),
        (["inference.max_per_image=3"], "no image given"),
    ],
    ids=str,
)
def test_bad_input_of_detect_ends_in_one_line(
    words, message, weights, tmp_path, monkeypatch, capsys
):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    if words[0] == "photo.jpg":
        Image.fromarray(draw_frame(0)).save("photo.jpg")
    assert run(*words, "--weights", weights) == 2
    assert message in capsys.readouterr().err
    assert not os.path.exists("out")


def test_existing_images_and_results_are_not_overwritten(photos, weights, tmp_path, capsys):
    before = (photos / "photo2.png").read_bytes()
    assert run(photos, "--weights", weights, "--out", photos) == 2
    assert "would replace the image" in capsys.readouterr().err
    assert (photos / "photo2.png").read_bytes() == before
    out = tmp_path / "out"
    assert run(photos, "--weights", weights, "--out", out) == 0
    assert run(photos, "--weights", weights, "--out", out) == 0, "the same images once more"
    assert run(photos / "photo2.png", "--weights", weights, "--out", out) == 2
    assert "contains results of other images" in capsys.readouterr().err
    assert run(photos / "photo2.png", "--weights", weights, "--out", out, "--overwrite") == 0


def test_an_image_given_twice_is_processed_once(photos, weights, tmp_path):
    paths = find_images([str(photos), str(photos / "photo2.png")])
    assert [path.name for path in paths] == ["photo2.png", "photo10.jpg", "photo2.png"]
    assert detect_images(paths, tmp_path / "out", weights, device="cpu").images == 2


def test_no_images_are_refused(tmp_path, weights):
    with pytest.raises(InputError, match="there are no images"):
        detect_images([], tmp_path / "out", weights)
