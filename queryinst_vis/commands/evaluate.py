"""``queryinst-vis eval-video`` and ``eval-image``: scores from two files, without a network."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from queryinst_vis.commands.arguments import Commands, add_command


def add(commands: Commands) -> None:
    """Add both commands."""
    video = add_command(
        commands,
        "eval-video",
        _run_video,
        "Score a YouTube-VIS result file against its ground truth.",
        "The numbers are those of the YouTube-VIS API, digit for digit.",
        "queryinst-vis eval-video ground_truth.json results.json --json scores.json",
    )
    _add_arguments(video)
    image = add_command(
        commands,
        "eval-image",
        _run_image,
        "Score a COCO result file against its ground truth.",
        "Mask AP and box AP as COCO defines them.",
        "queryinst-vis eval-image instances_val2017.json results.json --json scores.json",
    )
    _add_arguments(image)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ground_truth", type=Path, metavar="GT.json", help="annotated dataset")
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="result file")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the numbers as JSON")


def _run_video(arguments: argparse.Namespace) -> None:
    from queryinst_vis.evaluation import evaluate_youtube_vis

    _score(arguments, evaluate_youtube_vis)


def _run_image(arguments: argparse.Namespace) -> None:
    from queryinst_vis.evaluation import evaluate_coco

    _score(arguments, evaluate_coco)


def _score(arguments: argparse.Namespace, evaluate: Callable[[Path, Path], dict[str, Any]]) -> None:
    from queryinst_vis.evaluation.report import print_metrics
    from queryinst_vis.files import write_json_atomically

    metrics = evaluate(arguments.ground_truth, arguments.results)
    if arguments.json is not None:
        write_json_atomically(arguments.json, metrics)
    print_metrics(metrics)
