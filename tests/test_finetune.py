"""Fine-tuning on custom data: supported formats and defaults."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from queryinst_vis import cli
from queryinst_vis.checkpoints.training_state import load_training_state
from queryinst_vis.checkpoints.weights import load_weights, save_weights
from queryinst_vis.config import DatasetConfig, TrainConfig, load_config
from queryinst_vis.data.convert.own_data import read_own_data
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.masks import decode_rle
from queryinst_vis.models.build import build_model
from queryinst_vis.training.finetune import epochs_for, finetune_config
from queryinst_vis.training.recipe import plan_schedule
from queryinst_vis.video.writer import VideoWriter
from tests.labelled_pictures import (
    FORMATS,
    IMAGES,
    write_coco,
    write_labelme,
    write_pictures,
    write_yolo,
)
from tests.tiny import CLASSES, HEIGHT, WIDTH, draw_frame, rectangles, tiny_config, write_videos

ROOT = Path(__file__).resolve().parent.parent


# The formats: each writer makes the same set of five pictures, and returns DATA and --images


OF_IMAGES = [name for name in FORMATS if name != "YouTube-VIS"]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_every_format_gives_the_same_annotations(tmp_path, name):
    source, *images = FORMATS[name](tmp_path / "data")
    data = read_own_data(source, *images[1:])
    assert data.kind == name
    names = {category["id"]: category["name"] for category in data.content["categories"]}
    assert set(CLASSES) <= set(names.values())
    by_image: dict[int, list] = {image["id"]: [] for image in data.content["images"]}
    for annotation in data.content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    assert len(by_image) == IMAGES
    for image in data.content["images"]:
        assert (data.images / image["file_name"]).is_file()
        assert (image["height"], image["width"]) == (HEIGHT, WIDTH)
        number = int(Path(image["file_name"]).stem)
        found = {names[a["category_id"]]: a for a in by_image[image["id"]]}
        for label, (x0, y0, x1, y1) in zip(CLASSES, rectangles(number), strict=True):
            box = found[label]["bbox"]
            assert box == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=1.01)
            has_mask = name != "Pascal VOC" and (name, label) != ("YOLO", "crate")
            assert bool(found[label]["segmentation"]) == has_mask
            if has_mask:
                mask = decode_rle(found[label]["segmentation"])
                inside = np.zeros((HEIGHT, WIDTH), bool)
                inside[y0:y1, x0:x1] = True
                assert (mask & inside).sum() > 0.95 * (mask | inside).sum() - (y1 - y0 + x1 - x0)


def test_yolo_data_uses_its_validation_set(tmp_path):
    write_yolo(tmp_path / "data")
    for kind in ("images", "labels"):
        (tmp_path / "data" / "valid").mkdir(exist_ok=True)
        (tmp_path / "data" / kind).rename(tmp_path / "data" / "valid" / kind)
    write_yolo_part = tmp_path / "again"
    write_yolo(write_yolo_part)
    for kind in ("images", "labels"):
        (write_yolo_part / kind).rename(tmp_path / "data" / kind)
    text = "train: images\nval: ../valid/images\nnames: {0: box, 1: crate}\n"
    (tmp_path / "data" / "data.yaml").write_text(text)
    data = read_own_data(tmp_path / "data")
    assert data.validation is not None
    assert data.validation.images == tmp_path / "data" / "valid" / "images"
    assert len(data.validation.content["images"]) == IMAGES


@pytest.mark.parametrize(
    ("train", "message"),
    [("../../elsewhere", "is not next to the file"), ("list.txt", "not a folder"), ("3", "not a")],
)
def test_yolo_data_outside_its_folder_is_not_read(tmp_path, train, message):
    write_yolo(tmp_path / "data")
    write_pictures(tmp_path.parent / "elsewhere" / tmp_path.name)
    path = tmp_path / "data" / "data.yaml"
    path.write_text(f"train: {train}\nnames: [box, crate]\n")
    with pytest.raises(InputError, match=message):
        read_own_data(path)
    assert read_own_data(path, tmp_path / "data" / "images").kind == "YOLO"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: {1: box, 2: crate}", "from 0 without gaps"),
        ("names: box", "'names' must list the classes"),
        ("names:", "'names' must list the classes"),
        ("names: {0: box, 2: crate}", "from 0 without gaps"),
        ("names: [box, crate]\nkpt_shape: [17, 3]", "keypoints"),
    ],
)
def test_yolo_data_that_would_be_misread_is_refused(tmp_path, text, message):
    write_yolo(tmp_path / "data")
    (tmp_path / "data" / "data.yaml").write_text(f"train: ../images\n{text}\n")
    with pytest.raises(InputError, match=message):
        read_own_data(tmp_path / "data")


def test_yolo_labels_of_subfolders_are_read_and_those_without_an_image_counted(tmp_path):
    write_yolo(tmp_path / "data")
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        (tmp_path / "data" / kind / "more").mkdir()
        file = tmp_path / "data" / kind / f"1.{suffix}"
        file.rename(file.parent / "more" / file.name)
    (tmp_path / "data" / "images" / "2.png").unlink()
    with pytest.warns(InputWarning, match=r"without an image are left out: 1, such as 2\.txt"):
        content = read_own_data(tmp_path / "data").content
    names = {image["id"]: image["file_name"] for image in content["images"]}
    assert "more/1.png" in names.values() and len(names) == IMAGES - 1
    assert all(
        len([a for a in content["annotations"] if a["image_id"] == identity]) == len(CLASSES)
        for identity in names
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", r"0\.txt, line 2: .*expected a class and a box or polygon"),
        ("x 0.5 0.5 0.1 0.1", r"line 2: not readable as YOLO"),
        ("0 0.5 nan 0.1 0.1", r"line 2: not readable as YOLO"),
        ("2 0.5 0.5 0.1 0.1", r"line 2: class 2 is not in 'names', which has 2"),
        ("0 .5 .5 -.1 .1", r"line 2: its box has a negative size"),
        ("0 9 9 9.1 9 9 9.1", r"line 2: .*beyond the frame"),
    ],
)
def test_a_broken_yolo_label_is_refused_with_its_line(tmp_path, line, message):
    write_yolo(tmp_path / "data")
    (tmp_path / "data" / "labels" / "0.txt").write_text(f"0 .5 .5 .1 .1\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_own_data(tmp_path / "data")


def test_yolo_images_are_in_the_order_of_their_names(tmp_path):
    write_yolo(tmp_path / "data")
    for number in range(10, IMAGES + 10):
        (tmp_path / "data" / "images" / f"{number - 10}.png").rename(
            tmp_path / "data" / "images" / f"{20 - number}.png"
        )
    names = [image["file_name"] for image in read_own_data(tmp_path / "data").content["images"]]
    assert names == sorted(names, key=lambda name: int(name.removesuffix(".png")))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xml", '<!DOCTYPE x [<!ENTITY a "b">]><annotation/>', "document type"),
        ("a.xml", "<annotation><object/></annotation>", "not readable as Pascal VOC"),
        ("data.yaml", "names: [", "not readable as YAML"),
        ("data.yaml", "[]", "is not a YOLO data.yaml"),
        ("note.txt", "", "contains no annotations in a known format"),
        ("set.json", '{"images": [{"file_name": "9.png"}]}', "give their folder with --images"),
    ],
)
def test_unreadable_training_data_is_refused_in_one_line(tmp_path, name, text, message):
    write_pictures(tmp_path / "data")
    (tmp_path / "data" / name).write_text(text)
    if name == "a.xml":
        (tmp_path / "data" / "a.png").write_bytes((tmp_path / "data" / "0.png").read_bytes())
    with pytest.raises(InputError, match=message) as caught:
        read_own_data(tmp_path / "data")
    assert "\n" not in str(caught.value)


# The command


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A tiny model with the classes box and tree."""
    config = tiny_config()
    config.model.classes = ["box", "tree"]
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, build_model(config), config)
    return path


def run_finetune(*words: object) -> int:
    return cli.main(["finetune", *map(str, words), "--devices", "1"])


@pytest.mark.parametrize("name", FORMATS)
def test_fine_tuning_needs_only_weights_and_data(tmp_path, weights, name, capsys, monkeypatch):
    monkeypatch.delenv("QUERYINST_VIS_DATA", raising=False)
    source = FORMATS[name](tmp_path / "data")
    work_dir = tmp_path / "run"
    words = [weights, *source, "--work-dir", work_dir, "train.max_steps=4", "train.patience=9"]
    assert run_finetune(*words, "data.num_workers=0", "train.eval_every=2") == 0
    said = capsys.readouterr()
    assert f"next: queryinst-vis track VIDEO --weights {work_dir / 'best.safetensors'}" in said.out
    config, _ = load_weights(work_dir / "best.safetensors")
    assert sorted(config.model.classes) == sorted(CLASSES)
    assert config.input.test_short == HEIGHT and config.model.channels == 32
    assert load_training_state(work_dir / "last.ckpt").step == 4
    assert "1 of 2 are in the checkpoint" in said.err
    samples = sorted(path.name for path in (work_dir / "samples").iterdir())
    assert samples == ["step_0000002.jpg", "step_0000004.jpg", "training.jpg"]
    assert (work_dir / "curves.png").stat().st_size > 1000


def test_fine_tuning_resumes_exactly(tmp_path, weights):
    source = write_coco(tmp_path / "data")
    words = ["train.max_steps=4", "data.num_workers=0", "--seed", 5]
    assert run_finetune(weights, *source, "--work-dir", tmp_path / "whole", *words) == 0
    recipe = load_config(tmp_path / "whole" / "config.yaml")
    assert recipe.seed == 5
    stopped = ["train.max_steps=2", f"train.lr_steps={recipe.train.lr_steps}"]
    part = tmp_path / "part"
    assert run_finetune(weights, *source, "--work-dir", part, *words[1:], *stopped) == 0
    again = ["--work-dir", part, "--resume", "train.max_steps=4", "train.warmup_steps=0"]
    assert run_finetune(weights, source[0], *again) == 0
    whole, parts = (load_training_state(tmp_path / d / "last.ckpt") for d in ("whole", "part"))
    assert whole.step == parts.step == 4
    assert all(torch.equal(whole.model[name], parts.model[name]) for name in whole.model)


def test_the_split_depends_only_on_names(tmp_path, weights):
    """Independent of the order of the file and of its ids."""
    source = write_coco(tmp_path / "data")
    content = json.loads(Path(source[0]).read_text())
    content["images"].reverse()
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    held_out = []
    for number, path in enumerate((source[0], other)):
        words = ["--images", source[2], "--work-dir", tmp_path / str(number), "train.max_steps=1"]
        assert run_finetune(weights, path, *words, "--held-out", "0.4", "data.num_workers=0") == 0
        parts = [
            {image["file_name"] for image in json.loads(file.read_text())["images"]}
            for file in (tmp_path / str(number) / "data").iterdir()
        ]
        assert sorted(map(len, parts)) == [2, 3] and not parts[0] & parts[1]
        held_out.append(min(parts, key=len))
    assert held_out[0] == held_out[1]


def test_a_held_out_part_replaces_the_validation_set_of_the_data(tmp_path, weights, capsys):
    write_yolo(tmp_path / "data")
    text = "train: ../images\nval: ../images\nnames: [box, crate]\n"
    (tmp_path / "data" / "data.yaml").write_text(text)
    words = [tmp_path / "data", "--work-dir", tmp_path / "run", "train.max_steps=1"]
    held_out = ["--held-out", "0", "data.num_workers=0"]
    assert run_finetune(weights, *words, *held_out, "--val", tmp_path / "data") == 2
    assert "--held-out): not used with a validation set" in capsys.readouterr().err
    assert run_finetune(weights, *words, *held_out) == 0
    assert f"{IMAGES} images for training, 0 for validation" in capsys.readouterr().out


def test_a_validation_set_may_be_named(tmp_path, weights):
    source, val = write_coco(tmp_path / "data"), write_labelme(tmp_path / "val")
    words = ["--val", *val, "--work-dir", tmp_path / "run", "train.max_steps=1"]
    assert run_finetune(weights, *source, *words, "data.num_workers=0") == 0
    data = load_config(tmp_path / "run" / "config.yaml").data
    assert len(json.loads(Path(data.train.annotations).read_text())["images"]) == IMAGES
    assert data.val.images == str(tmp_path / "val")


def test_a_single_video_is_not_split(tmp_path, weights, capsys):
    videos = write_videos(tmp_path / "data", videos=1)
    words = ["--images", videos.images, "--work-dir", tmp_path / "run", "train.max_steps=1"]
    assert run_finetune(weights, videos.annotations, *words, "data.num_workers=0") == 0
    said = capsys.readouterr()
    assert "a single video cannot be split" in said.err
    assert f"--weights {tmp_path / 'run' / 'final.safetensors'}" in said.out


def test_an_existing_work_dir_is_not_overwritten(tmp_path, weights, capsys):
    (tmp_path / "config.yaml").write_text("seed: 3")
    assert run_finetune(weights, *write_coco(tmp_path / "data"), "--work-dir", tmp_path) == 2
    assert "already contains a run" in capsys.readouterr().err
    assert (tmp_path / "config.yaml").read_text() == "seed: 3"


def test_a_set_without_annotations_cannot_be_fine_tuned_on(tmp_path, weights, capsys):
    source = write_coco(tmp_path / "data")
    content = json.loads(Path(source[0]).read_text())
    Path(source[0]).write_text(json.dumps({**content, "annotations": []}))
    assert run_finetune(weights, *source, "--work-dir", tmp_path / "run") == 2
    assert "no annotations to train on" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# The pages


def commands_of(page: str, below: str) -> list[list[str]]:
    """The first command lines below a heading, without ``queryinst-vis``."""
    text = (ROOT / page).read_text().partition(below)[2]
    blocks = re.findall(r"```\n(queryinst-vis .*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.strip().splitlines()]
    return [shlex.split(line.partition(" #")[0])[1:] for line in lines]


def run_reduced(words: list[str]) -> None:
    """Run as written, except that a training takes two steps."""
    short = ["train.max_steps=2", "--devices", "1"] if words[0] in ("finetune", "train") else []
    assert cli.main([*words, *short]) == 0, words


def test_the_commands_of_the_page_run_from_annotation_to_tracking(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_labelme(tmp_path / "my_photos")
    with VideoWriter(tmp_path / "street.mp4", 10) as writer:
        for index in range(3):
            writer.write(draw_frame(index))
    commands = commands_of("docs/own_data.md", "## 2. Fine-tune")
    assert [words[0] for words in commands] == ["finetune", "track"]
    for words in commands:
        run_reduced(words)
    assert (tmp_path / "out" / "mine" / "results.json").exists()


@pytest.mark.slow
def test_the_first_training_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUERYINST_VIS_DATA", raising=False)
    convert, finetune = commands_of("README.md", "## Train")[:2]
    assert (convert[0], finetune[0]) == ("convert-dataset", "finetune")
    for words in (convert, finetune):
        run_reduced(words)
    assert list(tmp_path.glob("work/*/best.safetensors"))


# The defaults


def planned(samples: int, *overrides: str, processes: int = 1):
    sets = DatasetConfig("train.json", "images"), DatasetConfig("val.json", "images")
    config = tiny_config()
    config.train.batch_size = 16
    return finetune_config(config, Path("w"), ["box"], samples, *sets, overrides, processes).train


def test_small_sets_are_trained_for_more_epochs():
    assert [epochs_for(n) for n in (1, 50, 500, 5000, 10**6)] == [60, 30, 19, 12, 6]
    small, large = planned(50), planned(5000)
    assert (small.batch_size, small.max_steps, large.max_steps) == (4, 375, 15000)
    assert (small.eval_every, large.eval_every) == (18, 750)
    assert small.patience == large.patience == 6
    assert large.lr_steps == [11250, 13800] and large.warmup_steps == 750


def test_milestones_scale_with_the_number_of_steps():
    recipe = planned(50, "train.max_steps=1000", "train.patience=2")
    assert (recipe.max_steps, recipe.lr_steps, recipe.eval_every) == (1000, [750, 920], 50)
    assert recipe.patience == 2
    assert planned(50, "train.max_steps=1000", "train.lr_steps=[10]").lr_steps == [10]


def test_the_number_of_epochs_does_not_depend_on_the_batch_size():
    for override in ("seed=0", "train.batch_size=1", "train.accumulate=4"):
        recipe = planned(50, override)
        steps = plan_schedule(recipe, 50, processes=2).max_steps
        batch = 2 * recipe.batch_size * recipe.accumulate
        assert steps * batch / 50 == pytest.approx(30, abs=batch / 50)
    assert planned(50, "train.max_steps=375", "train.batch_size=1").epochs is None
    in_steps = planned(50, "train.lr_steps=[1000]", "train.batch_size=1")
    assert (in_steps.epochs, in_steps.lr_steps, in_steps.max_steps) == (None, [1000], 1500)


def test_given_steps_do_not_depend_on_the_number_of_processes():
    keys = ["train.eval_every=100", "train.lr_steps=[70]"]
    for epochs in ([], ["train.epochs=20"]):
        for processes in (1, 8):
            recipe = plan_schedule(
                planned(500, *keys, *epochs, processes=processes), 500, processes
            )
            assert (recipe.eval_every, recipe.lr_steps) == (100, [70])
            length = recipe.max_steps * processes * recipe.batch_size / 500
            assert length == pytest.approx(20 if epochs else epochs_for(500), abs=0.1)


def test_loggers_of_the_weights_are_not_kept():
    config = tiny_config()
    config.train.loggers = ["csv", "wandb"]
    sets = DatasetConfig("train.json", "images"), DatasetConfig()
    recipe = finetune_config(config, Path("w"), ["box"], 50, *sets).train
    assert recipe.loggers == TrainConfig().loggers
