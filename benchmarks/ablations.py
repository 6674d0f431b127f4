"""The paper's ablations (Tables 4, 5 and 6) at a size that two CPU cores can train.

    python benchmarks/ablations.py --backbone work/efficientnet_lite0.safetensors

trains the nine distinct variants of the mask branch on synthetic videos for the same number of
steps, evaluates boxes and masks on the frames of the `bench` videos, evaluates every association
rule with the published variant, and prints means and standard deviations with the paper's numbers.
Interrupted runs are resumed; finished ones are not repeated.

All shapes are one class, since such short training does not learn to classify.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from ablation_runs import ablation_parser, mean_and_deviation, run_folder, schedule, train_and_score
from rich.progress import Progress
from scipy.stats import binomtest

from queryinst_vis.config import Config, load_config
from queryinst_vis.data.synthetic import PRESETS, generate
from queryinst_vis.tracking import RULES
from queryinst_vis.training.evaluate import test_image, test_video
from queryinst_vis.utils.files import read_json, write_json_atomically

CONFIG = Path(__file__).with_suffix(".yaml")
SETS = (("train", 1), ("bench", 2026))  # presets of the generator, and seeds


@dataclass(frozen=True)
class Variant:
    """One row of the tables: switches under ``model.mask``, and the paper's box and mask AP."""

    name: str
    switches: tuple[str, ...]
    tables: str
    box_ap: float
    mask_ap: float


PUBLISHED = Variant("queryinst", (), "4 5 6", 44.5, 39.8)
VANILLA_LAST = Variant("vanilla_last_stage", ("dynamic=false", "parallel=false"), "5", 43.5, 37.4)
VARIANTS = (
    PUBLISHED,
    VANILLA_LAST,
    Variant("vanilla", ("dynamic=false",), "4 5", 43.8, 37.9),
    Variant("dynamic_last_stage", ("parallel=false",), "5", 43.8, 38.8),
    Variant("vanilla_flow", ("dynamic=false", "flow=true"), "4", 43.8, 38.9),
    Variant("dynamic_flow", ("flow=true",), "4", 44.4, 40.0),
    Variant("separate_query", ("share_query=false",), "6", 43.9, 38.3),
    Variant("separate_attention", ("share_attention=false",), "6", 44.1, 39.5),
    Variant("separate_both", ("share_query=false", "share_attention=false"), "6", 43.4, 38.1),
)


@dataclass(frozen=True)
class Run:
    """One training run of one variant."""

    variant: Variant
    seed: int
    folder: Path
    steps: int
    backbone: str

    @property
    def scores(self) -> Path:
        """``{"box": AP, "mask": AP, RULE: track AP, ...}``; written last."""
        return self.folder / "scores.json"

    def config(self) -> Config:
        """The shared config with this run's switches."""
        return load_config(
            CONFIG,
            [
                *(f"model.mask.{switch}" for switch in self.variant.switches),
                f"model.backbone.weights={self.backbone}",
                *schedule(self.steps),
                f"seed={self.seed}",
            ],
        )


def main() -> None:
    """Prepare the data, train and evaluate the missing runs, and print the tables."""
    arguments = parse_arguments()
    os.environ["OMP_NUM_THREADS"] = "1"  # for child processes: one core each
    os.environ["ABLATIONS_DATA"] = str(arguments.work_dir / "data")
    prepare_data(arguments.work_dir / "data")
    runs = plan(arguments)
    missing = [run for run in runs if not run.scores.exists()]
    spawn = multiprocessing.get_context("spawn")
    with (
        Progress() as progress,
        ProcessPoolExecutor(arguments.jobs, spawn, max_tasks_per_child=1) as pool,
    ):
        done = len(runs) - len(missing)
        task = progress.add_task("runs", total=len(runs), completed=done)
        for _ in pool.map(train_and_score_logged, missing):
            progress.advance(task)
    print(report({run: read_json(run.scores, "scores") for run in runs}))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = ablation_parser(__doc__, "work/ablations")
    add = parser.add_argument
    add("--backbone", required=True, metavar="FILE", help="ImageNet weights (docs/weights.md)")
    add(
        "--paired-seeds",
        type=int,
        default=5,
        metavar="N",
        help="runs of the first and last row of Table 5 (default: 5)",
    )
    add("--jobs", type=int, default=2, metavar="N", help="concurrent runs (default: 2)")
    return parser.parse_args()


def plan(arguments: argparse.Namespace) -> list[Run]:
    """All runs, ordered by seed, so that an early stop leaves complete comparisons."""
    paired = (PUBLISHED, VANILLA_LAST)
    return [
        Run(
            variant,
            seed,
            run_folder(arguments.work_dir, arguments.steps, variant.name, seed),
            arguments.steps,
            arguments.backbone,
        )
        for seed in range(max(arguments.seeds, arguments.paired_seeds))
        for variant in VARIANTS
        if seed < (arguments.paired_seeds if variant in paired else arguments.seeds)
    ]


def prepare_data(folder: Path) -> None:
    """Render both sets once, and annotate all shapes as one class."""
    for name, seed in SETS:
        if not (folder / name).exists():
            generate(folder / name, PRESETS[name], seed)
        for kind in ("youtube_vis", "coco"):
            content = read_json(folder / name / f"{kind}.json", "annotations")
            content["categories"] = [{"id": 1, "name": "shape"}]
            for annotation in content["annotations"]:
                annotation["category_id"] = 1
            write_json_atomically(folder / f"{name}_{kind}.json", content)


def train_and_score_logged(run: Run) -> None:
    """Train and evaluate one run in a separate process, with its output in ``run.log``."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with (
        (run.folder / "run.log").open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        config = run.config()
        train_and_score(run.folder, config, lambda weights: score(run, config, weights))


def score(run: Run, config: Config, weights: Path) -> dict[str, float]:
    """Box and mask AP of the frames; track AP of every rule for the published variant."""
    frames = replace(
        config.data.test, annotations=f"{os.environ['ABLATIONS_DATA']}/bench_coco.json"
    )
    frame_config = replace(config, data=replace(config.data, test=frames))
    image = test_image(frame_config, weights, run.folder / "results_coco.json")
    scores = {"box": image["bbox"]["AP"], "mask": image["segm"]["AP"]} if image else {}
    for rule in RULES if run.variant == PUBLISHED else ():
        rule_config = replace(config, tracking=replace(config.tracking, rule=rule))
        video = test_video(rule_config, weights, run.folder / f"results_{rule}.json")
        scores[rule] = video["AP"] if video else 0.0
    return {"box": 0.0, "mask": 0.0} | scores


def report(scores: dict[Run, dict[str, float]]) -> str:
    """Markdown tables of variants (with the paper's values) and rules, and a sign test."""
    lines = [
        "| variant | tables | box AP | mask AP | mask AP difference to published | paper |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    base = mean(mask_aps(scores, PUBLISHED).values())
    for variant in VARIANTS:
        rows = [value for run, value in scores.items() if run.variant == variant]
        box, mask = (mean_and_deviation([row[kind] for row in rows]) for kind in ("box", "mask"))
        delta = 100 * (mean(mask_aps(scores, variant).values()) - base)
        paper = variant.mask_ap - PUBLISHED.mask_ap
        lines.append(
            f"| {variant.name} | {variant.tables} | {box} | {mask} | {delta:+.1f} | {paper:+.1f} |"
        )
    lines += ["", "| association rule | track AP |", "| --- | --- |"]
    published = [value for run, value in scores.items() if run.variant == PUBLISHED]
    lines += [
        f"| {rule} | {mean_and_deviation([row[rule] for row in published])} |" for rule in RULES
    ]
    return "\n".join([*lines, "", sign_test(scores)])


def mask_aps(scores: dict[Run, dict[str, float]], variant: Variant) -> dict[int, float]:
    """Mask AP by seed."""
    return {run.seed: value["mask"] for run, value in scores.items() if run.variant == variant}


def sign_test(scores: dict[Run, dict[str, float]]) -> str:
    """One-sided sign test over paired seeds: the published variant and the last row of Table 5."""
    published, last = mask_aps(scores, PUBLISHED), mask_aps(scores, VANILLA_LAST)
    differences = [published[seed] - last[seed] for seed in sorted(published.keys() & last.keys())]
    wins = sum(difference > 0 for difference in differences)
    decided = sum(difference != 0 for difference in differences)
    p = binomtest(wins, decided, alternative="greater").pvalue if decided else 1.0
    return (
        f"Table 5, mask AP: {PUBLISHED.name} is higher than {VANILLA_LAST.name} with {wins} of "
        f"{decided} seeds; one-sided sign test p = {p:.3f}."
    )


if __name__ == "__main__":
    main()
