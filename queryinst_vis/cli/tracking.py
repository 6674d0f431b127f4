"""``queryinst-vis eval-tracking``."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import Commands, add_command


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "eval-tracking",
        _run,
        "HOTA, IDF1, MOTA (MOTSA) and identities per object of a YouTube-VIS result file.",
        "All are on masks; HOTA, IDF1 and MOTA are those of the package trackeval. Unlike AP,\n"
        "these metrics do not rank: a track of low score counts like any other, so choose a\n"
        "--threshold for results that were made for AP, and choose it on other videos than those\n"
        "that you report.",
        "queryinst-vis eval-tracking ground_truth.json results.json --threshold 0.5",
        "queryinst-vis eval-tracking ground_truth.json results.json --per-video --json scores.json",
    )
    parser.add_argument("ground_truth", type=Path, metavar="GT.json", help="annotated dataset")
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="result file")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers as JSON")
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="S",
        help="leave out tracks of a lower score (default: %(default)s)",
    )
    parser.add_argument(
        "--class-agnostic",
        action="store_true",
        help="compare tracks whatever their class, as if there were only one",
    )
    parser.add_argument("--per-video", action="store_true", help="also print tables by video")


def _run(arguments: argparse.Namespace) -> None:
    from queryinst_vis.evaluation.tracking_metrics import evaluate_tracking
    from queryinst_vis.evaluation.tracking_report import print_tracking
    from queryinst_vis.utils.files import write_json_atomically

    metrics = evaluate_tracking(
        arguments.ground_truth,
        arguments.results,
        threshold=arguments.threshold,
        class_agnostic=arguments.class_agnostic,
    )
    if arguments.json is not None:
        write_json_atomically(arguments.json, metrics)
    print_tracking(metrics, per_video=arguments.per_video)
