"""Helpers for the tests of training: a six-step config, and readers of a run's files."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import torch
from omegaconf import OmegaConf

from queryinst_vis import cli
from queryinst_vis.checkpoints.training_state import load_training_state
from queryinst_vis.config import config_to_dict
from tests.tiny import tiny_config

ROOT = Path(__file__).parent.parent


def read_metrics(work_dir):
    with (work_dir / "metrics.csv").open(newline="") as file:
        return [
            (int(row["step"]), row["name"], float(row["value"])) for row in csv.DictReader(file)
        ]


def metric(work_dir, name):
    return {step: value for step, found, value in read_metrics(work_dir) if found == name}


def six_step_config(videos):
    """Six steps of two batches each, with a checkpoint after the third and the last."""
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


def run_train(*words):
    return cli.main(["train", *map(str, words), "--devices", "1"])
