"""A run that ends early resumes to exactly the weights of an uninterrupted one."""

import signal
from dataclasses import replace

import pytest
import torch

from queryinst_vis.checkpoints.training_state import load_training_state
from queryinst_vis.errors import InputError
from queryinst_vis.training import update, validation
from queryinst_vis.training.log import MetricsLog
from queryinst_vis.training.schedule import build_optimizer
from queryinst_vis.training.step import TrainingStep
from queryinst_vis.training.train import train
from queryinst_vis.training.work_dir import locked
from tests.tiny import tiny_config
from tests.training_support import (
    assert_same_state,
    metric,
    run_python,
    run_train,
    six_step_config,
    write_yaml,
)

# Killed and stopped runs


CHILD = """
import os, signal, subprocess, sys
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


def test_a_killed_run_resumes_exactly_from_its_last_checkpoint(tmp_path, tiny_videos, finished_run):
    config = six_step_config(tiny_videos)
    config.data.num_workers = 1  # the number of workers does not matter
    config.data.val = tiny_videos  # evaluation in between does not matter either
    config.train.eval_every = 2
    work_dir = tmp_path / "killed"
    killed = train_in_a_child(config, work_dir, 5, "os.kill(os.getpid(), signal.SIGKILL)")
    assert killed.returncode == -signal.SIGKILL
    assert load_training_state(work_dir / "last.ckpt").step == 3
    assert max(metric(work_dir, "loss")) == 5, "it had gone on beyond its checkpoint"

    train(config, work_dir, resume=True, devices=1)
    assert_same_state(work_dir, finished_run)
    assert metric(work_dir, "loss") == pytest.approx(metric(finished_run, "loss"), abs=0)
    assert list(metric(work_dir, "val/AP")) == [2, 4, 6]


def test_augmentations_from_config_and_argument_resume_exactly(tmp_path, tiny_videos, finished_run):
    def noisy(sample):
        return sample | {"image": sample["image"] // 2 + torch.randint(0, 99, (3, 1, 1)).byte()}

    config = six_step_config(tiny_videos)
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
        assert_same_state(finished_run, tmp_path / "straight")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_to_the_whole_process_group_saves_the_run(
    tmp_path, tiny_videos, finished_run, name
):
    """Schedulers and terminals send it so; the data workers must live on until the run ends."""
    config = six_step_config(tiny_videos)
    config.data.num_workers = 2
    work_dir = tmp_path / "stopped"
    # from another process: PyTorch's workers exit on a signal sent by their parent
    kill = f"import os, signal; os.killpg(os.getpgrp(), signal.{name})"
    call = f"subprocess.run([sys.executable, '-c', {kill!r}])"
    stopped = train_in_a_child(config, work_dir, 2, call)
    assert "stopped after step 2; " in stopped.stderr, stopped.stderr
    train(config, work_dir, resume=True, devices=1)
    assert_same_state(work_dir, finished_run)


def train_in_a_child(config, work_dir, step, signal_call):
    """Train in a child session that signals itself once ``step`` is logged."""
    path = work_dir.with_suffix(".yaml")
    write_yaml(path, config)
    names = {"config": str(path), "work_dir": str(work_dir)}
    return run_python("-c", CHILD.format(step=step, signal=signal_call, **names))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_run_and_prints_how_to_resume(
    tmp_path, tiny_videos, finished_run, monkeypatch, number
):
    work_dir, write = tmp_path / "stopped", MetricsLog.write

    def write_and_signal(self, step, metrics):
        write(self, step, metrics)
        if step == 2:
            signal.raise_signal(number)

    monkeypatch.setattr(MetricsLog, "write", write_and_signal)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit, match=r"stopped after step 2; .*--resume"):
        train(six_step_config(tiny_videos), work_dir, devices=1)
    assert signal.getsignal(number) is before
    monkeypatch.undo()
    train(six_step_config(tiny_videos), work_dir, resume=True, devices=1)
    assert_same_state(work_dir, finished_run)


def test_resuming_a_run_without_checkpoint_starts_from_step_0(tmp_path, tiny_videos, finished_run):
    work_dir = tmp_path / "early"
    work_dir.mkdir()
    write_yaml(work_dir / "config.yaml", six_step_config(tiny_videos))
    train(six_step_config(tiny_videos), work_dir, resume=True, devices=1)
    assert_same_state(work_dir, finished_run)


def test_an_existing_run_is_not_overwritten(finished_run, tiny_videos):
    before = (finished_run / "last.ckpt").read_bytes()
    with pytest.raises(InputError, match=r"contains a run.*--resume"):
        train(six_step_config(tiny_videos), finished_run, devices=1)
    assert (finished_run / "last.ckpt").read_bytes() == before


def test_resuming_a_run_in_progress_is_refused(finished_run, tiny_videos, monkeypatch):
    monkeypatch.setattr("queryinst_vis.training.work_dir.LOCK_TIMEOUT", 0.0)
    before = (finished_run / "last.ckpt").read_bytes()
    with locked(finished_run), pytest.raises(InputError, match="in use"):
        train(six_step_config(tiny_videos), finished_run, resume=True, devices=1)
    assert (finished_run / "last.ckpt").read_bytes() == before


def test_resuming_without_a_run_is_refused(tmp_path, tiny_videos):
    with pytest.raises(InputError, match="no run"):
        train(six_step_config(tiny_videos), tmp_path / "absent", resume=True, devices=1)
    assert not (tmp_path / "absent").exists()


def test_resuming_with_another_architecture_is_refused(finished_run, tiny_videos):
    config = six_step_config(tiny_videos)
    config.model.channels = 16
    with pytest.raises(InputError, match=r"model\.channels is 32 .*16 in the config"):
        train(config, finished_run, resume=True, devices=1)


def test_resuming_with_other_settings_applies_and_reports_them(
    tmp_path, tiny_images, capsys, monkeypatch
):
    config = tiny_config(train=tiny_images, track=False)
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


def test_backbone_stages_can_be_unfrozen_on_resume(tmp_path, tiny_images):
    config = tiny_config(train=tiny_images, track=False)
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


# Runs that end with an error


def test_a_failing_evaluation_leaves_the_training_state_saved(
    tmp_path, tiny_images, monkeypatch, capsys
):
    def fail(*arguments):
        raise OSError("disk gone")

    monkeypatch.setattr(validation, "evaluate", fail)
    with pytest.raises(OSError, match="disk gone"):
        train(
            tiny_config(train=tiny_images, val=tiny_images, track=False),
            tmp_path / "run",
            devices=1,
        )
    assert load_training_state(tmp_path / "run" / "last.ckpt").step == 4
    said = capsys.readouterr()
    assert "the state after step 4 is saved; continue with: --work-dir" in said.out + said.err


@pytest.mark.parametrize("error", [InputError("image 7.jpg: cut short"), MemoryError()])
def test_a_run_ended_by_an_exception_resumes_exactly(
    tmp_path, tiny_videos, finished_run, monkeypatch, capsys, error
):
    class Failing(TrainingStep):
        calls = 0

        def forward(self, batch):
            losses = super().forward(batch)  # which changes running statistics
            self.calls += 1
            if self.calls == 2 * six_step_config(tiny_videos).train.accumulate + 1:
                raise error
            return losses

    with monkeypatch.context() as patch:
        patch.setattr(update, "TrainingStep", Failing)
        with pytest.raises(type(error)):
            train(six_step_config(tiny_videos), tmp_path / "run", devices=1)
    assert load_training_state(tmp_path / "run" / "last.ckpt").step == 2
    said = capsys.readouterr()
    assert "the state after step 2 is saved; continue with: --work-dir" in said.out + said.err
    train(six_step_config(tiny_videos), tmp_path / "run", resume=True, devices=1)
    assert_same_state(tmp_path / "run", finished_run)


def test_an_error_in_the_first_step_leaves_no_checkpoint(tmp_path, tiny_images, monkeypatch):
    class Failing(TrainingStep):
        def forward(self, batch):
            raise InputError("image 7.jpg: cut short")

    monkeypatch.setattr(update, "TrainingStep", Failing)
    with pytest.raises(InputError, match="cut short"):
        train(tiny_config(train=tiny_images, track=False), tmp_path / "run", devices=1)
    assert not (tmp_path / "run" / "last.ckpt").exists()


# The command line


def test_resume_needs_only_the_work_dir(tmp_path, tiny_videos, finished_run):
    """Settings, overrides and seed of the run are kept: the weights are those of one run."""
    path, work_dir = tmp_path / "recipe.yaml", tmp_path / "run"
    write_yaml(path, six_step_config(tiny_videos))
    assert run_train(path, "train.max_steps=3", "--seed", 0, "--work-dir", work_dir) == 0
    path.unlink()
    assert run_train("--work-dir", work_dir, "--resume", "train.max_steps=6") == 0
    assert_same_state(work_dir, finished_run)


def test_resume_takes_settings_from_the_config_in_the_work_dir(tmp_path, tiny_videos, finished_run):
    work_dir = tmp_path / "run"
    config = six_step_config(tiny_videos)
    config.train.max_steps = 3
    train(config, work_dir, devices=1)
    config.train.max_steps = 6
    write_yaml(work_dir / "config.yaml", config)
    assert run_train("--resume", "--work-dir", work_dir) == 0
    assert_same_state(work_dir, finished_run)
