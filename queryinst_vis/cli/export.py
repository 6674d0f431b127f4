"""``queryinst-vis export-onnx`` and ``export-openvino``: models for other engines."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import (
    Commands,
    OutputFile,
    add_command,
    add_overrides,
    add_weights,
    count,
    size,
)

CALIBRATION_FRAMES = 100


def add(commands: Commands) -> None:
    """Add both commands."""
    onnx = add_command(
        commands,
        "export-onnx",
        _run_onnx,
        "Export detector and track embeddings as an ONNX file with a fixed input size.",
        "The file contains the config and class names and runs in onnxruntime and other engines;\n"
        "docs/onnx.md describes inputs and outputs. Takes up to a minute and requires\n"
        "pip install 'queryinst-vis[onnx]'",
        "queryinst-vis export-onnx people --size 512x288 --output people.onnx",
        "queryinst-vis export-onnx work/vis/best.safetensors inference.score_threshold=0.3 "
        "--size 640x384 --batch 4 --output work/vis/best.onnx",
    )
    _add_arguments(onnx, ".onnx file to write")
    openvino = add_command(
        commands,
        "export-openvino",
        _run_openvino,
        "Export detector and track embeddings for OpenVINO, the fastest runtime on CPUs.",
        "Writes NAME.xml (graph, config and class names) and NAME.bin (weights), for use as\n"
        "--weights NAME.xml. --int8 is faster on CPUs with VNNI or AMX instructions;\n"
        "docs/openvino.md gives the loss of accuracy. Takes about a minute, longer with --int8.\n"
        "Requires: pip install 'queryinst-vis[openvino]'. No usage statistics are sent.",
        "queryinst-vis export-openvino people --size 512x288 --output people.xml",
        "queryinst-vis export-openvino people --size 512x288 --output people_int8.xml "
        "--int8 street.mp4 square.mp4",
    )
    _add_arguments(openvino, ".xml file to write, together with a .bin file")
    openvino.add_argument(
        "--int8",
        nargs="+",
        metavar="SOURCE",
        help="quantize to int8, calibrated on frames similar to those of the application: videos, "
        "images, folders or globs of images, or ANNOTATIONS.json IMAGES of a data set (default: "
        "float32)",
    )
    openvino.add_argument(
        "--frames",
        type=count,
        metavar="N",
        help="with --int8: number of calibration frames, sampled evenly (default: "
        f"{CALIBRATION_FRAMES})",
    )


def _add_arguments(parser: argparse.ArgumentParser, output: str) -> None:
    add_weights(parser)
    add_overrides(parser, "input.test_short=288; they are stored in the file")
    parser.add_argument(
        "--size",
        type=size,
        required=True,
        metavar="WxH",
        help="width and height of the network input, in multiples of 32; frames are resized to "
        "fit into input.test_long x input.test_short and padded to this",
    )
    parser.add_argument("--output", type=OutputFile, required=True, metavar="FILE", help=output)
    parser.add_argument(
        "--batch",
        type=count,
        default=1,
        metavar="N",
        help="batch size (default: %(default)s)",
    )


def _run_onnx(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from queryinst_vis.checkpoints.load import load_model
    from queryinst_vis.inference.onnx_export import export_onnx

    model, config = load_model(arguments.weights, "cpu", arguments.overrides)
    width, height = arguments.size
    with Console(stderr=True).status("Exporting, up to a minute"):
        outputs = export_onnx(model, config, arguments.output, height, width, arguments.batch)
    _report(arguments, outputs, arguments.output)


def _run_openvino(arguments: argparse.Namespace) -> None:
    from queryinst_vis.checkpoints.load import load_model
    from queryinst_vis.errors import InputError
    from queryinst_vis.inference.calibration import calibration_frames
    from queryinst_vis.inference.openvino_export import export_openvino

    if arguments.frames is not None and not arguments.int8:
        raise InputError("--frames: only used with --int8")
    model, config = load_model(arguments.weights, "cpu", arguments.overrides)
    width, height = arguments.size
    calibration = None
    if arguments.int8:
        frames = arguments.frames or CALIBRATION_FRAMES
        calibration = calibration_frames(arguments.int8, config.model.classes, frames)
    outputs = export_openvino(
        model, config, arguments.output, height, width, arguments.batch, calibration
    )
    _report(arguments, outputs, arguments.output, arguments.output.with_suffix(".bin"))


def _report(arguments: argparse.Namespace, outputs: list[str], *files: Path) -> None:
    width, height = arguments.size
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    print(
        f"wrote {' and '.join(map(str, files))}: {arguments.batch} x {width}x{height} to "
        f"{', '.join(outputs)}, {megabytes:.1f} MB"
    )
