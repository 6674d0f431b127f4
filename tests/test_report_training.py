"""The training report: course, provenance, and what older runs lack."""

from __future__ import annotations

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tiny import CLASSES, HEIGHT, WIDTH, tiny_config, write_images

from queryinst_vis import cli
from queryinst_vis.config import ModelConfig
from queryinst_vis.errors import InputWarning
from queryinst_vis.formats.training_starts import read_starts
from queryinst_vis.report.training import write_training_page
from queryinst_vis.structures import Batch, Target
from queryinst_vis.training.samples import TrainingSheet
from tests.browser import open_page


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory):
    """Two steps with an evaluation each, and one more after resuming."""
    folder = tmp_path_factory.mktemp("training")
    images = write_images(folder / "set")
    config = tiny_config(train=images, val=images, track=False)
    config.train.samples, config.train.eval_every, config.train.checkpoint_every = 2, 1, 1
    config.train.precision = "32-true"
    OmegaConf.save(OmegaConf.structured(config), folder / "recipe.yaml")
    work_dir = folder / "run <b>"
    words = ["train", "--work-dir", str(work_dir), "--devices", "1"]
    assert (
        cli.main(
            [
                *words[:1],
                str(folder / "recipe.yaml"),
                "train.max_steps=2",
                "train.lr=0.01",
                *words[1:],
            ]
        )
        == 0
    )
    assert cli.main([*words, "--resume", "train.max_steps=3"]) == 0
    return work_dir


@pytest.fixture
def copied(tmp_path, work_dir):
    return shutil.copytree(work_dir, tmp_path / "copy")


def page(work_dir, tmp_path):
    out = tmp_path / "page.html"
    write_training_page(work_dir, out)
    return out.read_text()


def text_of(html):
    html = re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


# Records of a training


def test_every_start_of_a_training_is_recorded(work_dir):
    first, second = read_starts(work_dir)
    assert (first["step"], second["step"]) == (0, 2)
    assert first["seed"] == 0
    assert first["weights"] == {"name": None, "fingerprint": None}
    assert first["base"]["name"].endswith("recipe.yaml")
    assert {key: new for key, (new, _) in first["base"]["changed"].items()} == {
        "train.max_steps": 2,
        "train.lr": 0.01,
    }
    assert second["base"] is None
    assert "resumed with another train.max_steps: 3 (was 2)" in second["notes"]
    assert first["environment"]["device"].startswith("cpu, ")
    assert torch.__version__.startswith(first["environment"]["versions"]["torch"])


def test_a_truncated_start_record_is_ignored(copied):
    with (copied / "starts.jsonl").open("a") as file:
        file.write('{"step": 3, "ti')
    with pytest.warns(InputWarning, match="1 of 3 lines"):
        assert len(read_starts(copied)) == 2


def batch_of(images, boxes, **target):
    masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    labels = torch.zeros(len(boxes), dtype=torch.long)
    known = Target(
        torch.tensor(boxes, dtype=torch.float), labels, masks, labels, (HEIGHT - 8, WIDTH), **target
    )
    return Batch(images, [known])


def test_samples_are_drawn_as_the_network_input(tmp_path):
    """Pixels before normalisation, without padding, overlaid with the annotations."""
    model = ModelConfig(classes=CLASSES)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.backbone.mean, model.backbone.std))
    picture = torch.full((3, HEIGHT, WIDTH), 40.0)
    picture[0] = 200.0
    ignore = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    ignore[:, 80:] = True
    sheet = TrainingSheet(model, 1)
    sheet.add(batch_of(((picture - mean) / std)[None], [(10, 30, 40, 50)], ignore=ignore))
    assert sheet.is_full
    sheet.write(tmp_path / "samples" / "training.jpg")
    drawn = cv2.imread(str(tmp_path / "samples" / "training.jpg"))[..., ::-1].astype(int)
    assert drawn.shape[1] == WIDTH + 8
    tile = drawn[4 : 4 + HEIGHT - 8, 4 : 4 + WIDTH]
    assert np.abs(tile[2:5, 60:75] - [200, 40, 40]).max() < 12
    assert np.abs(tile[2:5, 85:90] - [66, 13, 13]).max() < 12
    assert np.abs(tile[38:45, 15:35] - [200, 40, 40]).max() > 40, "tinted by its mask"


def test_both_frames_of_a_pair_are_drawn(tmp_path):
    batch = batch_of(torch.zeros(1, 3, HEIGHT, WIDTH), [(10, 30, 40, 50)])
    batch.reference = batch
    sheet = TrainingSheet(ModelConfig(classes=CLASSES), 2)
    sheet.add(batch)
    assert not sheet.is_full
    sheet.write(tmp_path / "pair.jpg")
    assert cv2.imread(str(tmp_path / "pair.jpg")).shape[1] > 2 * WIDTH


# The page


def test_the_page_shows_the_course_of_the_training(work_dir, tmp_path):
    html = page(work_dir, tmp_path)
    text = text_of(html)
    assert "Training run &lt;b&gt;" in html and "<b>" not in html.split("<h1>")[1][:40]
    assert "Resumed once, after step 2" in text
    assert "2 keys differ from" in text and "train.lr 0.01" in text
    assert "initial weights random weights" in text
    assert "Missing in this work dir:" not in text
    charts = json.loads(re.search(r'id="page-charts">(.*?)</script>', html).group(1))
    rows = [row for chart in charts.values() for data in chart["datasets"].values() for row in data]
    assert {row["step"] for row in rows if row.get("metric") == "loss"} == {1, 2, 3}
    assert {"step": 2, "what": "resumed after step 2"} in rows
    assert html.count("data:image/jpeg") == 3 + 1  # evaluations, and the training samples


def test_the_page_of_an_older_run_names_what_is_missing(copied, tmp_path):
    (copied / "starts.jsonl").unlink()
    shutil.rmtree(copied / "samples")
    text = text_of(page(copied, tmp_path))
    assert "no starts.jsonl: written by an earlier version" in text
    assert "no picture of training samples" in text
    assert "no pictures of predictions" in text
    assert "The effective config" in text


def test_the_page_resolves_no_references_of_the_config(copied, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "xyzzy")
    with (copied / "config.yaml").open("a") as file:
        file.write("note: ${oc.env:SECRET}\n")
    html = page(copied, tmp_path)
    assert "${oc.env:SECRET}" in html and "xyzzy" not in html


def test_of_many_evaluations_a_sample_with_the_last_is_shown(copied, tmp_path):
    for step in range(10, 60):
        shutil.copy(
            copied / "samples" / "step_0000001.jpg", copied / "samples" / f"step_{step:07}.jpg"
        )
    steps = re.findall(r'data-step="(\d+)"', page(copied, tmp_path))
    assert len(steps) == 10
    assert (steps[0], steps[-1]) == ("1", "59")


@pytest.mark.parametrize(
    "words, said",
    [
        (["{empty}"], "contains no training run"),
        (["{empty}", "results.json"], "is a folder; give only a WORK_DIR"),
        (["{empty}", "--images", "photos"], "--images: not used for"),
        (["gt.json"], "give one or two result files after the ground truth"),
        (["gt.json", "a.json", "b.json", "c.json"], "give one or two result files"),
    ],
    ids=["no run", "folder and results", "images", "no results", "three results"],
)
def test_bad_input_of_the_training_report_ends_in_one_line(tmp_path, capsys, words, said):
    words = [word.format(empty=tmp_path) for word in words]
    assert cli.main(["report", *words, "--out", str(tmp_path / "page.html")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_broken_metrics_are_refused(copied, tmp_path, capsys):
    (copied / "metrics.csv").write_text("step,name,value\nx,loss,1\n")
    assert cli.main(["report", str(copied), "--out", str(tmp_path / "page.html")]) == 2
    assert "expected rows of step,name,value" in capsys.readouterr().err


def test_the_page_opens_from_disk_and_its_slider_goes_back_in_time(work_dir, tmp_path):
    page(work_dir, tmp_path)
    with open_page(tmp_path / "page.html", viewport={"width": 390, "height": 800}) as opened:
        opened.locator(".chart svg.marks").nth(5).wait_for()
        shown = opened.locator(".sheets img:visible")
        assert shown.get_attribute("data-step") == "3"
        opened.get_by_role("slider").fill("0")
        assert shown.get_attribute("data-step") == "1"
        assert opened.evaluate("document.documentElement.scrollWidth") <= 390
