"""``queryinst-vis test-video`` and ``test-image``: result files from a config and weights."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from queryinst_vis.cli.arguments import (
    Commands,
    OutputFile,
    add_command,
    add_config,
    add_devices,
    count,
)


def add(commands: Commands) -> None:
    """Add both commands."""
    video = add_command(
        commands,
        "test-video",
        _run_video,
        "Run a video model on the videos of data.test and write a YouTube-VIS result file.",
        "Prints track AP if the set has annotations; --zip packs the results for upload.",
        "queryinst-vis test-video youtube_vis/queryinst_vis_r50_2019 "
        "work/vis/final.safetensors --out work/vis/results.json --zip work/vis/results.zip",
    )
    _add_arguments(video, batch=4, note="the same results, higher throughput")
    video.add_argument(
        "--zip", type=OutputFile, metavar="FILE", help="also write the results as a zip for upload"
    )
    image = add_command(
        commands,
        "test-image",
        _run_image,
        "Run a model on the images of data.test and write a COCO result file.",
        "Prints COCO mask and box AP if the set has annotations.",
        "queryinst-vis test-image local/tiny_coco "
        "work/tiny_coco/best.safetensors --out work/tiny_coco/results.json",
    )
    _add_arguments(
        image,
        batch=1,
        note="higher throughput on a GPU; images of different sizes are padded to a common size, "
        "which changes the results slightly",
    )


def _add_arguments(parser: argparse.ArgumentParser, batch: int, note: str) -> None:
    add_config(parser, weights=True)
    parser.add_argument(
        "--out", type=OutputFile, required=True, metavar="FILE", help="result JSON to write"
    )
    parser.add_argument(
        "--batch",
        type=count,
        default=batch,
        metavar="N",
        help=f"batch size: {note} (default: %(default)s)",
    )
    add_devices(parser)


def _run_video(arguments: argparse.Namespace) -> None:
    from queryinst_vis.training.evaluate import test_video

    _run(partial(test_video, zip_path=arguments.zip), arguments)


def _run_image(arguments: argparse.Namespace) -> None:
    from queryinst_vis.training.evaluate import test_image

    _run(test_image, arguments)


def _run(test: Callable[..., dict[str, Any] | None], arguments: argparse.Namespace) -> None:
    from lightning.fabric.utilities import rank_zero_only

    from queryinst_vis.config import load_config
    from queryinst_vis.utils.allocator import keep_freed_memory

    keep_freed_memory()
    metrics = test(
        load_config(arguments.config, arguments.overrides),
        arguments.weights,
        arguments.out,
        devices=arguments.devices,
        nodes=arguments.nodes,
        batch=arguments.batch,
    )
    rank_zero_only(_report)(arguments.out, metrics)  # once, not in every process


def _report(out: Path, metrics: dict[str, Any] | None) -> None:
    from queryinst_vis.evaluation.report import print_metrics

    print(f"wrote {out}")
    if metrics is None:
        print("not scored: the set has no annotations")
    else:
        print_metrics(metrics)
