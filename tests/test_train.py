"""Training: the schedule as published, and runs that survive whatever ends them."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from queryinst_vis import cli
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.checkpoints.training_state import load_training_state
from queryinst_vis.checkpoints.weights import load_weights, save_weights
from queryinst_vis.config import (
    BackboneConfig,
    DatasetConfig,
    TrainConfig,
    config_to_dict,
    load_config,
)
from queryinst_vis.errors import InputError
from queryinst_vis.inference import detector
from queryinst_vis.models.build import build_model
from queryinst_vis.training import evaluate as evaluation
from queryinst_vis.training import update, validation
from queryinst_vis.training.average import WeightAverage
from queryinst_vis.training.launch import choose_precision
from queryinst_vis.training.log import MetricsLog
from queryinst_vis.training.recipe import describe_schedule, plan_schedule
from queryinst_vis.training.schedule import build_optimizer, learning_rate, set_learning_rate
from queryinst_vis.training.step import TrainingStep
from queryinst_vis.training.train import train
from queryinst_vis.training.work_dir import locked
from tests.tiny import (
    HEIGHT,
    WIDTH,
    draw_frame,
    oracle_detect,
    rectangles,
    tiny_config,
    write_images,
    write_videos,
)

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("videos") / "set")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "set")


def read_metrics(work_dir):
    with (work_dir / "metrics.csv").open(newline="") as file:
        return [
            (int(row["step"]), row["name"], float(row["value"])) for row in csv.DictReader(file)
        ]


def metric(work_dir, name):
    return {step: value for step, found, value in read_metrics(work_dir) if found == name}


# The optimiser


def test_learning_rate_warms_up_and_steps_down():
    recipe = TrainConfig(
        lr=1.0, warmup_steps=4, warmup_factor=0.2, lr_steps=[6, 8], lr_gamma=0.1, max_steps=10
    )
    rates = [learning_rate(step, recipe) for step in range(10)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01])


def test_no_warmup_starts_at_the_full_rate():
    assert learning_rate(0, TrainConfig(lr=0.5, warmup_steps=0, lr_steps=[])) == 0.5


def test_backbone_has_its_own_rate_and_frozen_stages_none():
    config = tiny_config()
    recipe = replace(config.train, lr=1.0, backbone_lr_multiplier=0.1, warmup_steps=0, lr_steps=[])
    model = build_model(config)
    optimizer = build_optimizer(model, recipe)
    set_learning_rate(optimizer, 0, recipe)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    decays = {group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {recipe.weight_decay}, "one weight decay for all, as published"
    frozen = 0
    for name, parameter in model.named_parameters():
        expected = 0.1 if name.startswith("backbone.") else 1.0
        frozen += not parameter.requires_grad
        assert rates.get(id(parameter)) == (expected if parameter.requires_grad else None), name
    assert frozen > 0


# A run and what it leaves behind


@pytest.fixture(scope="module")
def finished(tmp_path_factory, videos):
    """Six steps without an interruption (and without evaluation)."""
    work_dir = tmp_path_factory.mktemp("runs") / "straight"
    train(recipe(videos), work_dir, devices=1)
    return work_dir


def recipe(videos):
    config = tiny_config(train=videos)
    config.train.max_steps = 6
    config.train.accumulate = 2
    config.train.batch_size = 1
    config.train.checkpoint_every = 3
    return config


def assert_same_state(first, second):
    first, second = (load_training_state(folder / "last.ckpt") for folder in (first, second))
    assert first.step == second.step
    assert first.model.keys() == second.model.keys()
    for name in first.model:
        assert torch.equal(first.model[name], second.model[name]), name
    moments, others = first.moments, second.moments
    assert moments.keys() == others.keys() and moments
    for key in moments:
        for name in ("step", "exp_avg", "exp_avg_sq"):
            assert torch.equal(moments[key][name], others[key][name]), (key, name)


def test_a_run_leaves_its_config_weights_state_and_metrics(finished, videos):
    written = load_config(finished / "config.yaml")
    asked = recipe(videos)
    assert asked.train.precision == "auto"
    asked.train.precision = choose_precision("auto")
    assert written == asked
    config, weights = load_weights(finished / "final.safetensors")
    assert config == asked
    state = load_training_state(finished / "last.ckpt")
    assert state.step == 6 and state.best is None
    assert all(torch.equal(weights[name], state.model[name]) for name in state.model)
    names = {name for _, name, _ in read_metrics(finished)}
    assert {"loss", "loss/s0.cls", "loss/s1.dice", "loss/track", "lr", "grad_norm"} <= names
    assert list(metric(finished, "loss")) == [1, 2, 3, 4, 5, 6]
    assert metric(finished, "lr")[6] == pytest.approx(1e-4), "after the milestone at step 3"
    assert list((finished / "tensorboard").glob("events*"))
    assert not (finished / "best.safetensors").exists(), "nothing to choose it by"


def test_training_moves_every_part_but_the_frozen_stages(finished, videos):
    torch.manual_seed(0)
    model = build_model(recipe(videos))
    _, weights = load_weights(finished / "final.safetensors")
    moved = set()
    for name, parameter in model.named_parameters():
        if not torch.equal(parameter.detach(), weights[name]):
            assert parameter.requires_grad, name
            moved.add(name.split(".")[0])
    assert moved == {name.split(".")[0] for name, _ in model.named_parameters()}


CHILD = """
import os, signal, subprocess
from queryinst_vis.config import load_config
from queryinst_vis.training import evaluate as evaluation
from queryinst_vis.training.launch import choose_precision
from queryinst_vis.training.log import MetricsLog
from queryinst_vis.training.step import TrainingStep
from queryinst_vis.training.train import train

write = MetricsLog.write

def write_and_signal(self, step, metrics):
    write(self, step, metrics)
    if step == {step}:
        {signal}

MetricsLog.write = write_and_signal
train(load_config({config!r}), {work_dir!r}, devices=1)
"""


def test_a_killed_run_resumes_exactly(tmp_path, videos, finished):
    config = recipe(videos)
    config.data.num_workers = 1  # workers change nothing
    config.data.val = videos  # nor does evaluation in between
    config.train.eval_every = 2
    work_dir = tmp_path / "killed"
    killed = train_in_a_child(config, work_dir, 5, "os.kill(os.getpid(), signal.SIGKILL)")
    assert killed.returncode == -signal.SIGKILL
    assert load_training_state(work_dir / "last.ckpt").step == 3
    assert max(metric(work_dir, "loss")) == 5, "it had gone on beyond its checkpoint"

    train(config, work_dir, resume=True, devices=1)
    assert_same_state(work_dir, finished)
    assert metric(work_dir, "loss") == pytest.approx(metric(finished, "loss"), abs=0)
    assert list(metric(work_dir, "val/AP")) == [2, 4, 6]


def test_augmentation_by_config_and_by_argument_resumes_exactly(tmp_path, videos, finished):
    def noisy(sample):
        return sample | {"image": sample["image"] // 2 + torch.randint(0, 99, (3, 1, 1)).byte()}

    config = recipe(videos)
    config.input.copy_paste = 1.0
    config.input.scale_jitter = [0.5, 2.0]
    config.input.transforms = [{"name": "RandomRotation", "degrees": 10}]
    train(config, tmp_path / "straight", devices=1, transforms=noisy)
    config.train.max_steps = 3
    train(config, tmp_path / "halves", devices=1, transforms=noisy)
    config.train.max_steps = 6
    train(config, tmp_path / "halves", resume=True, devices=1, transforms=noisy)
    assert_same_state(tmp_path / "halves", tmp_path / "straight")
    with pytest.raises(AssertionError):
        assert_same_state(finished, tmp_path / "straight")


def test_an_average_of_the_weights_is_what_a_run_publishes(tmp_path, videos, finished):
    config = recipe(videos)
    config.train.average_decay = 0.5
    train(config, tmp_path / "whole", devices=1)
    state = load_training_state(tmp_path / "whole" / "last.ckpt")
    _, published = load_weights(tmp_path / "whole" / "final.safetensors")
    _, of_state = load_weights(tmp_path / "whole" / "last.ckpt")
    assert_same_state(tmp_path / "whole", finished)  # the training itself is as without
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


def test_the_average_is_that_of_the_weights_after_every_step():
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


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_to_every_process_of_a_run_saves_it_too(tmp_path, videos, finished, name):
    """As schedulers send them, and terminals: the data workers live on until the run ends."""
    config = recipe(videos)
    config.data.num_workers = 2
    work_dir = tmp_path / "stopped"
    # from another process: PyTorch's workers take a signal of their parent for a request to end
    call = f"subprocess.run(['kill', '-s', '{name[3:]}', '--', f'-{{os.getpgrp()}}'])"
    stopped = train_in_a_child(config, work_dir, 2, call)
    assert "stopped after step 2; " in stopped.stderr, stopped.stderr
    train(config, work_dir, resume=True, devices=1)
    assert_same_state(work_dir, finished)


def train_in_a_child(config, work_dir, step, signal_call):
    """A run in a session of its own that signals itself once ``step`` is logged."""
    path = work_dir.with_suffix(".yaml")
    write_yaml(path, config)
    names = {"config": str(path), "work_dir": str(work_dir)}
    return run_python("-c", CHILD.format(step=step, signal=signal_call, **names))


def write_yaml(path, config):
    OmegaConf.save(OmegaConf.create(config_to_dict(config)), path)


def run_python(*arguments, **variables):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=300,
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_request_saves_and_says_how_to_go_on(
    tmp_path, videos, finished, monkeypatch, number
):
    work_dir, write = tmp_path / "stopped", MetricsLog.write

    def write_and_signal(self, step, metrics):
        write(self, step, metrics)
        if step == 2:
            signal.raise_signal(number)

    monkeypatch.setattr(MetricsLog, "write", write_and_signal)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit, match=r"stopped after step 2; .*--resume"):
        train(recipe(videos), work_dir, devices=1)
    assert signal.getsignal(number) is before
    monkeypatch.undo()
    train(recipe(videos), work_dir, resume=True, devices=1)
    assert_same_state(work_dir, finished)


def test_a_run_stopped_before_its_first_checkpoint_starts_anew(tmp_path, videos, finished):
    work_dir = tmp_path / "early"
    work_dir.mkdir()
    write_yaml(work_dir / "config.yaml", recipe(videos))
    train(recipe(videos), work_dir, resume=True, devices=1)
    assert_same_state(work_dir, finished)


def test_an_existing_run_is_not_overwritten(finished, videos):
    before = (finished / "last.ckpt").read_bytes()
    with pytest.raises(InputError, match=r"contains a run.*--resume"):
        train(recipe(videos), finished, devices=1)
    assert (finished / "last.ckpt").read_bytes() == before


def test_a_run_that_is_going_on_is_not_resumed_a_second_time(finished, videos, monkeypatch):
    monkeypatch.setattr("queryinst_vis.training.work_dir.LOCK_TIMEOUT", 0.0)
    before = (finished / "last.ckpt").read_bytes()
    with locked(finished), pytest.raises(InputError, match="in use"):
        train(recipe(videos), finished, resume=True, devices=1)
    assert (finished / "last.ckpt").read_bytes() == before


def test_nothing_to_resume(tmp_path, videos):
    with pytest.raises(InputError, match="no run"):
        train(recipe(videos), tmp_path / "absent", resume=True, devices=1)
    assert not (tmp_path / "absent").exists()


def test_resuming_another_model_is_refused(finished, videos):
    config = recipe(videos)
    config.model.channels = 16
    with pytest.raises(InputError, match=r"model\.channels is 32 .*16 in the config"):
        train(config, finished, resume=True, devices=1)


def test_resuming_with_other_settings_uses_and_reports_them(tmp_path, images, capsys, monkeypatch):
    config = tiny_config(train=images, track=False)
    config.train.max_steps = 1
    train(config, tmp_path, devices=1)
    config.train = replace(config.train, max_steps=2, weight_decay=0.5, backbone_lr_multiplier=0.1)
    config.train.decay_norms = False  # other groups, so another order of the parameters
    optimizers = []
    monkeypatch.setattr(
        update,
        "build_optimizer",
        lambda *of: optimizers.append(build_optimizer(*of)) or optimizers[0],
    )
    train(config, tmp_path, resume=True, devices=1)
    groups = optimizers[0].param_groups
    assert sorted(group["weight_decay"] for group in groups) == [0.0, 0.0, 0.5, 0.5]
    assert max(group["lr"] for group in groups) == pytest.approx(
        10 * min(group["lr"] for group in groups)
    )
    assert "resumed with another train.weight_decay: 0.5 (was 0.0001)" in capsys.readouterr().err


def test_stages_may_thaw_when_a_run_is_resumed(tmp_path, images):
    config = tiny_config(train=images, track=False)
    config.train.max_steps = 1
    train(config, tmp_path, devices=1)
    config.train.max_steps = 2
    before = load_training_state(tmp_path / "last.ckpt")
    config.model.backbone.frozen_stages = 0
    train(config, tmp_path, resume=True, devices=1)
    after = load_training_state(tmp_path / "last.ckpt")
    thawed = after.moments.keys() - before.moments.keys()
    assert thawed and all(name.startswith("backbone.") for name in thawed)
    assert all(after.moments[name]["step"] == 1 for name in thawed)
    assert after.moments["queries"]["step"] == 2


# Scores choose the best weights, and may end a training


def score_with(monkeypatch, scores):
    """Evaluations that find these scores, one after the other."""
    left = iter(scores)

    def evaluate(*_):
        score = next(left)
        return evaluation.Evaluation(score, {"AP": score}, [])

    monkeypatch.setattr(validation, "evaluate", evaluate)


def test_the_best_weights_are_kept(tmp_path, images, monkeypatch):
    score_with(monkeypatch, [0.2, 0.6, 0.4])
    config = tiny_config(train=images, val=images, track=False)
    config.train.max_steps = 3
    config.train.eval_every = 1
    train(config, tmp_path, devices=1)
    assert metric(tmp_path, "val/AP") == {1: 0.2, 2: 0.6, 3: 0.4}
    assert load_training_state(tmp_path / "last.ckpt").best == 0.6
    best, final = (load_weights(tmp_path / f"{name}.safetensors")[1] for name in ("best", "final"))
    assert not torch.equal(best["queries"], final["queries"])


def test_a_training_stops_when_its_score_stands_still(tmp_path, images, monkeypatch, capsys):
    config = tiny_config(train=images, val=images, track=False)
    config.train = replace(config.train, max_steps=9, eval_every=1, patience=2)
    score_with(monkeypatch, [0.2, 0.6, 0.4, 0.6])
    train(config, tmp_path, devices=1)
    state = load_training_state(tmp_path / "last.ckpt")
    assert (state.step, state.best, state.stale) == (4, 0.6, 2)
    said = capsys.readouterr()
    assert "stopped early: no better score in 2 evaluations (train.patience)" in said.out + said.err
    assert f"best weights (score 0.600) in {tmp_path / 'best.safetensors'}" in said.out + said.err
    _, final = load_weights(tmp_path / "final.safetensors")
    assert torch.equal(final["queries"], state.model["queries"])


def test_patience_is_not_renewed_by_resuming(tmp_path, images, monkeypatch):
    config = tiny_config(train=images, val=images, track=False)
    config.train = replace(config.train, max_steps=2, eval_every=1, patience=2)
    score_with(monkeypatch, [0.6, 0.4, 0.5, 0.3])
    train(config, tmp_path, devices=1)
    config.train.max_steps = 9
    train(config, tmp_path, resume=True, devices=1)
    assert load_training_state(tmp_path / "last.ckpt").step == 3
    train(config, tmp_path, resume=True, devices=1)
    assert load_training_state(tmp_path / "last.ckpt").step == 3


def test_patience_needs_something_to_score(tmp_path, images):
    config = tiny_config(train=images, track=False)
    config.train.patience = 2
    with pytest.raises(InputError, match=r"train\.patience 2: .*validation set"):
        train(config, tmp_path / "run", devices=1)


@pytest.mark.parametrize("kind", ["images", "videos", "boxes alone"])
def test_every_evaluation_leaves_pictures_of_what_is_found(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(detector, "detect", oracle_detect)
    val = (write_videos if kind == "videos" else write_images)(tmp_path / "set")
    if kind == "boxes alone":
        content = json.loads(Path(val.annotations).read_text())
        for annotation in content["annotations"]:
            annotation["segmentation"] = []
        Path(val.annotations).write_text(json.dumps(content))
    config = tiny_config(train=val, val=val, track=False)
    config.train = replace(config.train, max_steps=2, eval_every=1, samples=2)
    train(config, tmp_path / "run", devices=1)
    found = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert found == ["step_0000001.jpg", "step_0000002.jpg", "training.jpg"]
    sheet = cv2.imread(str(tmp_path / "run" / "samples" / found[0]))
    tiles = [sheet[4 : 4 + HEIGHT, 4 + n * (WIDTH + 4) :][:, :WIDTH].astype(int) for n in range(4)]
    first, last = (2, 2) if kind == "videos" else (0, 3)  # of four frames the third is the middle
    for tile, frame in zip(tiles, (first, first, last, last), strict=True):
        for x0, y0, x1, y1 in rectangles(frame):  # annotated, and found
            inside = tile[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2]
            outlined = np.abs(tile - draw_frame(frame)[..., ::-1])[y0 : y1 + 1, x0 : x1 + 1]
            assert inside.size and outlined.max() > 60


# How long a training is, and how fast it learns


def test_epochs_stretch_the_schedule():
    recipe = TrainConfig(
        max_steps=100, lr_steps=[60, 90], eval_every=10, warmup_steps=50, batch_size=2, epochs=30
    )
    planned = plan_schedule(recipe, epoch=40, processes=2)
    assert (planned.max_steps, planned.lr_steps, planned.eval_every) == (300, [180, 270], 30)
    assert (planned.warmup_steps, planned.lr) == (30, recipe.lr)
    assert describe_schedule(planned, 40, 2) == (
        "300 steps of 4 (2 processes x 2 batch x 1 accumulate): 30 epochs of 40 samples"
    )


def test_the_rate_follows_the_batch_only_where_asked_for():
    recipe = TrainConfig(lr=1e-4, batch_size=2, accumulate=3, reference_batch=16)
    assert plan_schedule(recipe, 40, processes=8).lr == 1e-4
    planned = plan_schedule(replace(recipe, scale_lr=True), 40, processes=8)
    assert planned.lr == pytest.approx(3e-4)
    assert describe_schedule(planned, 40, 8).endswith("; lr 0.0003, scaled by 48 / 16")


def test_a_training_says_how_long_it_is_and_resumes_where_epochs_count(tmp_path, images, capsys):
    config = tiny_config(train=images, track=False)
    config.train = replace(config.train, max_steps=100, epochs=1.5, scale_lr=True, lr_steps=[])
    train(config, tmp_path, devices=1)
    said = capsys.readouterr()
    assert "3 steps of 2 (1 processes x 2 batch x 1 accumulate)" in said.out + said.err
    assert load_training_state(tmp_path / "last.ckpt").step == 3
    assert metric(tmp_path, "lr")[3] == pytest.approx(1e-3 * 2 / 16)
    config.train.epochs = 2
    train(config, tmp_path, resume=True, devices=1)
    assert load_training_state(tmp_path / "last.ckpt").step == 4


# What a run writes for people


def test_the_curves_are_a_picture(finished):
    picture = cv2.imread(str(finished / "curves.png"))
    assert picture is not None and picture.shape[0] > 300 and len(np.unique(picture)) > 10


def test_loggers_are_those_that_are_asked_for(tmp_path, images):
    config = tiny_config(train=images, track=False)
    config.train = replace(config.train, max_steps=1, loggers=["tensorboard"])
    train(config, tmp_path, devices=1)
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert not (tmp_path / "metrics.csv").exists() and not (tmp_path / "curves.png").exists()


def test_weights_and_biases_stay_in_the_folder(tmp_path, images, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    config = tiny_config(train=images, track=False)
    config.train = replace(config.train, max_steps=1, loggers=["csv", "wandb"])
    train(config, tmp_path, devices=1)
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert run.name.endswith((tmp_path / "wandb" / "run_id").read_text())
    assert list(run.glob("*.wandb"))
    assert list(metric(tmp_path, "loss")) == [1]


def test_images_are_scored_by_mask_ap_at_the_end(tmp_path, images):
    config = tiny_config(train=images, val=images, track=False)
    config.train.max_steps = 1
    train(config, tmp_path, devices=1)
    assert set(metric(tmp_path, "val/segm_AP")) == set(metric(tmp_path, "val/bbox_AP")) == {1}
    model, _ = load_model(tmp_path / "best.safetensors", "cpu")
    assert model.track_head is None


def test_a_model_learns_the_tiny_set(tmp_path, images):
    config = tiny_config(train=images, val=images, track=False)
    config.train = replace(config.train, max_steps=40, warmup_steps=5, lr_steps=[], log_every=10)
    train(config, tmp_path, devices=1)
    losses = metric(tmp_path, "loss")
    assert losses[40] < 0.6 * losses[10]


# Where a training starts from


def test_init_weights_are_the_start(tmp_path, images, capsys):
    config = tiny_config(train=images, track=False)
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


def test_init_weights_make_those_of_the_backbone_needless(tmp_path, images):
    config = tiny_config(train=images, track=False)
    save_weights(tmp_path / "other.safetensors", build_model(config), config)
    config.train = replace(config.train, max_steps=1, init_weights="other.safetensors")
    config.train.init_weights = str(tmp_path / "other.safetensors")
    config.model.backbone.weights = "missing.safetensors"
    train(config, tmp_path / "run", devices=1, pretrained_backbone=True)  # nothing is fetched
    assert (tmp_path / "run" / "final.safetensors").exists()


def test_backbone_weights_are_the_start(tmp_path, images):
    config = tiny_config(train=images, track=False)
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


# What cannot work says so


def test_divergence_names_the_step_and_the_loss(tmp_path, images, monkeypatch):
    class Diverging(TrainingStep):
        calls = 0

        def forward(self, batch):
            self.calls += 1
            losses = super().forward(batch)
            return losses | {"s1.l1": losses["s1.l1"] * float("nan" if self.calls == 3 else 1)}

    monkeypatch.setattr(update, "TrainingStep", Diverging)
    config = tiny_config(train=images, track=False)
    with pytest.raises(InputError, match=r"step 2: s1\.l1 is nan.*train\.lr"):
        train(config, tmp_path, devices=1)
    assert list(metric(tmp_path, "loss")) == [1, 2]


def test_boxes_that_leave_the_numbers_are_a_divergence_too(tmp_path, images):
    config = tiny_config(train=images, track=False)
    config.train.warmup_steps, config.train.lr = 0, 1e4
    config.train.max_steps = 50
    with pytest.raises(InputError, match=r"step \d+: \S+ is (nan|inf)"):
        train(config, tmp_path, devices=1)


def test_a_failing_evaluation_does_not_cost_the_training(tmp_path, images, monkeypatch, capsys):
    def fail(*arguments):
        raise OSError("disk gone")

    monkeypatch.setattr(validation, "evaluate", fail)
    with pytest.raises(OSError, match="disk gone"):
        train(tiny_config(train=images, val=images, track=False), tmp_path / "run", devices=1)
    assert load_training_state(tmp_path / "run" / "last.ckpt").step == 4
    said = capsys.readouterr()
    assert "the state after step 4 is saved; continue with: --work-dir" in said.out + said.err


def test_every_step_that_is_due_is_evaluated_once(tmp_path, videos, monkeypatch):
    def fail(*arguments):
        raise OSError("disk gone")

    config = recipe(videos)
    config.data.val = videos
    config.train.eval_every = 2
    with monkeypatch.context() as patch:
        patch.setattr(validation, "evaluate", fail)
        with pytest.raises(OSError, match="disk gone"):
            train(config, tmp_path, devices=1)
    train(config, tmp_path, resume=True, devices=1)
    assert list(metric(tmp_path, "val/AP")) == [2, 4, 6], "the one that failed is made up for"
    ended = load_training_state(tmp_path / "last.ckpt")
    train(config, tmp_path, resume=True, devices=1)
    again = load_training_state(tmp_path / "last.ckpt")
    assert (again.best, again.stale, again.evaluated) == (ended.best, ended.stale, 6)


@pytest.mark.parametrize("error", [InputError("image 7.jpg: cut short"), MemoryError()])
def test_whatever_ends_a_training_it_resumes_exactly(
    tmp_path, videos, finished, monkeypatch, capsys, error
):
    class Failing(TrainingStep):
        calls = 0

        def forward(self, batch):
            losses = super().forward(batch)  # which changes running statistics
            self.calls += 1
            if self.calls == 2 * recipe(videos).train.accumulate + 1:
                raise error
            return losses

    with monkeypatch.context() as patch:
        patch.setattr(update, "TrainingStep", Failing)
        with pytest.raises(type(error)):
            train(recipe(videos), tmp_path / "run", devices=1)
    assert load_training_state(tmp_path / "run" / "last.ckpt").step == 2
    said = capsys.readouterr()
    assert "the state after step 2 is saved; continue with: --work-dir" in said.out + said.err
    train(recipe(videos), tmp_path / "run", resume=True, devices=1)
    assert_same_state(tmp_path / "run", finished)


def test_what_ends_a_training_in_its_first_step_leaves_no_state(tmp_path, images, monkeypatch):
    class Failing(TrainingStep):
        def forward(self, batch):
            raise InputError("image 7.jpg: cut short")

    monkeypatch.setattr(update, "TrainingStep", Failing)
    with pytest.raises(InputError, match="cut short"):
        train(tiny_config(train=images, track=False), tmp_path / "run", devices=1)
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_a_validation_set_that_cannot_be_scored_is_refused_at_the_start(tmp_path, images):
    broken = DatasetConfig(str(tmp_path / "val.json"), images.images)
    content = json.loads(Path(images.annotations).read_text())
    for annotation in content["annotations"]:
        annotation.pop("area", None)
    Path(broken.annotations).write_text(json.dumps(content))
    with pytest.raises(InputError, match="area"):
        train(tiny_config(train=images, val=broken, track=False), tmp_path / "run", devices=1)
    assert not (tmp_path / "run").exists()


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
def test_impossible_recipes(tmp_path, images, key, value):
    config = tiny_config(train=images, track=False)
    setattr(config.train, key, value)
    with pytest.raises(InputError, match=rf"train\.{key}"):
        train(config, tmp_path / "run", devices=1)
    assert not (tmp_path / "run").exists()


def test_validation_sets_are_checked_before_training(tmp_path, images, videos):
    config = tiny_config(train=images, val=videos, track=False)
    config.tracking.rule = "masktrack"
    with pytest.raises(InputError, match="no track head"):
        train(config, tmp_path / "run", devices=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["images", "videos"])
def test_validation_sets_need_masks_to_score(tmp_path, images, kind):
    val = (write_images if kind == "images" else write_videos)(tmp_path / "val")
    content = json.loads(Path(val.annotations).read_text())
    key, empty = {"images": ("segmentation", []), "videos": ("segmentations", None)}[kind]
    content["annotations"][1][key] = empty
    Path(val.annotations).write_text(json.dumps(content))
    config = tiny_config(train=images, val=val)
    with pytest.raises(InputError, match=r"annotation 2: has (no `segm|a box and no mask)"):
        train(config, tmp_path / "run", devices=1)
    assert not (tmp_path / "run").exists()


def test_a_validation_set_without_any_mask_is_scored_by_its_boxes(tmp_path, images):
    val = write_images(tmp_path / "val")
    content = json.loads(Path(val.annotations).read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    Path(val.annotations).write_text(json.dumps(content))
    config = tiny_config(train=val, val=val, track=False)
    config.train.max_steps = 1
    train(config, tmp_path / "run", devices=1)
    assert metric(tmp_path / "run", "loss/s1.dice") == {1: 0.0}
    assert metric(tmp_path / "run", "val/bbox_AP") and not metric(tmp_path / "run", "val/segm_AP")


@pytest.mark.parametrize("devices", [0, "-2"])
def test_there_must_be_a_device(tmp_path, images, devices):
    with pytest.raises(InputError, match=rf"--devices {devices}: "):
        train(tiny_config(train=images, track=False), tmp_path / "run", devices=devices)


def test_devices_must_be_a_number(tmp_path, images):
    with pytest.raises(InputError, match=r"devices 'many': .*'auto'"):
        train(tiny_config(train=images, track=False), tmp_path / "run", devices="many")


# Precision and processes


def test_bf16_trains_float32_weights(tmp_path, videos):
    config = tiny_config(train=videos)
    config.train = replace(config.train, precision="bf16-mixed", max_steps=2)
    train(config, tmp_path, devices=1)
    _, weights = load_weights(tmp_path / "final.safetensors")
    assert weights["queries"].dtype == torch.float32
    assert all(value > 0 for value in metric(tmp_path, "loss").values())


PAIR = """
from queryinst_vis.config import load_config
from queryinst_vis.training.evaluate import test_video
from queryinst_vis.training.train import train

config = load_config({config!r}, ["train.batch_size=1"])
train(config, {work_dir!r})
test_video(config, {work_dir!r} + "/final.safetensors", {work_dir!r} + "/results.json")
"""


@pytest.mark.slow
def test_two_processes_train_and_test_as_one(tmp_path, videos):
    """Two processes with one pair each see the gradients of one process with two pairs."""
    config = tiny_config(train=videos, val=videos)
    config.model.mask.norm = "GN"  # batch norm alone depends on how a batch is split
    config.train.max_steps = 2
    work_dir = tmp_path / "two"
    write_yaml(tmp_path / "config.yaml", config)
    script = PAIR.format(config=str(tmp_path / "config.yaml"), work_dir=str(work_dir))
    (tmp_path / "pair.py").write_text(script)
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    done = run_python(*launcher, str(tmp_path / "pair.py"))
    assert done.returncode == 0, done.stderr

    train(config, tmp_path / "one", devices=1)
    for name in ("loss", "grad_norm"):
        one, two = (metric(folder, name) for folder in (tmp_path / "one", work_dir))
        assert one[1] == pytest.approx(two[1], rel=1e-4), name
    weights = work_dir / "final.safetensors"
    evaluation.test_video(config, weights, tmp_path / "results.json", devices=1)
    assert (tmp_path / "results.json").read_text() == (work_dir / "results.json").read_text()


UNEVEN = """
import copy, sys
import torch
from torch.nn.parallel import DistributedDataParallel
from queryinst_vis.config import load_config
from queryinst_vis.losses.criterion import Criterion
from queryinst_vis.models.build import build_model
from queryinst_vis.structures import Batch, Target
from queryinst_vis.training.launch import launch
from queryinst_vis.training.step import TrainingStep, zero_of_unused

def batch(instances, with_masks):
    boxes = torch.tensor([[20.0, 10, 70, 60], [60, 40, 120, 90]])[:instances]
    masks = torch.zeros(instances, 96, 128, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist()):
        mask[y0:y1, x0:x1] = with_masks
    known = torch.full((instances,), with_masks)
    labels = torch.zeros(instances, dtype=torch.int64)
    target = Target(boxes, labels, masks, labels, (96, 128), known)
    return Batch(torch.randn(1, 3, 96, 128), [target])

torch.manual_seed(0)
config = load_config({config!r})
model = build_model(config)
criterion = Criterion(config.losses)
fabric = launch()
assert fabric.world_size == 2 and torch.distributed.get_backend() == "gloo"
reference = copy.deepcopy(model)
module = fabric.setup_module(TrainingStep(model, criterion).train())
finding = DistributedDataParallel(
    TrainingStep(reference, criterion).train(), find_unused_parameters=True
)
whole, boxes, nothing = (2, True), (2, False), (0, True)
for kinds in ((whole, whole), (whole, boxes), (nothing, whole), (boxes, nothing), (whole, whole)):
    torch.manual_seed(fabric.global_rank)
    mine = batch(*kinds[fabric.global_rank])
    loss = sum(module(mine).values())
    unused = zero_of_unused(loss, model)
    fabric.backward(loss + unused)
    sum(finding(mine).values()).backward()
    for (name, ours), theirs in zip(model.named_parameters(), reference.parameters()):
        assert (ours.grad is not None) == ours.requires_grad, (kinds, name)
        if theirs.grad is None:
            assert ours.grad is None or not ours.grad.any(), (kinds, name)
        else:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)
        ours.grad = theirs.grad = None
"""


def test_processes_whose_batches_use_other_heads_wait_for_no_gradient(tmp_path):
    """Boxes without masks, or no instances, in one process or both; the track head is unused."""
    config = tiny_config()
    config.model.track.enabled = True
    write_yaml(tmp_path / "config.yaml", config)
    (tmp_path / "uneven.py").write_text(UNEVEN.format(config=str(tmp_path / "config.yaml")))
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    done = run_python(*launcher, str(tmp_path / "uneven.py"))
    assert done.returncode == 0, done.stderr


# The command line


def run_train(*words):
    return cli.main(["train", *map(str, words), "--devices", "1"])


def test_a_run_goes_on_without_its_config(tmp_path, videos, finished):
    """With its own settings, overrides and seed included, to the very weights of one run."""
    path, work_dir = tmp_path / "recipe.yaml", tmp_path / "run"
    write_yaml(path, recipe(videos))
    assert run_train(path, "train.max_steps=3", "--seed", 0, "--work-dir", work_dir) == 0
    path.unlink()
    assert run_train("--work-dir", work_dir, "--resume", "train.max_steps=6") == 0
    assert_same_state(work_dir, finished)


def test_a_run_goes_on_where_nothing_is_given(tmp_path, videos, finished):
    work_dir = tmp_path / "run"
    config = recipe(videos)
    config.train.max_steps = 3
    train(config, work_dir, devices=1)
    config.train.max_steps = 6
    write_yaml(work_dir / "config.yaml", config)
    assert run_train("--resume", "--work-dir", work_dir) == 0
    assert_same_state(work_dir, finished)


def test_the_seed_of_the_command_line_counts(tmp_path, images):
    write_yaml(tmp_path / "recipe.yaml", tiny_config(train=images, track=False))
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
def test_a_training_needs_a_config(tmp_path, capsys, words, message):
    assert run_train(*words, "--work-dir", tmp_path / "run") == 2
    assert message in capsys.readouterr().err


def test_machines_that_do_not_turn_up_end_in_a_message(tmp_path, images):
    write_yaml(tmp_path / "recipe.yaml", tiny_config(train=images, track=False))
    code = (
        "import sys; from datetime import timedelta; from queryinst_vis.training import launch;"
        "launch.NODE_TIMEOUT = timedelta(seconds=2); from queryinst_vis.cli import main;"
        "sys.exit(main(sys.argv[1:]))"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [tmp_path / "recipe.yaml", "--work-dir", tmp_path / "run", "--devices", 1, "--nodes", 2]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    done = run_python("-c", code, "train", *map(str, words), **address)
    assert done.returncode == 2, done.stderr
    message = done.stderr.strip().splitlines()[-1]
    assert f"error: not all 2 nodes connected to 127.0.0.1:{port} within 2 s" in message
