"""``queryinst-vis export-onnx``."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import Commands, add_command, add_overrides, count, size


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "export-onnx",
        _run,
        "Write detector and embedding as an ONNX file of a fixed input size.",
        "The file holds its config and class names, and runs by itself in onnxruntime and other\n"
        "engines; docs/onnx.md describes inputs and outputs. Takes up to a minute, and the\n"
        "packages of: pip install 'queryinst-vis[onnx]'",
        "queryinst-vis export-onnx people --size 512x288 --output people.onnx",
        "queryinst-vis export-onnx work/vis/best.safetensors inference.score_threshold=0.3 "
        "--size 640x384 --batch 4 --output work/vis/best.onnx",
    )
    parser.add_argument(
        "weights",
        metavar="WEIGHTS",
        help="a .safetensors file, or a name that 'queryinst-vis weights' lists",
    )
    add_overrides(parser, "input.test_short=288; the file keeps them")
    parser.add_argument(
        "--size",
        type=size,
        required=True,
        metavar="WxH",
        help="width and height of the network input, in multiples of 32; frames are resized to "
        "fit into input.test_long x input.test_short and padded to this",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help=".onnx file to write"
    )
    parser.add_argument(
        "--batch",
        type=count,
        default=1,
        metavar="N",
        help="frames of one run (default: %(default)s)",
    )


def _run(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from queryinst_vis.checkpoints.load import load_model
    from queryinst_vis.inference.onnx_export import export_onnx

    model, config = load_model(arguments.weights, "cpu", arguments.overrides)
    width, height = arguments.size
    with Console(stderr=True).status("Exporting, up to a minute"):
        outputs = export_onnx(model, config, arguments.output, height, width, arguments.batch)
    megabytes = arguments.output.stat().st_size / 1e6
    print(
        f"wrote {arguments.output}: {arguments.batch} x {width}x{height} to "
        f"{', '.join(outputs)}, {megabytes:.1f} MB"
    )
