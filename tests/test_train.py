"""A training run: what it starts from, what it writes, and what it refuses."""

import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from queryinst_vis.checkpoints.training_state import load_training_state
from queryinst_vis.checkpoints.weights import load_weights, save_weights, write_tensors
from queryinst_vis.config import BackboneConfig, load_config
from queryinst_vis.errors import InputError
from queryinst_vis.models.build import build_model
from queryinst_vis.training import update
from queryinst_vis.training.average import WeightAverage
from queryinst_vis.training.launch import choose_precision
from queryinst_vis.training.step import TrainingStep
from queryinst_vis.training.train import train
from tests.tiny import tiny_config
from tests.training_support import (
    assert_same_state,
    metric,
    read_metrics,
    run_train,
    six_step_config,
    write_yaml,
)

# What a run writes


def test_a_run_writes_its_config_weights_state_and_metrics(finished_run, tiny_videos):
    written = load_config(finished_run / "config.yaml")
    asked = six_step_config(tiny_videos)
    assert asked.train.precision == "auto"
    asked.train.precision = choose_precision("auto")
    assert written == asked
    config, weights = load_weights(finished_run / "final.safetensors")
    assert config == asked
    state = load_training_state(finished_run / "last.ckpt")
    assert state.step == 6 and state.best is None
    assert all(torch.equal(weights[name], state.model[name]) for name in state.model)
    names = {name for _, name, _ in read_metrics(finished_run)}
    assert {"loss", "loss/s0.cls", "loss/s1.dice", "loss/track", "lr", "grad_norm"} <= names
    assert list(metric(finished_run, "loss")) == [1, 2, 3, 4, 5, 6]
    assert metric(finished_run, "lr")[6] == pytest.approx(1e-4), "after the milestone at step 3"
    assert list((finished_run / "tensorboard").glob("events*"))
    assert not (finished_run / "best.safetensors").exists(), "nothing to choose it by"


def test_training_updates_every_module_except_frozen_stages(finished_run, tiny_videos):
    torch.manual_seed(0)
    model = build_model(six_step_config(tiny_videos))
    _, weights = load_weights(finished_run / "final.safetensors")
    moved = set()
    for name, parameter in model.named_parameters():
        if not torch.equal(parameter.detach(), weights[name]):
            assert parameter.requires_grad, name
            moved.add(name.split(".")[0])
    assert moved == {name.split(".")[0] for name, _ in model.named_parameters()}


def test_a_run_publishes_the_moving_average_of_its_weights(tmp_path, tiny_videos, finished_run):
    config = six_step_config(tiny_videos)
    config.train.average_decay = 0.5
    train(config, tmp_path / "whole", devices=1)
    state = load_training_state(tmp_path / "whole" / "last.ckpt")
    _, published = load_weights(tmp_path / "whole" / "final.safetensors")
    _, of_state = load_weights(tmp_path / "whole" / "last.ckpt")
    assert_same_state(tmp_path / "whole", finished_run)  # averaging does not change the training
    for name in state.model:
        assert torch.equal(published[name], state.average[name]), name
        assert torch.equal(of_state[name], state.average[name]), name
    assert not torch.equal(state.model["queries"], state.average["queries"])

    config.train.max_steps = 4
    train(config, tmp_path / "parts", devices=1)
    config.train.max_steps = 6
    train(config, tmp_path / "parts", resume=True, devices=1)
    resumed = load_training_state(tmp_path / "parts" / "last.ckpt")
    assert all(torch.equal(resumed.average[name], state.average[name]) for name in state.average)


def test_the_moving_average_follows_its_decay_schedule():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
        average = WeightAverage(model, 0.9)
        expected = None
        for step, value in enumerate((2.0, 4.0, 8.0)):
            model.weight.fill_(value)
            average.update(model)
            # decay 1/10 at first, (1 + n) / (10 + n) after n updates; the first one is taken whole
            decay = (1 + step) / (10 + step)
            expected = value if expected is None else decay * expected + (1 - decay) * value
            assert average.model.weight.item() == pytest.approx(expected)


def test_curves_are_written_as_a_readable_picture(finished_run):
    picture = cv2.imread(str(finished_run / "curves.png"))
    assert picture is not None and picture.shape[0] > 300 and len(np.unique(picture)) > 10


def test_only_the_configured_loggers_write_files(tmp_path, tiny_images):
    config = tiny_config(train=tiny_images, track=False)
    config.train = replace(config.train, max_steps=1, loggers=["tensorboard"])
    train(config, tmp_path, devices=1)
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert not (tmp_path / "metrics.csv").exists() and not (tmp_path / "curves.png").exists()


def test_a_missing_logger_is_refused_before_a_run_is_created(tmp_path, tiny_images, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = tiny_config(train=tiny_images, track=False)
    config.train = replace(config.train, loggers=["csv", "wandb"])
    with pytest.raises(InputError, match="wandb is not installed"):
        train(config, tmp_path / "run", devices=1)
    assert not (tmp_path / "run").exists()


def test_weights_and_biases_logs_offline_into_the_work_dir(tmp_path, tiny_images, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    config = tiny_config(train=tiny_images, track=False)
    config.train = replace(config.train, max_steps=1, loggers=["csv", "wandb"])
    train(config, tmp_path, devices=1)
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert run.name.endswith((tmp_path / "wandb" / "run_id").read_text())
    assert list(run.glob("*.wandb"))
    assert list(metric(tmp_path, "loss")) == [1]


def test_the_loss_falls_on_a_tiny_set(tmp_path, tiny_images):
    config = tiny_config(train=tiny_images, val=tiny_images, track=False)
    config.train = replace(config.train, max_steps=40, warmup_steps=5, lr_steps=[], log_every=10)
    train(config, tmp_path, devices=1)
    losses = metric(tmp_path, "loss")
    assert losses[40] < 0.6 * losses[10]


# Initial weights


def test_training_starts_from_init_weights_and_reports_what_does_not_fit(
    tmp_path, tiny_images, capsys
):
    config = tiny_config(train=tiny_images, track=False)
    torch.manual_seed(7)
    other = build_model(config)
    save_weights(tmp_path / "other.safetensors", other, config)
    config.train.init_weights = str(tmp_path / "other.safetensors")
    config.train = replace(config.train, max_steps=1, lr=1e-12, warmup_steps=0)
    config.model.num_queries = 6
    train(config, tmp_path / "run", devices=1)
    _, weights = load_weights(tmp_path / "run" / "final.safetensors")
    assert torch.allclose(weights["stages.0.ffn.0.weight"], other.stages[0].ffn[0].weight)
    assert (
        "queries: 5x32 in the checkpoint, 6x32 in the model: keeps its initialisation"
        in capsys.readouterr().err
    )


def test_with_init_weights_no_backbone_weights_are_loaded(tmp_path, tiny_images):
    config = tiny_config(train=tiny_images, track=False)
    save_weights(tmp_path / "other.safetensors", build_model(config), config)
    config.train = replace(config.train, max_steps=1)
    config.train.init_weights = str(tmp_path / "other.safetensors")
    config.model.backbone.weights = "missing.safetensors"
    train(config, tmp_path / "run", devices=1, pretrained_backbone=True)  # nothing is fetched
    assert (tmp_path / "run" / "final.safetensors").exists()


def test_backbone_weights_are_loaded_if_init_weights_lack_a_backbone(tmp_path, tiny_images):
    """A converted track head, for example, comes without one."""
    config = tiny_config(train=tiny_images, track=False)
    torch.manual_seed(7)
    other = build_model(config)
    heads = {name: value for name, value in other.state_dict().items() if "backbone" not in name}
    write_tensors(tmp_path / "heads.safetensors", heads, config)
    torch.save(other.backbone.body.state_dict(), tmp_path / "backbone.pth")
    config.train = replace(config.train, max_steps=1, lr=1e-12, warmup_steps=0)
    config.train.init_weights = str(tmp_path / "heads.safetensors")
    config.model.backbone.weights = str(tmp_path / "backbone.pth")
    train(config, tmp_path / "run", devices=1)
    _, weights = load_weights(tmp_path / "run" / "final.safetensors")
    learnt = dict(other.named_parameters())
    assert [name for name in learnt if not torch.allclose(weights[name], learnt[name])] == []


def test_training_starts_from_backbone_weights(tmp_path, tiny_images):
    config = tiny_config(train=tiny_images, track=False)
    torch.manual_seed(7)
    body = build_model(config).backbone.body.state_dict()
    torch.save(body, tmp_path / "backbone.pth")
    config.model.backbone = BackboneConfig(
        name="lcnet_035", weights=str(tmp_path / "backbone.pth"), frozen_stages=4
    )
    config.train.max_steps = 1
    train(config, tmp_path / "run", devices=1)
    _, weights = load_weights(tmp_path / "run" / "final.safetensors")
    stem = next(iter(body))
    assert torch.equal(weights[f"backbone.body.{stem}"], body[stem])


# Divergence and bad settings


def test_divergence_names_the_step_and_the_loss(tmp_path, tiny_images, monkeypatch):
    class Diverging(TrainingStep):
        calls = 0

        def forward(self, batch):
            self.calls += 1
            losses = super().forward(batch)
            return losses | {"s1.l1": losses["s1.l1"] * float("nan" if self.calls == 3 else 1)}

    monkeypatch.setattr(update, "TrainingStep", Diverging)
    config = tiny_config(train=tiny_images, track=False)
    with pytest.raises(InputError, match=r"step 2: s1\.l1 is nan.*train\.lr"):
        train(config, tmp_path, devices=1)
    assert list(metric(tmp_path, "loss")) == [1, 2]


def test_boxes_that_overflow_are_reported_as_divergence(tmp_path, tiny_images):
    config = tiny_config(train=tiny_images, track=False)
    config.train.warmup_steps, config.train.lr = 0, 1e4
    config.train.max_steps = 50
    with pytest.raises(InputError, match=r"step \d+: \S+ is (nan|inf)"):
        train(config, tmp_path, devices=1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_steps", 0),
        ("accumulate", 0),
        ("clip_norm", 0.0),
        ("lr", float("nan")),
        ("weight_decay", -0.1),
        ("precision", "8-bit"),
        ("epochs", 0.0),
        ("patience", -1),
        ("reference_batch", 0),
        ("loggers", ["tensorbord"]),
    ],
)
def test_training_settings_out_of_range_are_refused_before_training(
    tmp_path, tiny_images, key, value
):
    config = tiny_config(train=tiny_images, track=False)
    setattr(config.train, key, value)
    with pytest.raises(InputError, match=rf"train\.{key}"):
        train(config, tmp_path / "run", devices=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("devices", [0, "-2"])
def test_fewer_than_one_device_is_refused(tmp_path, tiny_images, devices):
    with pytest.raises(InputError, match=rf"--devices {devices}: "):
        train(tiny_config(train=tiny_images, track=False), tmp_path / "run", devices=devices)


def test_a_device_count_that_is_no_number_is_refused(tmp_path, tiny_images):
    with pytest.raises(InputError, match=r"devices 'many': .*'auto'"):
        train(tiny_config(train=tiny_images, track=False), tmp_path / "run", devices="many")


# Precision


def test_bf16_mixed_precision_keeps_float32_weights(tmp_path, tiny_videos):
    config = tiny_config(train=tiny_videos)
    config.train = replace(config.train, precision="bf16-mixed", max_steps=2)
    train(config, tmp_path, devices=1)
    _, weights = load_weights(tmp_path / "final.safetensors")
    assert weights["queries"].dtype == torch.float32
    assert all(value > 0 for value in metric(tmp_path, "loss").values())


# The command line


def test_the_seed_option_overrides_the_config(tmp_path, tiny_images):
    write_yaml(tmp_path / "recipe.yaml", tiny_config(train=tiny_images, track=False))
    words = ["train.max_steps=1", "--seed", 7, "--work-dir", tmp_path / "run"]
    assert run_train(tmp_path / "recipe.yaml", *words) == 0
    assert load_config(tmp_path / "run" / "config.yaml").seed == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.max_steps=1"], "CONFIG is missing"),
        (["--resume"], "no run"),
        (["peple"], "the nearest names are people"),
    ],
)
def test_training_without_a_config_is_refused(tmp_path, capsys, words, message):
    assert run_train(*words, "--work-dir", tmp_path / "run") == 2
    assert message in capsys.readouterr().err
