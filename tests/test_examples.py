"""The Python examples of README.md, docs/ and the API reference run as they are written."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shutil
import textwrap
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import supervision
import torch
from omegaconf import OmegaConf

import queryinst_vis
from queryinst_vis.checkpoints.catalogue import find_weights
from queryinst_vis.masks import encode_rle
from queryinst_vis.utils.prefetch import available_cores
from queryinst_vis.video import LiveReader
from queryinst_vis.video.writer import VideoWriter
from tests.data_support import coco_content
from tests.labelled_pictures import write_labelme
from tests.reference_support import ENTRIES, resolve
from tests.review_support import write_results
from tests.tiny import draw_frame, tiny_config, write_videos

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "data" / "ytvis_eval"
SLOW = ("export_onnx(", "export_openvino(", "people.onnx")


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
    """A working folder with every file that the examples read."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", draw_frame(0))
    with VideoWriter(tmp_path / "street.mp4", 10) as writer:
        for index in range(3):
            writer.write(draw_frame(index))
    shutil.copy("street.mp4", "park.mp4")
    (tmp_path / "out" / "street").mkdir(parents=True)
    tracks = {3: {frame: (2, 2) for frame in range(100)}, 7: {90: (2, 3), 120: (2, 2)}}
    write_results(tmp_path / "out" / "street", tracks, 130)
    config = tiny_config(write_videos(tmp_path / "set"))
    OmegaConf.save(OmegaConf.structured(config), "config.yaml")
    for name in ("ground_truth.json", "train.json"):
        shutil.copy(GOLDEN / "small_gt.json", name)
    shutil.copy(GOLDEN / "small_results.json", "results.json")
    write_labelme(tmp_path / "my_photos")
    shutil.copy(find_weights("people"), "mine.safetensors")
    content = coco_content()
    for annotation in content["annotations"]:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    Path("instances.json").write_text(json.dumps(content))
    annotation = content["annotations"][0]
    keys = ("image_id", "category_id", "bbox", "segmentation")
    found = [{**{key: annotation[key] for key in keys}, "score": 0.9}]
    Path("detections.json").write_text(json.dumps(found))
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
    """A small Mask R-CNN with random weights in place of torchvision's download."""
    if "maskrcnn" in request.getfixturevalue("source"):
        from torchvision.models import detection

        create = detection.maskrcnn_resnet50_fpn_v2
        monkeypatch.setattr(
            detection,
            "maskrcnn_resnet50_fpn_v2",
            lambda weights: create(weights_backbone=None, min_size=64, max_size=96),
        )


@pytest.mark.parametrize(("source", "name"), examples())
def test_every_documented_example_runs(source, name, folder, people_onnx, random_mask_rcnn):
    exec(compile(source, name, "exec"), {"__name__": "__main__"})


def docstring_examples() -> list:
    """The example of every entry of the API reference, marked slow if it exports a model."""
    found = []
    for entry in ENTRIES:
        docstring = inspect.getdoc(resolve(entry)) or ""
        example = textwrap.dedent(docstring.partition("Example::\n")[2])
        slow = pytest.mark.slow if any(word in example for word in SLOW) else ()
        found.append(pytest.param(example, entry, marks=slow, id=entry))
    return found


@pytest.mark.parametrize(("source", "entry"), docstring_examples())
def test_every_entry_of_the_reference_has_an_example_that_runs(source, entry, folder):
    assert source.strip(), f"{entry}: no example in its docstring"
    names = {name.rpartition(".")[2]: resolve(name) for name in ENTRIES}
    modules = {
        "np": np,
        "queryinst_vis": queryinst_vis,
        "supervision": supervision,
        "torch": torch,
    }
    exec(compile(source, entry, "exec"), {**modules, **names})


class Frames(list):
    """A ``VideoReader``, as far as the example of ``VideoWriter`` uses one."""

    fps = 10


def internal_examples() -> dict[str, dict]:
    """Examples in docstrings outside the reference, with the names they assume."""
    frames = [draw_frame(index) for index in range(3)]
    pixels = np.ones((360, 640), dtype=bool)
    return {
        "queryinst_vis.formats.losses.Losses": {},
        "queryinst_vis.formats.track_store.TrackStore": {
            "box": [0, 0, 640, 360],
            "rle": encode_rle(pixels),
        },
        "queryinst_vis.masks.instance.InstanceMask": {"encode_rle": encode_rle, "pixels": pixels},
        "queryinst_vis.utils.prefetch.OrderedWorkers": {
            "available_cores": available_cores,
            "draw": np.flipud,
            "encoder": SimpleNamespace(write=frames[:0].append),
            "frames": frames,
            "partial": partial,
        },
        "queryinst_vis.utils.progress.ProgressBar": {},
        "queryinst_vis.video.audio.SourceAudio": {"VideoWriter": VideoWriter, "frame": frames[0]},
        "queryinst_vis.video.live.LiveReader": {"LiveReader": lambda _: LiveReader("street.mp4")},
        "queryinst_vis.video.writer.VideoWriter": {"reader": Frames(frames)},
    }


@pytest.mark.parametrize("entry", internal_examples())
def test_examples_outside_the_reference_run(entry, folder):
    example = textwrap.dedent(inspect.getdoc(resolve(entry)).partition("Example::\n")[2])
    names = {entry.rpartition(".")[2]: resolve(entry), **internal_examples()[entry]}
    exec(compile(example, entry, "exec"), names)


def test_every_example_is_collected():
    package = Path(queryinst_vis.__file__).parent
    with_example = {
        node.name
        for path in package.rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and "Example::\n" in (ast.get_docstring(node) or "")
    }
    run = {entry.rpartition(".")[2] for entry in (*ENTRIES, *internal_examples())}
    assert with_example <= run
