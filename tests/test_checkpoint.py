"""Checkpoints: saved state is restored exactly, and bad files are refused in one line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from queryinst_vis.checkpoints import catalogue
from queryinst_vis.checkpoints.load import load_for_config, load_model
from queryinst_vis.checkpoints.training_state import (
    TrainingState,
    load_training_state,
    save_training_state,
)
from queryinst_vis.checkpoints.weights import load_exactly, load_weights, save_weights
from queryinst_vis.config import config_from_dict
from queryinst_vis.errors import InputError
from queryinst_vis.models.build import build_model
from queryinst_vis.training.schedule import moments_by_name
from queryinst_vis.utils.device import choose_device
from queryinst_vis.utils.tensor_files import read_safetensors, read_torch_file
from tests.tiny import HEIGHT, WIDTH, tiny_config


@pytest.fixture(scope="module")
def config():
    config = tiny_config()
    config.data.train.annotations = "/home/somebody/train.json"
    config.train.init_weights = "/home/somebody/coco.safetensors"
    return config


@pytest.fixture(scope="module")
def model(config):
    torch.manual_seed(0)
    return build_model(config).eval()


@pytest.fixture
def saved(tmp_path, model, config):
    path = tmp_path / "model.safetensors"
    save_weights(path, model, config)
    return path


def assert_same_tensors(first, second):
    assert first.keys() == second.keys() and first
    for name in first:
        assert torch.equal(first[name], second[name]), name


@torch.no_grad()
def last_boxes(model):
    torch.manual_seed(1)
    images = torch.randn(1, 3, HEIGHT, WIDTH)
    return model(images, [(HEIGHT, WIDTH)]).stages[-1].boxes


def test_saved_weights_are_loaded_with_their_config(saved, model, config):
    read_config, weights = load_weights(saved)
    assert read_config == config
    assert_same_tensors(weights, model.state_dict())


def test_metadata_has_the_documented_keys(saved, config):
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "queryinst_vis/1"
    stored = json.loads(metadata["config"])
    assert stored["model"]["classes"] == ["box", "crate"]
    assert config_from_dict(stored, "metadata") == config


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path, saved, model, config):
    path = tmp_path / "half.safetensors"
    save_weights(path, model, config, half=True)
    assert path.stat().st_size < 0.6 * saved.stat().st_size
    assert {v.dtype for v in load_file(path).values()} == {torch.float16, torch.int64}
    loaded, _ = load_model(path, "cpu")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    for name, parameter in loaded.named_parameters():
        full = model.get_parameter(name)
        assert torch.allclose(parameter, full, rtol=1e-3, atol=1e-6), name


def test_half_precision_refuses_weights_beyond_its_range(tmp_path, config):
    model = build_model(config)
    with torch.no_grad():
        model.queries[0, 0] = 1e6
    with pytest.raises(InputError, match=r"queries .*float16"):
        save_weights(tmp_path / "half.safetensors", model, config, half=True)
    assert list(tmp_path.iterdir()) == []


def test_inference_only_drops_training_heads_and_local_paths(tmp_path, saved, model, config):
    path = tmp_path / "shipped.safetensors"
    save_weights(path, model, config, inference_only=True)
    dropped = load_weights(saved)[1].keys() - load_weights(path)[1].keys()
    assert dropped and all(name.startswith("mask_heads.0.") for name in dropped)
    assert b"somebody" in saved.read_bytes() and b"somebody" not in path.read_bytes()
    assert any(name.startswith("mask_heads.0.") for name in model.state_dict()), "left alone"
    assert torch.equal(last_boxes(load_model(path, "cpu")[0]), last_boxes(model))


def test_a_failing_write_leaves_the_old_file(saved, model, config, monkeypatch):
    before = saved.read_bytes()

    write = Path.write_bytes

    def fail_midway(path, data):
        write(path, data[: len(data) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail_midway)
    with pytest.raises(OSError, match="disk full"):
        save_weights(saved, model, config)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_load_model_is_ready_for_inference(saved, model):
    loaded, _ = load_model(saved, "cpu")
    assert not loaded.training
    assert torch.equal(last_boxes(loaded), last_boxes(model))


def test_overrides_can_change_every_setting_except_the_model(saved):
    _, config = load_model(
        saved, "cpu", ["inference.score_threshold=0.25", "tracking.max_tracks=9"]
    )
    assert (config.inference.score_threshold, config.tracking.max_tracks) == (0.25, 9)
    with pytest.raises(InputError, match=r"override of model\.channels"):
        load_model(saved, "cpu", ["model.channels=64"])


def test_names_resolve_to_shipped_weights(saved, tmp_path, monkeypatch):
    package = tmp_path / "package"
    (package / "weights").mkdir(parents=True)
    saved.rename(package / "weights" / "shapes.safetensors")
    monkeypatch.setattr(catalogue.resources, "files", lambda name: package)
    assert load_model("shapes", "cpu")[1].model.classes == ["box", "crate"]
    with pytest.raises(InputError, match=r"'shapez': .*\(shapes\)"):
        load_model("shapez", "cpu")


def test_an_unavailable_device_is_refused(saved):
    for device in ("warp", "cuda:77"):
        with pytest.raises(InputError, match=f"device '{device}'"):
            choose_device(device)


def test_missing_weights_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_weights(tmp_path / "absent.safetensors")


def test_a_permission_error_is_not_reported_as_a_broken_file(saved, monkeypatch):
    def refuse(self, *arguments):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    for read, what in ((read_safetensors, "weights"), (read_torch_file, "checkpoint")):
        with pytest.raises(InputError, match=rf"{what} .*Permission denied"):
            read(saved, what)


@pytest.mark.parametrize("kept", [0, 5, 2000, -10])
def test_truncated_weights_are_refused(saved, kept):
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(InputError, match="not a safetensors file"):
        load_weights(saved)


def test_foreign_safetensors_point_to_convert_checkpoint(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="convert-checkpoint"):
        load_weights(path)


def test_weights_that_do_not_match_their_config_are_refused(tmp_path, model, config):
    path = tmp_path / "model.safetensors"
    other = replace(config, model=replace(config.model, num_queries=7))
    save_weights(path, model, other)
    expected = (
        "checkpoint of another config: proposals is 5x4 in the checkpoint and 7x4 in the model"
    )
    with pytest.raises(InputError, match=expected):
        load_model(path, "cpu")


@pytest.mark.parametrize("missing", [True, False])
def test_missing_and_surplus_tensors_are_named(model, missing):
    weights = dict(model.state_dict())
    if missing:
        del weights["queries"]
    else:
        weights["extra"] = torch.zeros(3)
    message = "queries is absent in" if missing else "extra is 3 in the checkpoint and absent"
    with pytest.raises(InputError, match=message):
        load_exactly(model, weights, "here")


def test_test_configs_must_describe_the_checkpoint(saved, config):
    narrower = replace(config, model=replace(config.model, channels=16))
    with pytest.raises(InputError, match=r"model\.channels is 32 .*16 in the config"):
        load_for_config(narrower, saved)
    renamed = replace(config, model=replace(config.model, classes=["box", "ball"]))
    with pytest.raises(InputError, match=r"model\.classes is \['box', 'crate'\]"):
        load_for_config(renamed, saved)


def test_test_configs_may_leave_classes_and_training_details_open(saved, config):
    backbone = replace(config.model.backbone, weights="elsewhere.pth", frozen_stages=0)
    asked = replace(config, seed=5, model=replace(config.model, classes=[], backbone=backbone))
    _, merged = load_for_config(asked, saved)
    assert merged.model == config.model
    assert merged.seed == 5


@pytest.fixture
def state(model, config):
    optimizer = torch.optim.AdamW(model.parameters())
    model.queries.grad = torch.ones_like(model.queries)
    optimizer.step()
    return TrainingState(12, 0.5, config, model.state_dict(), moments_by_name(optimizer, model))


def test_training_state_is_restored_exactly(tmp_path, state):
    save_training_state(tmp_path / "last.ckpt", state)
    loaded = load_training_state(tmp_path / "last.ckpt")
    assert (loaded.step, loaded.best, loaded.config) == (12, 0.5, state.config)
    assert_same_tensors(loaded.model, state.model)
    assert loaded.moments.keys() == state.moments.keys() == {"queries"}
    assert_same_tensors(loaded.moments["queries"], state.moments["queries"])


def test_training_state_can_be_loaded_as_weights(tmp_path, state):
    save_training_state(tmp_path / "last.ckpt", state)
    model, config = load_model(tmp_path / "last.ckpt", "cpu")
    assert torch.equal(model.queries, state.model["queries"])
    assert config == state.config


def test_truncated_and_foreign_training_states_are_refused(tmp_path, state):
    path = tmp_path / "last.ckpt"
    save_training_state(path, state)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a checkpoint"):
        load_weights(path)
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, path)
    with pytest.raises(InputError, match="convert-checkpoint"):
        load_weights(path)


class Bomb:
    def __reduce__(self):
        return (print, ("code from a checkpoint ran",))


def test_code_in_a_checkpoint_is_not_executed(tmp_path, capsys):
    torch.save({"format": Bomb()}, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="is not executed"):
        load_weights(tmp_path / "last.ckpt")
    assert "ran" not in capsys.readouterr().out
