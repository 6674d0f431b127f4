"""What ablation scripts share: their options, and runs that are trained and scored once.

A run that was interrupted is resumed; a finished one is not repeated.
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
    add("--steps", type=int, default=400, metavar="N", help="of every run (default: 400)")
    add("--seeds", type=int, default=3, metavar="N", help="runs of every variant (default: 3)")
    return parser


def run_folder(work_dir: Path, steps: int, variant: str, seed: int) -> Path:
    """Where a run leaves its files."""
    return work_dir / f"steps{steps}" / variant.replace(" ", "_") / f"seed{seed}"


def perform(folder: Path, config: Config, score: Callable[[Path], Scores]) -> Scores:
    """Train and score a run, as far as it has not been done before.

    Args:
        folder: of the run; its scores are kept in ``scores.json``.
        config: the recipe.
        score: of the trained weights.
    """
    scores, weights = folder / "scores.json", folder / "final.safetensors"
    if not scores.exists():
        if not weights.exists():
            train(config, folder, resume=(folder / "config.yaml").exists(), devices=1)
        write_json_atomically(scores, score(weights))
    return read_json(scores, "scores")


def schedule(steps: int) -> list[str]:
    """Overrides for a training of that many steps, the last quarter at a lower rate."""
    return [f"train.max_steps={steps}", f"train.lr_steps=[{steps * 3 // 4}]"]


def spread(values: list[float]) -> str:
    """Mean and standard deviation in points of AP, of values from 0 to 1."""
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{deviation}"
