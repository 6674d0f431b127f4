"""Invalid settings, and outputs that would overwrite their inputs."""

from __future__ import annotations

import json
import math

import pytest
import torch

from queryinst_vis.cli import main
from queryinst_vis.config import TrackingConfig
from queryinst_vis.errors import InputError
from queryinst_vis.inference.detector import Detector
from queryinst_vis.models.build import build_model
from queryinst_vis.models.roi import assign_levels
from queryinst_vis.tracking.tracker import Tracker
from queryinst_vis.utils.device import choose_device
from queryinst_vis.video.live import LiveReader
from tests.tiny import tiny_config


def set_key(config, key, value):
    *path, name = key.split(".")
    for part in path:
        config = getattr(config, part)
    setattr(config, name, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("input.test_short", 0),
        ("input.test_long", -5),
        ("inference.score_threshold", math.nan),
        ("inference.score_threshold", 7.0),
        ("inference.mask_threshold", 2.0),
        ("inference.max_per_image", 0),
    ],
)
def test_inference_settings_that_exclude_every_detection_are_refused(key, value):
    config = tiny_config(track=False)
    model = build_model(config)
    set_key(config, key, value)
    with pytest.raises(InputError, match=rf"{key}: must be .*, is {value}"):
        Detector(model, config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.ffn_channels", 0),
        ("model.class_layers", -1),
        ("model.mask.roi_size", 0),
        ("model.mask.num_convs", -1),
        ("model.backbone.mean", [1.0, 2.0]),
        ("model.backbone.std", [0.0, 1.0, 1.0]),
        ("model.backbone.std", [math.nan, 1.0, 1.0]),
    ],
)
def test_model_settings_out_of_range_are_refused(key, value):
    config = tiny_config(track=False)
    set_key(config, key, value)
    with pytest.raises(InputError, match=key):
        build_model(config)


@pytest.mark.parametrize("key", ["score_weight", "iou_weight", "label_weight"])
def test_non_finite_tracking_weights_are_refused(key):
    with pytest.raises(InputError, match=rf"tracking\.{key}: .*nan"):
        Tracker(TrackingConfig(**{key: math.nan}))


def test_devices_without_storage_are_refused():
    with pytest.raises(InputError, match="device 'meta'"):
        choose_device("meta")


def test_invalid_urls_are_refused():
    with pytest.raises(InputError, match="not a valid URL"):
        LiveReader("http://[::1")


def test_non_finite_boxes_get_a_valid_level():
    boxes = torch.tensor([[0, 0, math.nan, 8], [0, 0, 500, 500]])
    assert assign_levels(boxes, 4).tolist() == [0, 3]


@pytest.mark.parametrize(
    "words",
    [
        ["convert-checkpoint", "a.safetensors", "a.safetensors"],
        ["zip", "r.json", "r.json"],
        ["convert-results", "r.json", "./r.json", "--to", "coco-video", "--gt", "gt.json"],
        ["convert-results", "r.json", "gt.json", "--to", "coco-video", "--gt", "gt.json"],
        ["eval-video", "gt.json", "r.json", "--json", "r.json"],
        ["eval-cityscapes", "gt.json", "r.json", "folder", "--zip", "gt.json"],
        ["data", "stats", "gt.json", "--json", "./gt.json"],
        ["data", "split", "gt.json", "new.json", "new.json"],
        ["data", "browse", "gt.json", "--images", ".", "--out", "a.png", "--results", "a.png"],
        ["convert-dataset", "youtube-vis", "gt.json", "new.json", "--coco", "gt.json"],
        ["export-onnx", "a.safetensors", "--size", "64x64", "--output", "a.safetensors"],
        ["plot-mask-features", "a.png", "--out", "a.png"],
    ],
)
def test_input_files_are_never_overwritten(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    files = {
        name: json.dumps([name]).encode()
        for name in ("a.safetensors", "a.png", "r.json", "gt.json")
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert main(words) == 2
    assert "is also an input or another output" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
