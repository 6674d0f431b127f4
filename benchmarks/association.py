"""Association rules compared on the same detections.

    python benchmarks/association.py --weights people --out work/association/people.json
    python benchmarks/association.py --weights shapes --sets shapes_bench --rules masktrack query
    python benchmarks/association.py --sets mots_0005 --rules hungarian --set tracking.max_jump=1

Detections (scores from 0.05 on) are computed once for each weights file and set and kept in
``--cache``. Every rule then tracks them with every setting of its grid and every detection
threshold, as ``inference.score_threshold`` would, and is scored without any further threshold. The
tables show, for each rule, the setting of the highest IDF1 and, where it is another one, that of
the highest HOTA. Settings are chosen on the videos that they are scored on: the tables compare
rules with each other and are no estimate for other videos. ``--out`` holds every run.

The sets are made from QUERYINST_VIS_DATA/data, ``shapes_bench`` is rendered. Nothing is random.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from association_inputs import (
    MOTS_SETS,
    SETS,
    TestSet,
    detect_once,
    load_detections,
    make_set,
)
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from queryinst_vis.config import Config, apply_overrides
from queryinst_vis.engine.checkpoint import find_weights, load_weights
from queryinst_vis.engine.log import ProgressDisplay
from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import evaluate_tracking, evaluate_youtube_vis
from queryinst_vis.files import write_json_atomically
from queryinst_vis.results import youtube_vis_entries
from queryinst_vis.structures import VideoResult
from queryinst_vis.tracking import RULES, Tracker

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Detections of a lower score are not shown to the tracker."""

GRIDS: dict[str, tuple[str, ...]] = {
    "masktrack": ("", "max_jump=null", "max_jump=0.35", "max_jump=0.7", "iou_weight=5"),
    "hungarian": ("", "max_jump=null", "max_jump=0.35", "max_jump=0.7", "iou_weight=5"),
    "bisoftmax": ("", "max_jump=null", "max_jump=0.35", "max_jump=0.7"),
    "query": (
        "match_threshold=0.7",
        "match_threshold=0.8",
        "match_threshold=0.9",
        "match_threshold=0.8 max_jump=0.7",
        "match_threshold=0.9 max_jump=0.7",
    ),
}
"""``tracking`` keys to try with each rule, on top of the config in the weights, whose own values
come first. A rule without an entry runs with its defaults."""

CHOICES = ("IDF1", "HOTA")
"""Metrics by which a rule's best setting is chosen."""

COLUMNS = {
    "HOTA": "HOTA",
    "IDF1": "IDF1",
    "IDSW": "IDSW",
    "AP": "AP",
    "AP50": "AP50",
    "identities_per_object": "ids/object",
    "objects_per_identity": "objects/id",
    "objects_found": "found",
    "objects": "objects",
}
"""The metrics of the tables, and their headings."""

Row = dict[str, Any]
"""A run and its metrics, as ``--out`` has them."""


@dataclass(frozen=True)
class Run:
    """One rule with one setting on the detections in one set."""

    weights: str
    test_set: TestSet
    config: Config
    threshold: float
    setting: str
    detections: Path


def main() -> int:
    """Detect, track, score and print; 2 for what cannot be used."""
    arguments = parse_arguments()
    try:
        runs = [run for weights in arguments.weights for run in plan(arguments, weights)]
        rows = perform_all(runs, arguments.jobs)
        if arguments.out is not None:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            write_json_atomically(arguments.out, rows)
    except InputError as error:
        print(f"association.py: error: {error}", file=sys.stderr)
        return 2
    report(rows)
    return 0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", nargs="+", default=["people"], metavar="W", help="names or files")
    add("--sets", nargs="+", default=list(MOTS_SETS), metavar="SET", help=", ".join(SETS))
    add("--rules", nargs="+", metavar="RULE", help="default: all")
    add(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the config of every run; goes before the grid",
    )
    add("--thresholds", nargs="+", type=float, default=THRESHOLDS, metavar="T")
    add("--cache", type=Path, default=Path("work/association"), metavar="DIR")
    add("--out", type=Path, metavar="FILE.json", help="also write every run")
    add("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    return parser.parse_args()


def plan(arguments: argparse.Namespace, weights: str) -> list[Run]:
    """All runs with these weights; detects what the cache does not hold yet.

    Raises:
        InputError: weights, a set, a rule or an override cannot be used.
    """
    saved, _ = load_weights(find_weights(weights))
    base = apply_overrides(saved, arguments.overrides)
    rules = {rule: configs(base, rule, arguments.overrides) for rule in arguments.rules or RULES}
    runs = []
    for name in arguments.sets:
        test_set = make_set(name, arguments.cache)
        path = detect_once(weights, base, test_set, arguments.cache)
        runs += [
            Run(weights, test_set, config, threshold, setting, path)
            for settings in rules.values()
            for setting, config in settings.items()
            for threshold in arguments.thresholds
        ]
    return runs


def configs(base: Config, rule: str, overrides: list[str]) -> dict[str, Config]:
    """The configs to try with a rule, by the setting as tables show it, each once."""
    found: dict[str, Config] = {}
    for setting in GRIDS.get(rule, ("",)):
        keys = [f"tracking.{key}" for key in (f"rule={rule}", *setting.split())]
        config = apply_overrides(base, [*keys, *overrides])
        Tracker(config.tracking)  # refuses an unknown rule and values out of range
        if config not in found.values():
            found[setting] = config
    return found


def perform_all(runs: list[Run], jobs: int) -> list[Row]:
    """Perform the runs in processes of their own, in their order."""
    spawn = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(jobs, spawn) as pool,
        ProgressDisplay("tracking with every setting", len(runs)) as display,
    ):
        rows = []
        for row in pool.map(perform, runs):
            rows.append(row)
            display.advance(f"{row['rule']} on {row['set']}")
    return rows


def perform(run: Run) -> Row:
    """Track and score; metrics are pooled over classes."""
    torch.set_num_threads(1)
    gt, entries = run.test_set.annotations, track(run)
    tracking = evaluate_tracking(gt, entries)["detection_averaged"] if entries else {}
    precision = evaluate_youtube_vis(gt, entries) if entries else {}
    return {
        "weights": run.weights,
        "set": run.test_set.name,
        "rule": run.config.tracking.rule,
        "setting": run.setting,
        "threshold": run.threshold,
        "tracking": asdict(run.config.tracking),
        "metrics": {**tracking, **{name: precision.get(name) for name in ("AP", "AP50", "AP75")}},
    }


def track(run: Run) -> list[dict[str, Any]]:
    """The results of ``test-video`` with this rule, setting and score threshold."""
    tracker = Tracker(run.config.tracking)
    category_ids = run.test_set.open(run.config).category_ids
    entries = []
    for video, frames in load_detections(run.detections, tracker.embedding).items():
        tracker.reset()
        result = VideoResult()
        for detections in frames:
            result.add(tracker.update(detections[detections.scores >= run.threshold]))
        entries += youtube_vis_entries(result, video, category_ids)
    return entries


def report(rows: list[Row]) -> None:
    """A table for each weights file and set, and one of settings that are shared by all sets."""
    console = Console()
    for (weights, name), group in groupby(rows, lambda row: (row["weights"], row["set"])):
        table = make_table(f"{weights}, {name}")
        for choice, row in best_rows(list(group)):
            add_row(table, row, choice)
        console.print(table)
    for weights, group in groupby(rows, lambda row: row["weights"]):
        averaged = average_over_sets(list(group))
        if averaged:
            table = make_table(f"{weights}, one setting for all sets")
            for choice, row in best_rows(averaged):
                add_row(table, row, choice)
            console.print(table)


def average_over_sets(rows: list[Row]) -> list[Row]:
    """Each setting with its mean metrics over sets (counts too); nothing for a single set."""
    ...


if __name__ == "__main__":
    sys.exit(main())
