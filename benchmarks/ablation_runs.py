"""Shared by the ablation scripts: options, and runs that are trained and evaluated once.

Interrupted runs are resumed; finished ones are not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

from queryinst_vis.config import Config
from queryinst_vis.training.train import train
from queryinst_vis.utils.files import read_json, write_json_atomically

Scores = dict[str, float]


def ablation_parser(description: str | None, work_dir: str) -> argparse.ArgumentParser:
    """A parser with the options ``--work-dir``, ``--steps`` and ``--seeds``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--work-dir", type=Path, default=Path(work_dir), metavar="DIR")
    add("--steps", type=int, default=400, metavar="N", help="steps per run (default: 400)")
    add("--seeds", type=int, default=3, metavar="N", help="runs per variant (default: 3)")
    return parser


def run_folder(work_dir: Path, steps: int, variant: str, seed: int) -> Path:
    """The folder of a run."""
    return work_dir / f"steps{steps}" / variant.replace(" ", "_") / f"seed{seed}"


def train_and_score(folder: Path, config: Config, score: Callable[[Path], Scores]) -> Scores:
    """Train and evaluate a run, unless this has been done before.

    Args:
        folder: folder of the run; its scores are stored in ``scores.json``.
        config: the config.
        score: evaluates the trained weights.
    """
    scores, weights = folder / "scores.json", folder / "final.safetensors"
    if not scores.exists():
        if not weights.exists():
            train(config, folder, resume=(folder / "config.yaml").exists(), devices=1)
        write_json_atomically(scores, score(weights))
    return read_json(scores, "scores")


def schedule(steps: int) -> list[str]:
    """Overrides for the number of steps, with a lower learning rate in the last quarter."""
    return [f"train.max_steps={steps}", f"train.lr_steps=[{steps * 3 // 4}]"]


def mean_and_deviation(values: list[float]) -> str:
    """Mean and standard deviation of fractions, in percent, e.g. ``39.8 ± 0.4``."""
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{deviation}"
