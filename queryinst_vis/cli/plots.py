"""``queryinst-vis plot-mask-features`` and ``plot-speed``: figures of the paper."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import (
    Commands,
    OutputFile,
    add_command,
    add_device,
    count,
    fraction,
)


def add(commands: Commands) -> None:
    """Add both commands."""
    features = add_command(
        commands,
        "plot-mask-features",
        _run_mask_features,
        "Plot the mask features of an image's instances before and after DynConv (Fig. 4).",
        "Shows how queries change the features of their instances.",
        "queryinst-vis plot-mask-features street.jpg --out out/features.png",
        "queryinst-vis plot-mask-features shapes.jpg --weights shapes --max 4 "
        "--out out/features.png",
    )
    features.add_argument("image", type=Path, metavar="IMAGE", help="an image file")
    features.add_argument(
        "--weights",
        default="people",
        metavar="NAME|FILE",
        help="name of bundled weights, or a .safetensors file (default: %(default)s)",
    )
    features.add_argument(
        "--max",
        dest="max_instances",
        type=count,
        default=6,
        metavar="N",
        help="number of instances, by score (default: %(default)s)",
    )
    features.add_argument(
        "--score-threshold",
        type=fraction,
        default=0.3,
        metavar="P",
        help="score threshold, 0..1 (default: %(default)s)",
    )
    add_device(features)
    _add_out(features)
    speed = add_command(
        commands,
        "plot-speed",
        _run_speed,
        "Plot AP against frames per second from benchmark files (Fig. 1).",
        "A benchmark file is a JSON object with name, fps and AP (0 to 1), and optionally group\n"
        "(points of a group are connected) and device (shown as the marker).",
        "queryinst-vis plot-speed benchmarks/paper_table3/*.json --out out/speed.png",
    )
    speed.add_argument(
        "files", type=Path, nargs="+", metavar="FILE.json", help="benchmark files, one per point"
    )
    _add_out(speed)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=_png, required=True, metavar="FILE.png", help="the image to write"
    )


def _png(text: str) -> Path:
    """A file name that ends in .png."""
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"expected the name of a .png file, got '{text}'")
    return OutputFile(text)


def _run_mask_features(arguments: argparse.Namespace) -> None:
    from queryinst_vis.inference.mask_features import plot_mask_features

    drawn = plot_mask_features(
        arguments.image,
        arguments.out,
        arguments.weights,
        max_instances=arguments.max_instances,
        score_threshold=arguments.score_threshold,
        device=arguments.device,
    )
    print(f"wrote {arguments.out}: {drawn} {'instance' if drawn == 1 else 'instances'}")


def _run_speed(arguments: argparse.Namespace) -> None:
    from queryinst_vis.visualization.speed_plot import draw_speed_plot, read_speed_point

    points = [read_speed_point(file) for file in arguments.files]
    draw_speed_plot(points, arguments.out)
    print(f"wrote {arguments.out}: {len(points)} {'point' if len(points) == 1 else 'points'}")
