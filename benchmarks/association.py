"""Association rules compared on the same detections.

    python benchmarks/association.py --weights people --out work/association/people.json
    python benchmarks/association.py --weights shapes --sets shapes_bench --rules masktrack query
    python benchmarks/association.py --sets mots_0005 --rules hungarian --set tracking.max_jump=1

Detections (scores of at least 0.05) are computed once per weights file and set, and stored in
``--cache``. Every rule is run with every setting of its grid and every detection threshold (as
``inference.score_threshold``). By default all tracks are evaluated; ``--track-thresholds`` drops
tracks with a lower mean score from all metrics except AP, like ``eval-tracking --threshold``. The
tables show the settings of each rule with the highest IDF1, HOTA and track AP. Since these are
chosen on the same videos, the tables compare rules but do not predict results on other videos.
``--out`` contains every run.

The sets are made from QUERYINST_VIS_DATA/data; ``shapes_bench`` is rendered. Everything is
deterministic.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from association_inputs import (
    HELD_OUT,
    LOWEST_SCORE,
    SETS,
    TestSet,
    detect_once,
    load_detections,
    make_set,
)
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from queryinst_vis.checkpoints.catalogue import find_weights
from queryinst_vis.checkpoints.weights import load_weights
from queryinst_vis.config import Config, apply_overrides
from queryinst_vis.errors import InputError, run_script
from queryinst_vis.evaluation import evaluate_tracking, evaluate_youtube_vis
from queryinst_vis.evaluation.coverage import RATIOS
from queryinst_vis.evaluation.tracking_metrics import COUNTS
from queryinst_vis.formats.results import youtube_vis_entries
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.result import store
from queryinst_vis.tracking import RULES, Tracker
from queryinst_vis.utils.files import write_json_atomically
from queryinst_vis.utils.progress import ProgressBar

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Minimum scores of detections for the tracker."""

MOTION_GRID = (
    "",
    "high_score=0.3",
    "high_score=0.4",
    "high_score=0.5",
    "high_score=0.4 match_threshold=0.2",
    "high_score=0.4 expire_after=30",
    "high_score=0.4 min_hits=2",
)
GRIDS: dict[str, tuple[str, ...]] = {
    "masktrack": (
        "",
        "max_jump=null",
        "max_jump=0.2",
        "max_jump=0.35",
        "max_jump=0.7",
        "iou_weight=5",
        "iou_weight=5 max_jump=0.35",
    ),
    "hungarian": ("", "max_jump=null", "max_jump=0.35", "max_jump=0.7", "iou_weight=5"),
    "bisoftmax": ("", "max_jump=null", "max_jump=0.35", "max_jump=0.7"),
    "query": (
        "match_threshold=0.7",
        "match_threshold=0.8",
        "match_threshold=0.9",
        "match_threshold=0.8 max_jump=0.7",
        "match_threshold=0.9 max_jump=0.7",
    ),
    "bytetrack": MOTION_GRID,
    "ocsort": MOTION_GRID,
    "fused": tuple(
        f"high_score={high} {more}".strip()
        for high in (0.3, 0.4, 0.5)
        for more in ("", "min_hits=2", "fused.bias=-2", "fused.bias=-4")
    ),
}
"""Overrides of ``tracking`` keys to try with each rule; "" is the config in the weights, which is
also that of rules without an entry."""

CRITERIA = ("IDF1", "HOTA", "AP")
"""Metrics for choosing settings; low-score tracks increase AP and decrease the others."""

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
"""Metrics in the tables, and their headings."""

WIDTH = 165
"""Width of the tables if the output is not a terminal."""

Row = dict[str, Any]
"""A run and its metrics, as in ``--out``."""


@dataclass(frozen=True)
class Run:
    """One rule with one setting on the detections in one set."""

    weights: str
    test_set: TestSet
    config: Config
    threshold: float
    setting: str
    detections: Path
    track_thresholds: tuple[float, ...] = (0.0,)


def main() -> None:
    """Detect, track, evaluate and print."""
    arguments = parse_arguments()
    runs = [run for weights in arguments.weights for run in plan(arguments, weights)]
    rows = run_all(runs, arguments.jobs)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomically(arguments.out, rows)
    report(rows)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", nargs="+", default=["people"], metavar="W", help="names or files")
    add("--sets", nargs="+", default=list(HELD_OUT), metavar="SET", help=", ".join(SETS))
    add("--rules", nargs="+", metavar="RULE", help="default: all")
    add(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override config keys of every run, including those of the grid",
    )
    add("--thresholds", nargs="+", type=float, default=THRESHOLDS, metavar="T")
    add("--track-thresholds", nargs="+", type=float, default=[0.0], metavar="S")
    add("--cache", type=Path, default=Path("work/association"), metavar="DIR")
    add("--out", type=Path, metavar="FILE.json", help="also write every run")
    add("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    return parser.parse_args()


def plan(arguments: argparse.Namespace, weights: str) -> list[Run]:
    """All runs with these weights; computes detections that are not cached.

    Raises:
        InputError: invalid weights, set, rule or override.
    """
    if min(arguments.thresholds) < LOWEST_SCORE:
        raise InputError(f"--thresholds: must be at least {LOWEST_SCORE}, the minimum of the cache")
    saved, _ = load_weights(find_weights(weights))
    base = apply_overrides(saved, arguments.overrides)
    rules = {rule: configs(base, rule, arguments.overrides) for rule in arguments.rules or RULES}
    runs, track_thresholds = [], tuple(arguments.track_thresholds)
    for name in arguments.sets:
        test_set = make_set(name, arguments.cache)
        path = detect_once(weights, base, test_set, arguments.cache)
        runs += [
            Run(weights, test_set, config, threshold, setting, path, track_thresholds)
            for settings in rules.values()
            for setting, config in settings.items()
            for threshold in arguments.thresholds
        ]
    return runs


def configs(base: Config, rule: str, overrides: list[str]) -> dict[str, Config]:
    """The distinct configs to try with a rule, by setting as shown in tables."""
    by_setting: dict[str, Config] = {}
    for setting in GRIDS.get(rule, ("",)):
        keys = [f"tracking.{key}" for key in (f"rule={rule}", *setting.split())]
        config = apply_overrides(base, [*keys, *overrides])
        Tracker(config.tracking)  # rejects unknown rules and invalid values
        if config not in by_setting.values():
            by_setting[setting] = config
    return by_setting


def run_all(runs: list[Run], jobs: int) -> list[Row]:
    """Track and evaluate in separate processes; the rows are in the order of the runs."""
    spawn = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(jobs, spawn) as pool,
        ProgressBar("tracking with every setting", len(runs)) as progress,
    ):
        rows = []
        for run_rows in pool.map(track_and_evaluate, runs):
            rows += run_rows
            progress.advance(note=f"{run_rows[0]['rule']} on {run_rows[0]['set']}")
    return rows


def track_and_evaluate(run: Run) -> list[Row]:
    """Track and evaluate: one row per track threshold."""
    torch.set_num_threads(1)
    entries = track(run)
    shared = {
        "weights": run.weights,
        "set": run.test_set.name,
        "rule": run.config.tracking.rule,
        "setting": run.setting,
        "threshold": run.threshold,
        "tracking": asdict(run.config.tracking),
    }
    with (
        open(os.devnull, "w") as devnull,
        contextlib.redirect_stderr(devnull),
    ):  # their progress bars
        metrics = score(run.test_set.annotations, entries, run.track_thresholds)
        return [
            {**shared, "track_threshold": minimum, "metrics": each} for minimum, each in metrics
        ]


def score(
    gt: Path, entries: list[dict[str, Any]], track_thresholds: Iterable[float]
) -> Iterator[tuple[float, dict[str, float | None]]]:
    """Tracking metrics at each track threshold, pooled over classes, and AP of all tracks."""
    undefined = (*COUNTS, *RATIOS)
    nothing = {name: None if name in undefined else 0.0 for name in COLUMNS}
    precision = evaluate_youtube_vis(gt, entries) if entries else nothing
    for minimum in track_thresholds:
        tracking = nothing
        if entries:
            tracking = evaluate_tracking(gt, entries, threshold=minimum)["detection_averaged"]
        yield minimum, {**tracking, "AP": precision["AP"], "AP50": precision["AP50"]}


def track(run: Run) -> list[dict[str, Any]]:
    """The results of ``test-video`` with this rule, setting and score threshold."""
    tracker = Tracker(run.config.tracking)
    category_ids = run.test_set.open(run.config).category_ids
    entries = []
    for video, frames in load_detections(
        run.detections, tracker.embedding, run.config.inference
    ).items():
        tracker.reset()
        with TrackStore() as tracks:
            for detections in frames:
                store(tracks, tracker.update(detections[detections.scores >= run.threshold]))
            entries += youtube_vis_entries(tracks, video, category_ids)
    return entries


def report(rows: list[Row]) -> None:
    """Print a table per weights file and set, and one of the best settings for all sets."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for weights, weights_rows in groupby(rows, itemgetter("weights")):
        group = list(weights_rows)
        tables = {name: list(set_rows) for name, set_rows in groupby(group, itemgetter("set"))}
        if len(tables) > 1:
            tables["one setting for all sets"] = pool_sets(group)
        for name, table_rows in tables.items():
            console.print(make_table(f"{weights}, {name}", table_rows))


def pool_sets(rows: list[Row]) -> list[Row]:
    """One row per setting: counts summed over the sets, other metrics averaged."""
    runs: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        runs[row["rule"], row["setting"], row["threshold"], row["track_threshold"]].append(row)
    return [
        {**setting_rows[0], "metrics": {name: pool_metric(name, setting_rows) for name in COLUMNS}}
        for setting_rows in runs.values()
    ]


def pool_metric(name: str, rows: list[Row]) -> float | None:
    """Pool the values of the sets in which the metric is defined."""
    values = [row["metrics"][name] for row in rows if row["metrics"][name] is not None]
    if not values:
        return None
    return sum(values) if name in COUNTS else mean(values)


def make_table(title: str, rows: list[Row]) -> Table:
    """A table of the best settings of each rule."""
    names = (Column(heading, justify="right") for heading in COLUMNS.values())
    table = Table("rule", "best", "score", "track score", "setting", *names, title=escape(title))
    for rule, rule_rows in groupby(rows, itemgetter("rule")):
        for criteria, row in best_rows(list(rule_rows)):
            limits = (f"{row[name]:g}" for name in ("threshold", "track_threshold"))
            cells = (rule, criteria, *limits, row["setting"] or "default")
            table.add_row(*map(escape, cells), *(text(row["metrics"], name) for name in COLUMNS))
    return table


def best_rows(rows: list[Row]) -> list[tuple[str, Row]]:
    """The best row for each metric of ``CRITERIA``; metrics with the same row are grouped."""
    best: dict[int, list[str]] = defaultdict(list)
    for name in CRITERIA:
        values = [row["metrics"][name] for row in rows]
        best[values.index(max(values))].append(name)
    return [(", ".join(names), rows[index]) for index, names in best.items()]


def text(metrics: dict[str, float | None], name: str) -> str:
    """A fraction in percent, a count or ratio unchanged, a dash if undefined."""
    value = metrics[name]
    if value is None:
        return "-"
    if name in COUNTS:
        return str(value)
    return f"{value:.2f}" if name in RATIOS else f"{100 * value:.1f}"


if __name__ == "__main__":
    run_script(main)
