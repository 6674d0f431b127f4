"""docs/train_youtube_vis.md: config, schedule and command lines are valid."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from queryinst_vis import cli
from queryinst_vis.config import load_config
from queryinst_vis.training.recipe import check_recipe, describe_schedule, plan_schedule

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "train_youtube_vis.md").read_text()
SAMPLES = 54525


@pytest.fixture
def config_file(tmp_path) -> Path:
    [text] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "my_vis.yaml"
    path.write_text(text)
    return path


def commands() -> list[list[str]]:
    """Every command line of the page, without ``queryinst-vis`` and what starts it."""
    blocks = re.findall(r"```\w*\n(.*?)```", PAGE, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [line.partition("queryinst-vis ")[2].replace("$resume", "") for line in lines]
    return [shlex.split(line) for line in found if line]


def test_the_schedule_on_the_page_is_that_of_eight_processes(config_file):
    recipe = load_config(config_file).train
    check_recipe(recipe)
    planned = plan_schedule(recipe, SAMPLES, 8)
    assert describe_schedule(planned, SAMPLES, 8) in PAGE
    assert planned.lr == recipe.lr
    # once an epoch, and the rate falls after 8 and 11 of the 12, as in the recipe
    assert [planned.eval_every * epochs for epochs in (1, 8, 11)] == pytest.approx(
        [planned.max_steps / 12, *planned.lr_steps], rel=1e-3
    )


def test_the_learning_rate_on_the_page_scales_linearly_with_the_batch(config_file):
    overrides = ["train.batch_size=1", "train.scale_lr=true"]
    recipe = load_config(config_file, overrides).train
    assert plan_schedule(recipe, SAMPLES, 32).lr == pytest.approx(2 * recipe.lr)


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words)[:40])
def test_the_command_lines_of_the_training_page_parse(words):
    assert cli.parse_arguments(words).run


def test_the_training_page_shows_every_way_to_launch():
    starts = [words for words in commands() if words[0] == "train"]
    assert sum("--nodes" in words for words in starts) == 3  # by hand, torchrun, SLURM
    assert sum("--resume" in words for words in starts) == 1
