"""The public names of ``queryinst_vis``: imports, types and behaviour."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import queryinst_vis
from queryinst_vis import Detections, Detector, InputError
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.models import build
from queryinst_vis.utils.images import read_image
from tests.tiny import draw_frame, tiny_config

ROOT = Path(__file__).resolve().parent.parent


# Names


def test_every_public_name_can_be_imported():
    for name in queryinst_vis.__all__:
        assert getattr(queryinst_vis, name).__name__ == name
        assert name in dir(queryinst_vis)


def test_unknown_names_raise_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Registry'"):
        _ = queryinst_vis.Registry


def test_the_version_is_that_of_the_package():
    assert queryinst_vis.__version__ == version("queryinst-vis")


def test_an_editor_and_python_import_the_same_things():
    """The imports for type checkers name what ``__getattr__`` imports lazily."""
    tree = ast.parse(Path(queryinst_vis.__file__).read_text())
    (for_types,) = [node.body for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in for_types for alias in node.names}
    assert set(seen) == set(queryinst_vis.__all__)
    for name, module in seen.items():
        assert getattr(importlib.import_module(module), name) is getattr(queryinst_vis, name)


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, queryinst_vis; print({'torch', 'numpy', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


# Installation


def test_the_wheel_holds_types_weights_and_every_module(tmp_path):
    if int(version("setuptools").partition(".")[0]) < 71:  # importing it here replaces distutils
        pytest.skip("builds wheels with setuptools 71 or newer")
    project = tmp_path / "project"
    shutil.copytree(
        ROOT / "queryinst_vis", project / "queryinst_vis", ignore=shutil.ignore_patterns("__pyc*")
    )
    shutil.copytree(ROOT / "configs", project / "configs")
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, project)
    code = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    built = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = project.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    kinds = ("*.py", "*.safetensors", "*.md", "py.typed")
    package = project / "queryinst_vis"
    wanted = {str(path.relative_to(project)) for kind in kinds for path in package.rglob(kind)}
    assert "queryinst_vis/py.typed" in wanted and wanted <= names


# Detector


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    config = tiny_config()
    torch.manual_seed(0)
    save_weights(path, build.build_model(config), config)
    return path


@pytest.fixture(scope="module")
def detector(weights):
    return Detector.from_pretrained(weights, "cpu", ["inference.score_threshold=0"])


def assert_same(found: Detections, expected: Detections):
    assert len(found) == len(expected) > 0
    assert found.image_size == expected.image_size
    for name in ("boxes", "scores", "labels", "mask_logits"):
        assert (getattr(found, name) == getattr(expected, name)).all(), name


def test_a_path_an_array_and_a_pil_image_give_the_same_detections(detector, tmp_path):
    Image.fromarray(draw_frame(0)).save(tmp_path / "photo.png")
    expected = detector.detect(draw_frame(0))
    assert isinstance(expected, Detections) and expected.image_size == (64, 96)
    for image in (str(tmp_path / "photo.png"), tmp_path / "photo.png"):
        assert_same(detector.detect(image), expected)
    with Image.open(tmp_path / "photo.png") as image:
        assert_same(detector.detect(image), expected)


def test_exif_orientation_applies_to_files_but_not_to_pil_images(detector, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(draw_frame(0)).save(tmp_path / "photo.jpg", exif=exif, quality=100)
    upright = detector.detect(read_image(tmp_path / "photo.jpg"))
    assert upright.image_size == (96, 64)
    assert_same(detector.detect(tmp_path / "photo.jpg"), upright)
    with Image.open(tmp_path / "photo.jpg") as image:
        assert detector.detect(image).image_size == (64, 96)


def test_grey_and_transparent_pil_images_are_converted_to_rgb(detector):
    grey = Image.fromarray(draw_frame(0)).convert("L")
    expected = detector.detect(np.repeat(np.asarray(grey)[..., None], 3, axis=2))
    assert_same(detector.detect(grey), expected)
    assert_same(detector.detect(grey.convert("RGBA")), expected)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_list_of_images_gives_a_list_of_detections(detector, batch):
    images = [draw_frame(index) for index in range(3)]
    found = detector.detect(images, batch=batch)
    assert isinstance(found, list) and len(found) == 3
    for each, image in zip(found, images, strict=True):
        alone = detector.detect(image)
        assert each.labels.tolist() == alone.labels.tolist()
        assert (each.boxes - alone.boxes).abs().max() < 1e-2
    assert detector.detect([]) == []


def test_detections_carry_class_names_and_image(detector, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(draw_frame(0)).save(path)
    array = draw_frame(1)
    of_file, of_array = detector.detect([path, array])
    assert of_file.class_names == of_array.class_names == ["box", "crate"]
    assert of_file.image is path and of_array.image is array
    assert of_file.plot().size == (96, 64)
    assert len(detector(array)) == len(of_array.crops())


def test_a_call_can_set_score_threshold_nms_and_classes(detector):
    everything = detector.detect(draw_frame(0))
    middle = float(everything.scores.median())
    strong = detector.detect(draw_frame(0), conf=middle)
    assert 0 < len(strong) < len(everything) and strong.scores.min() >= middle
    assert len(detector.detect(draw_frame(0), iou=0)) < len(everything)
    for classes in (["crate"], [1]):
        crates = detector.detect(draw_frame(0), classes=classes)
        assert crates.scores.tolist() == everything[everything.labels == 1].scores.tolist()
    assert len(detector.detect(draw_frame(0))) == len(everything), "the next call is as before"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"classes": ["crates"]}, "class 'crates': .* did you mean 'crate'"),
        ({"classes": ["zebra"]}, "class 'zebra': .* there are 'box', 'crate'"),
        ({"classes": [2]}, "class 2: labels are from 0 to 1"),
        ({"classes": "box"}, r"classes must be a list, such as \['box'\]"),
        ({"conf": 25}, "conf must be from 0 to 1, got 25"),
        ({"iou": -0.1}, r"iou must be from 0 to 1, got -0\.1"),
    ],
)
def test_an_invalid_choice_is_refused(detector, choice, message):
    with pytest.raises(InputError, match=message):
        detector.detect(draw_frame(0), **choice)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("none.jpg", r"image none\.jpg: no such file"),
        (np.zeros((4, 4), np.uint8), r"must be \(height, width, 3\) uint8 RGB, not \(4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "must be .* uint8 RGB, not .* float32"),
        (3, "must be a path, an array or a PIL image, not int"),
        (Image.new("I;16", (4, 4)), "a PIL image of mode I;16 has no defined range"),
        ([None], "must be a path, an array or a PIL image, not NoneType"),
    ],
)
def test_input_that_is_no_image_is_refused(detector, image, message):
    with pytest.raises(InputError, match=message):
        detector.detect(image)


def test_a_batch_of_nothing_is_refused(detector):
    with pytest.raises(InputError, match=r"batch .* got 0"):
        detector.detect([draw_frame(0)], batch=0)


def test_settings_reach_the_config(weights):
    threshold = Detector.from_pretrained(weights, "cpu", score_threshold=0.4).config.inference
    assert threshold.score_threshold == 0.4
    detector = Detector.from_pretrained(weights, "cpu", ["inference.max_per_image=3"], max_size=64)
    assert (detector.config.input.test_long, detector.config.inference.max_per_image) == (64, 3)
    assert detector.class_names == ["box", "crate"]


def test_an_onnx_model_has_the_same_interface(weights, detector, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed (pip install -e '.[onnx]')")
    model, config = queryinst_vis.load_model(weights, "cpu", ["inference.score_threshold=0"])
    size = (config.input.test_short, config.input.test_long)
    queryinst_vis.export_onnx(model, config, tmp_path / "tiny.onnx", *size)
    exported = Detector.from_pretrained(tmp_path / "tiny.onnx", "cpu")
    assert exported.class_names == detector.class_names
    found, expected = exported.detect(draw_frame(0)), detector.detect(draw_frame(0))
    assert found.labels.tolist() == expected.labels.tolist()
    assert (found.boxes - expected.boxes).abs().max() < 1e-2


@pytest.mark.parametrize("load", ["Detector", "VideoTracker", "load_model"])
def test_loading_builds_the_model_once(weights, monkeypatch, load):
    builds = []
    original = build.QueryInst.__init__

    def count(self, *arguments, **options):
        original(self, *arguments, **options)
        if not self.queries.is_meta:  # a skeleton for comparing shapes holds no memory
            builds.append(self)

    monkeypatch.setattr(build.QueryInst, "__init__", count)
    thing = getattr(queryinst_vis, load)
    getattr(thing, "from_pretrained", thing)(weights, "cpu")
    assert len(builds) == 1


# Types

GOOD = """
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv
from PIL import Image
from typing_extensions import assert_type

import queryinst_vis
from queryinst_vis import Config, Detections, Detector, FrameResult, InputError, VideoTracker
from queryinst_vis.models.queryinst import QueryInst

config: Config = queryinst_vis.load_config("config.yaml", ["train.lr=1e-4"])
assert_type(config.model.num_queries, int)
assert_type(queryinst_vis.build_model(config), QueryInst)
assert_type(queryinst_vis.load_model("people"), tuple[QueryInst, Config])
queryinst_vis.train(config, Path("work"), resume=True)
queryinst_vis.finetune("people", Path("photos"), "work/mine", ["train.epochs=2"], held_out=0.3)

detector = Detector.from_pretrained("people", device="cpu", max_size=320)
assert_type(detector, Detector)
assert_type(detector.class_names, list[str])
frame = np.zeros((4, 4, 3), np.uint8)
assert_type(detector.detect("photo.jpg"), Detections)
assert_type(detector.detect(frame), Detections)
assert_type(detector.detect(Image.fromarray(frame)), Detections)
paths: list[Path] = [Path("a.jpg")]
assert_type(detector.detect(paths, batch=2), list[Detections])
assert_type(detector(frame, classes=["person", 3], conf=0.5, iou=0.6), Detections)
picture: Image.Image = detector.detect("photo.jpg").plot()
parts: list[Image.Image] = detector.detect("photo.jpg").crops(frame)
print(detector.detect("photo.jpg").to_df(), detector.detect("photo.jpg").to_supervision())

tracker = VideoTracker.from_pretrained(Path("people.onnx"), overrides=["tracking.rule=ocsort"])
assert_type(tracker.update(frame), Detections)
assert_type(tracker.update(Path("a.jpg")), Detections)
results = tracker.track("street.mp4", classes=["person"], conf=0.5, start=1.5, max_frames=3)
assert_type(len(results), int)
for result in results:
    assert_type(result, FrameResult)
    assert_type(result.detections, Detections)
    assert_type(result.seconds, float | None)
    result.plot().save(f"{result.index}.png")
for result in queryinst_vis.track("street.mp4", "people", conf=0.3):
    print(result.to_supervision(), result.to_dataframe())
assert_type(queryinst_vis.detect("photo.jpg"), Detections)
assert_type(queryinst_vis.detect(paths, conf=0.5), list[Detections])
print(queryinst_vis.track_video("street.mp4", max_frames=3).files)
for shown, found in tracker.stream("street.mp4", stride=2):
    assert_type(found, Detections)
    shown.shape[0]
tracker.reset()

def find(frame: np.ndarray) -> sv.Detections:
    return sv.Detections.empty()

named = queryinst_vis.FunctionDetector(find, ["person"])
assert_type(VideoTracker(named).update(frame), Detections)
assert_type(VideoTracker(find).class_names, list[str])

try:
    scores: dict[str, Any] = queryinst_vis.evaluate_youtube_vis("gt.json", "results.json")
    coco: dict[str, dict[str, Any]] = queryinst_vis.evaluate_coco("gt.json", "results.json")
    tracks: dict[str, Any] = queryinst_vis.evaluate_tracking("gt.json", "r.json", threshold=0.3)
except InputError as error:
    print(error)

model, _ = queryinst_vis.load_model("people")
assert_type(queryinst_vis.export_onnx(model, config, "a.onnx", 288, 512), list[str])
assert_type(queryinst_vis.export_openvino(model, config, "a.xml", 288, 512), list[str])
assert_type(queryinst_vis.convert_checkpoint("a.pth", "a.safetensors", report=print), str)
assert_type(queryinst_vis.__version__, str)
"""

WRONG = {
    "queryinst_vis.Registry": "attr-defined",
    "queryinst_vis.Detector.from_pretrained('people').detect(3)": "call-overload",
    "queryinst_vis.Detector.from_pretrained('people', devise='cpu')": "call-arg",
    "queryinst_vis.VideoTracker.from_pretrained('people').update(3)": "arg-type",
    "queryinst_vis.track('street.mp4', conf='high')": "arg-type",
    "queryinst_vis.track('street.mp4', score=0.5)": "call-arg",
    "queryinst_vis.load_config('a.yaml').model.num_querys": "attr-defined",
    "queryinst_vis.train('config.yaml', 'work')": "arg-type",
    "len(queryinst_vis.Detector.from_pretrained('people').detect('a.jpg').boxs)": "attr-defined",
}


@pytest.fixture(scope="module")
def check_types(tmp_path_factory):
    """Run mypy on a script outside the repository."""
    pytest.importorskip("mypy", reason="mypy is not installed (pip install -e '.[dev]')")
    folder = tmp_path_factory.mktemp("editor")

    def run(script: str) -> str:
        (folder / "script.py").write_text(script)
        words = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
        words += ["--strict", "--cache-dir", ROOT / ".mypy_cache" / "editor", "script.py"]
        done = subprocess.run(
            [sys.executable, "-m", "mypy", *words],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "MYPYPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        return done.stdout + done.stderr

    return run


def test_every_public_name_has_its_type(check_types):
    assert set(queryinst_vis.__all__) <= set(re.findall(r"\w+", GOOD))
    said = check_types(GOOD)
    assert said.startswith("Success: no issues found"), said


def test_wrong_uses_fail_type_checking(check_types):
    said = check_types("\n".join(["import queryinst_vis", *WRONG]))
    found = dict(re.findall(r"script\.py:(\d+): error: .*\[([a-z-]+)\]", said))
    assert found == {str(line): code for line, code in enumerate(WRONG.values(), start=2)}, said
