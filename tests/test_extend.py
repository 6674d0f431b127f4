"""Extensions: the package of docs/extend.md, installed and used by name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from queryinst_vis import InputError, VideoTracker, cli, evaluate_youtube_vis
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.config import TrackingConfig
from queryinst_vis.data.youtube_vis import YouTubeVisDataset
from queryinst_vis.models.build import build_model
from queryinst_vis.tracking import Tracker
from queryinst_vis.video.writer import VideoWriter
from tests.sightings import see
from tests.tiny import draw_frame, rectangles, tiny_config, write_videos

ROOT = Path(__file__).resolve().parent.parent
EXTENSION = ROOT / "tests" / "extension"


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder into which pip has installed the package."""
    pytest.importorskip("pip", reason="pip is not installed")
    folder = tmp_path_factory.mktemp("extension")
    project = shutil.copytree(EXTENSION, folder / "project")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    words = ["--no-deps", "--no-build-isolation", "--target", folder / "packages", project]
    done = subprocess.run([*pip, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "packages"


@pytest.fixture
def extension(packages, monkeypatch):
    """Makes the package importable and its entry points known."""
    monkeypatch.syspath_prepend(packages)
    yield
    for name in [name for name in sys.modules if name.startswith("example_extension")]:
        del sys.modules[name]


def broken_package(folder, monkeypatch, group, line):
    """Another package with a single entry point."""
    info = folder / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[queryinst_vis.{group}]\n{line}\n")
    monkeypatch.syspath_prepend(folder)


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10) as writer:
        for index in range(4):
            writer.write(draw_frame(index))
    return path


def answer(capsys, *words) -> str:
    """The one-line error of a command."""
    assert cli.main([str(word) for word in words]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    return shown


def test_the_extension_page_shows_the_example_package():
    page = (ROOT / "docs" / "extend.md").read_text()
    shown = dict(re.findall(r"```python\n# example_extension/(\w+\.py)\n(.*?)```", page, re.DOTALL))
    files = {path.name: path.read_text() for path in EXTENSION.glob("example_extension/[!_]*.py")}
    assert shown == files
    assert (EXTENSION / "pyproject.toml").read_text() in page


# A detector, by the command line


def test_a_detector_is_named_on_the_command_line(extension, clip, tmp_path):
    words = ["track", clip, "--weights", "bright:200", "--out", tmp_path / "out"]
    assert cli.main([*map(str, words), "tracking.rule=nearest"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results) == 2
    assert all(all(entry["segmentations"]) for entry in results)


def test_a_detector_is_named_in_python(extension):
    tracker = VideoTracker.from_pretrained("bright")
    found = tracker.update(draw_frame(0))
    assert sorted(found.boxes.round().tolist()) == sorted(
        [x0, y0, x1 - 1, y1 - 1] for x0, y0, x1, y1 in rectangles(0)
    )
    assert tracker.class_names == ["bright region"]
    assert len(VideoTracker.from_pretrained("bright:250").update(draw_frame(0))) == 0


def test_detectors_are_listed_beside_the_weights(extension, capsys):
    assert cli.main(["weights"]) == 0
    assert "bright:ARGUMENT" in capsys.readouterr().out


def test_an_unknown_detector_is_refused_with_the_nearest(extension, clip, capsys):
    shown = answer(capsys, "track", clip, "--weights", "brigth:200")
    assert "weights: unknown detector 'brigth'; did you mean bright?" in shown


# A rule


def test_an_installed_rule_is_selected_by_name(extension):
    tracker = Tracker(TrackingConfig(rule="nearest"))
    assert tracker.embedding is None
    first = tracker.update(see(0, 1)).track_ids.tolist()
    assert tracker.update(see(1, 0)).track_ids.tolist() == first[::-1]


def test_weights_may_name_an_installed_rule(extension, tmp_path):
    config = tiny_config(track=False)
    config.tracking.rule = "nearest"
    save_weights(tmp_path / "weights.safetensors", build_model(config), config)
    found = VideoTracker.from_pretrained(tmp_path / "weights.safetensors", "cpu")
    assert found.update(draw_frame(0)).track_ids.tolist() == list(range(5))


def test_weights_that_name_a_missing_rule_are_refused(tmp_path):
    config = tiny_config(track=False)
    config.tracking.rule = "nearest"
    save_weights(tmp_path / "weights.safetensors", build_model(config), config)
    with pytest.raises(InputError, match="rule 'nearest'"):
        VideoTracker.from_pretrained(tmp_path / "weights.safetensors", "cpu")


def test_an_unknown_rule_is_refused_with_the_nearest(extension):
    with pytest.raises(InputError, match=r"rule 'neerest'.*nearest"):
        Tracker(TrackingConfig(rule="neerest"))


def test_built_in_names_cannot_be_overridden(tmp_path, monkeypatch):
    broken_package(tmp_path, monkeypatch, "association_rules", "masktrack = nowhere:rule")
    assert Tracker(TrackingConfig(rule="masktrack")).embedding == "track_head"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mine = nowhere:rule", "'mine': nowhere:rule of .* broken cannot be imported .*nowhere"),
        ("mine = json:dumps", "its package gives function, not a queryinst_vis.tracking.Rule"),
    ],
)
def test_a_broken_extension_package_is_named(tmp_path, monkeypatch, line, message):
    broken_package(tmp_path, monkeypatch, "association_rules", line)
    with pytest.raises(InputError, match=message):
        Tracker(TrackingConfig(rule="mine"))


def test_two_packages_with_one_entry_point_name_are_refused(extension, tmp_path, monkeypatch):
    broken_package(tmp_path, monkeypatch, "association_rules", "nearest = json:dumps")
    with pytest.raises(InputError, match=r"several installed packages .*broken"):
        Tracker(TrackingConfig(rule="nearest"))


# A backbone


def test_a_backbone_is_trained_and_loaded_by_name(extension, tmp_path, capsys):
    config = tiny_config(write_videos(tmp_path / "set"))
    config.train.max_steps = 1
    OmegaConf.save(OmegaConf.structured(config), tmp_path / "config.yaml")
    words = ["train", tmp_path / "config.yaml", "model.backbone.name=plain"]
    assert cli.main([*map(str, words), "--work-dir", str(tmp_path / "work")]) == 0
    model, found = load_model(tmp_path / "work" / "final.safetensors", "cpu")
    assert found.model.backbone.name == "plain"
    assert model.backbone.channels == [16, 32, 64, 128]


def test_an_installed_backbone_obeys_frozen_stages(extension):
    config = tiny_config()
    config.model.backbone.name = "plain"
    for stages in range(5):
        config.model.backbone.frozen_stages = stages
        body = build_model(config).backbone.body
        frozen = [not part[0].weight.requires_grad for part in (body.stem, *body.stages)]
        assert frozen == [stages > 0] + [index < stages for index in range(4)]


class Narrow(torch.nn.Module):
    channels = (1, 2, 3, 4)

    def forward(self, images):
        return [images] * 4


@pytest.mark.parametrize(
    ("make", "frozen", "changes", "message"),
    [
        ("Narrow", 0, {}, r"its maps of a 64x64 image must be \[\(1, 1, 16, 16\)"),
        ("dict", 0, {}, "its package returns dict, not an nn.Module"),
        ("Narrow", 0, {"drop_path": 0.1}, r"only timm's models take model\.backbone\.drop_path"),
        ("Narrow", 0, {"pretrained": True}, "only timm's weights are fetched"),
    ],
)
def test_an_unusable_backbone_is_refused(tmp_path, monkeypatch, make, frozen, changes, message):
    from queryinst_vis.models.backbone import Backbone

    where = f"{__name__}:Narrow" if make == "Narrow" else "builtins:dict"
    broken_package(tmp_path, monkeypatch, "backbones", f"mine = {where}")
    with pytest.raises(InputError, match=message):
        Backbone("mine", frozen_stages=frozen, **changes)


# A dataset format


@pytest.fixture
def numbered(tmp_path):
    """Two videos in the format of the package."""
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(3):
            path = tmp_path / "data" / name / f"{index}.jpg"
            cv2.imwrite(str(path), draw_frame(index)[..., ::-1])
            numbers = np.zeros(draw_frame(index).shape[:2], dtype=np.uint8)
            for number, (x0, y0, x1, y1) in enumerate(rectangles(index), start=1):
                numbers[y0:y1, x0:x1] = number
            cv2.imwrite(str(path.with_suffix(".png")), numbers)
    return tmp_path / "data"


@pytest.mark.parametrize("command", [["convert-dataset"], ["data", "convert"]])
def test_an_installed_data_set_format_is_converted(extension, numbered, tmp_path, capsys, command):
    words = [numbered, tmp_path / "set.json", "--coco", tmp_path / "coco.json"]
    assert cli.main([*command, "numbered", *map(str, words)]) == 0
    assert "2 videos, 4 tracks" in capsys.readouterr().out
    dataset = YouTubeVisDataset(tmp_path / "set.json", numbered, ["object"])
    assert [len(video) for _, video in enumerate(dataset.videos)] == [3, 3]
    assert len(json.loads((tmp_path / "coco.json").read_text())["images"]) == 6


def test_a_detector_is_evaluated_on_a_converted_set(extension, numbered, tmp_path, capsys):
    words = ["convert-dataset", "numbered", numbered, tmp_path / "set.json"]
    assert cli.main([str(word) for word in words]) == 0
    content = (tmp_path / "set.json").read_text().replace('"object"', '"bright region"')
    (tmp_path / "set.json").write_text(content)
    (tmp_path / "config.yaml").write_text(
        f"data: {{test: {{annotations: {tmp_path / 'set.json'}, images: {numbered}}}}}"
    )
    words = ["test-video", tmp_path / "config.yaml", "bright:200", "--devices", "1"]
    assert cli.main([*map(str, words), "--out", str(tmp_path / "results.json")]) == 0
    scores = evaluate_youtube_vis(tmp_path / "set.json", tmp_path / "results.json")
    assert scores["AP50"] == 1 and f"{100 * scores['AP']:.1f}" in capsys.readouterr().out


def test_an_installed_format_is_listed_in_the_help(extension, capsys):
    with pytest.raises(SystemExit):
        cli.main(["convert-dataset", "--help"])
    assert "numbered" in capsys.readouterr().out


def test_the_format_of_an_uninstalled_package_is_an_invalid_choice(numbered, tmp_path, capsys):
    shown = answer(capsys, "convert-dataset", "numbered", numbered, tmp_path / "set.json")
    assert "invalid choice: 'numbered'" in shown and "labelme" in shown


def test_a_missing_source_is_refused(extension, tmp_path, capsys):
    shown = answer(capsys, "convert-dataset", "numbered", tmp_path / "no", tmp_path / "set.json")
    assert "no such file or folder" in shown


def test_a_format_that_returns_something_else_is_refused(tmp_path, monkeypatch, capsys):
    broken_package(tmp_path, monkeypatch, "dataset_formats", "mine = builtins:str")
    shown = answer(capsys, "convert-dataset", "mine", tmp_path, tmp_path / "set.json")
    assert "must return queryinst_vis.data.convert.LabelledVideo, got str" in shown
    assert not (tmp_path / "set.json").exists()
