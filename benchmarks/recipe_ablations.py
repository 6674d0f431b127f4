"""Ablation of copy-paste, box-only annotations and ignore regions in the recipe of `people`.

    python benchmarks/recipe_ablations.py --init people --seeds 3

continues the training of weights for a few hundred steps with `configs/people.yaml`, with all three
and with each of them left out, evaluates the averaged weights on held-out images of COCO and frames
of MOTS, and prints means and standard deviations over the seeds. QUERYINST_VIS_DATA and the files
in work/ are those of docs/weights.md. Interrupted runs are resumed; finished ones are not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from ablation_runs import (
    Scores,
    ablation_parser,
    mean_and_deviation,
    run_folder,
    schedule,
    train_and_score,
)
from rich.console import Console
from rich.table import Table

from queryinst_vis.config import Config, DatasetConfig, load_config
from queryinst_vis.training.evaluate import test_image
from queryinst_vis.utils.allocator import keep_freed_memory

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "people.yaml"
IMAGES = {
    "coco": ("work/coco_person_val.json", "coco_person/images"),
    "mots": ("work/mots_val_coco.json", "mots/images"),
}
"""Held-out sets: annotations, and images below QUERYINST_VIS_DATA/data."""
METRICS = (("segm", "AP"), ("segm", "AP50"), ("bbox", "AP"), ("bbox", "AP50"))


def without_boxes(config: Config) -> Config:
    """Without the set in which most people have only a box."""
    sets = [entry for entry in config.data.train_extra if "boxes" not in entry.annotations]
    return replace(config, data=replace(config.data, train_extra=sets))


def without_copy_paste(config: Config) -> Config:
    """Without instances pasted from other images."""
    return replace(config, input=replace(config.input, copy_paste=0.0))


def without_ignoring(config: Config) -> Config:
    """With all unmatched queries as negatives, also in crowds."""
    return replace(config, losses=replace(config.losses, ignore_overlap=None))


VARIANTS: dict[str, Callable[[Config], Config]] = {
    "everything": lambda config: config,
    "no copy-paste": without_copy_paste,
    "no box-only set": without_boxes,
    "no ignore regions": without_ignoring,
}


def main() -> None:
    """Train and evaluate the missing runs, ordered by seed, and print the table."""
    arguments = parse_arguments()
    keep_freed_memory()
    names = arguments.only or list(VARIANTS)
    scores: dict[str, list[Scores]] = {name: [] for name in names}
    for seed in range(arguments.seeds):  # an early stop leaves complete comparisons
        for name in names:
            folder = run_folder(arguments.work_dir, arguments.steps, name, seed)
            config = VARIANTS[name](run_config(arguments, seed))
            scores[name].append(train_and_score(folder, config, partial(score, config, folder)))
    report(scores, arguments)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = ablation_parser(__doc__, "work/recipe_ablations")
    add = parser.add_argument
    add("--init", required=True, metavar="WEIGHTS", help="initial weights: name or file")
    add("--only", nargs="+", choices=VARIANTS, metavar="VARIANT", help=", ".join(VARIANTS))
    add("--size", default="400x224", metavar="WxH", help="network input (default: 400x224)")
    return parser.parse_args()


def run_config(arguments: argparse.Namespace, seed: int) -> Config:
    """The shortened recipe."""
    width, height = arguments.size.split("x")
    return load_config(
        CONFIG,
        [
            f"seed={seed}",
            f"input.train_short=[{height}]",
            f"input.train_long=[{width}]",
            f"input.test_short={height}",
            f"input.test_long={width}",
            "data.val.annotations=null",
            "inference.score_threshold=0.05",  # low-score detections increase COCO's metrics
            "inference.nms_threshold=null",
            "model.backbone.weights=null",
            f"train.init_weights={arguments.init}",
            "train.lr=2e-4",
            *schedule(arguments.steps),
            "train.warmup_steps=50",
            "train.average_decay=0.99",
        ],
    )


def score(config: Config, folder: Path, weights: Path) -> Scores:
    """COCO metrics on the held-out images, as ``{"SET METRIC": value}``."""
    found = {}
    for name, (file, images) in IMAGES.items():
        data = Path(config.data.train.images).parents[1]
        test = DatasetConfig(annotations=file, images=str(data / images))
        tested = replace(config, data=replace(config.data, test=test))
        metrics = test_image(tested, weights, folder / f"{name}.json", devices=1)
        found |= {f"{name} {kind} {key}": metrics[kind][key] for kind, key in METRICS}
    return found


def report(scores: dict[str, list[Scores]], arguments: argparse.Namespace) -> None:
    """Print mean and standard deviation of every metric, in percent."""
    title = f"{arguments.steps} steps from {arguments.init}, {arguments.seeds} seeds"
    columns = [f"{name} {kind} {key}" for name in IMAGES for kind, key in METRICS]
    table = Table("", *columns, title=title)
    for name, runs in scores.items():
        table.add_row(
            name, *(mean_and_deviation([run[column] for run in runs]) for column in columns)
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
