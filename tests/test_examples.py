"""The Python examples of README.md and docs/ run as they are written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import pytest
from omegaconf import OmegaConf

from queryinst_vis.video.writer import VideoWriter
from tests.test_finetune import write_labelme
from tests.tiny import draw_frame, tiny_config, write_videos

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "data" / "ytvis_eval"
SLOW = ("export_onnx(", "people.onnx")


def examples() -> list:
    """Every block of Python in the documentation, marked slow if it exports a model."""
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for match in re.finditer(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
            line = path.read_text().count("\n", 0, match.start(1)) + 1
            slow = any(word in match[1] for word in SLOW)
            name = f"{path.name}:{line}"
            found.append(
                pytest.param(match[1], name, marks=pytest.mark.slow if slow else (), id=name)
            )
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with every file that an example reads."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", draw_frame(0))
    with VideoWriter(tmp_path / "street.mp4", 10) as writer:
        for index in range(3):
            writer.write(draw_frame(index))
    config = tiny_config(write_videos(tmp_path / "set"))
    OmegaConf.save(OmegaConf.structured(config), "config.yaml")
    for name in ("ground_truth.json", "train.json"):
        shutil.copy(GOLDEN / "small_gt.json", name)
    shutil.copy(GOLDEN / "small_results.json", "results.json")
    write_labelme(tmp_path / "my_photos")
    return tmp_path


@pytest.fixture
def people_onnx(request, folder):
    """``people.onnx``, for the examples that read it."""
    if "people.onnx" in request.getfixturevalue("source"):
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name, reason=f"{name} is not installed")
        from queryinst_vis import export_onnx, load_model

        export_onnx(*load_model("people", "cpu"), "people.onnx", 288, 512)


@pytest.fixture
def random_mask_rcnn(request, monkeypatch):
    """A small Mask R-CNN with random weights in the place of torchvision's download."""
    if "maskrcnn" in request.getfixturevalue("source"):
        from torchvision.models import detection

        create = detection.maskrcnn_resnet50_fpn_v2
        monkeypatch.setattr(
            detection,
            "maskrcnn_resnet50_fpn_v2",
            lambda weights: create(weights_backbone=None, min_size=64, max_size=96),
        )


@pytest.mark.parametrize(("source", "name"), examples())
def test_it_runs_as_it_is_written(source, name, folder, people_onnx, random_mask_rcnn):
    exec(compile(source, name, "exec"), {"__name__": "__main__"})


def test_there_are_examples():
    assert len(examples()) >= 7
