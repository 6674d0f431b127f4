"""``queryinst-vis convert-checkpoint``, ``weights``, ``transfer-weights`` and ``export-onnx``."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from queryinst_vis.cli.arguments import (
    CONFIG_HELP,
    Commands,
    add_command,
    add_overrides,
    add_weights,
    count,
    size,
)


def add(commands: Commands) -> None:
    """Add the four commands."""
    _add_convert_checkpoint(commands)
    _add_weights(commands)
    _add_transfer_weights(commands)
    _add_export_onnx(commands)


def _add_convert_checkpoint(commands: Commands) -> None:
    parser = add_command(
        commands,
        "convert-checkpoint",
        _run_convert_checkpoint,
        "Bring other projects' weights into our names, ours into mmdetection's, or slim down ours.",
        "The file names say what is wanted. Other projects' SRC.pth to DST.safetensors: QueryInst\n"
        "of the official repository and of mmdetection 2 and 3 (ResNet, ResNeXt, Swin), the track\n"
        "head of MaskTrack R-CNN, mmtracking and mmdetection 3, and the backbone of\n"
        "efficientnet-lite0-pytorch; keys that have no place in our model are listed. Our\n"
        "SRC.safetensors or SRC.ckpt to DST.pth: for mmdetection 3; to DST.safetensors: in half\n"
        "precision without what only training needs. Nothing in a file is executed.",
        "queryinst-vis convert-checkpoint queryinst_r50_mmdet.pth queryinst_r50.safetensors",
        "queryinst-vis convert-checkpoint work/run/best.safetensors for_mmdetection.pth",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="the checkpoint to read")
    parser.add_argument(
        "target", type=Path, metavar="DST", help=".safetensors or .pth file to write"
    )


def _add_weights(commands: Commands) -> None:
    parser = add_command(
        commands,
        "weights",
        _run_weights,
        "List the weights that have names, or fetch some of them ahead of their use.",
        "Wherever weights are asked for, a name does as well as a file, and so does an address of\n"
        "the Hugging Face Hub: hf://OWNER/NAME[/FILE][@REVISION].",
        "queryinst-vis weights",
        "queryinst-vis weights coco",
        "queryinst-vis weights hf://OWNER/NAME/model.safetensors@v1",
    )
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="print the file of these weights, fetched if need be",
    )


def _add_transfer_weights(commands: Commands) -> None:
    parser = add_command(
        commands,
        "transfer-weights",
        _run_transfer,
        "Make weights for one model out of another's, such as video weights out of COCO's.",
        "Classes are matched by name, through a table of synonyms; new ones start from the mean of "
        "the others or from one of them (--from). Whatever else has no counterpart keeps its "
        "initialisation. What was taken is printed. Train with train.init_weights=DST.",
        "queryinst-vis transfer-weights queryinst_r50_100q_3x "
        "youtube_vis/queryinst_vis_r50_2019 work/start.safetensors --queries kmeans",
    )
    parser.add_argument("source", metavar="SRC", help="weights to start from: a name or a file")
    parser.add_argument(
        "config", metavar="CONFIG", help=f"the model that they are for: {CONFIG_HELP}"
    )
    parser.add_argument("target", type=Path, metavar="DST", help=".safetensors file to write")
    parser.add_argument(
        "--queries",
        default="first",
        metavar="RULE",
        help="which queries to keep where CONFIG has another number of them: first, kmeans (one of "
        "each cluster of embeddings), most_used (needs --calibrate) or reinitialise, none "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--from",
        dest="new_classes_from",
        metavar="CLASS",
        help="class of SRC whose rows classes that SRC does not know start from (default: "
        "train.init_new_classes_from of CONFIG, else the mean of all classes of SRC)",
    )
    parser.add_argument(
        "--calibrate",
        nargs=2,
        metavar=("ANNOTATIONS", "IMAGES"),
        help="COCO or YouTube-VIS set in which most_used looks at the queries",
    )


def _add_export_onnx(commands: Commands) -> None:
    parser = add_command(
        commands,
        "export-onnx",
        _run_export_onnx,
        "Write detector and embedding as an ONNX file of a fixed input size.",
        "The file holds its config and class names, and runs by itself in onnxruntime and other\n"
        "engines; docs/onnx.md describes inputs and outputs. Takes up to a minute, and the\n"
        "packages of: pip install 'queryinst-vis[onnx]'",
        "queryinst-vis export-onnx people --size 512x288 --output people.onnx",
        "queryinst-vis export-onnx work/vis/best.safetensors inference.score_threshold=0.3 "
        "--size 640x384 --batch 4 --output work/vis/best.onnx",
    )
    add_weights(parser)
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


def _run_convert_checkpoint(arguments: argparse.Namespace) -> None:
    from queryinst_vis.checkpoints.convert import convert_checkpoint

    report = partial(print, file=sys.stderr)
    print(convert_checkpoint(arguments.source, arguments.target, report))


def _run_weights(arguments: argparse.Namespace) -> None:
    from queryinst_vis.checkpoints.catalogue import (
        CATALOGUE,
        SHORT_NAMES,
        cached_weights,
        find_weights,
        shipped_weights,
    )
    from queryinst_vis.utils.plugins import DETECTORS, installed

    if arguments.name is not None:
        print(find_weights(arguments.name))
        return
    for name, file in shipped_weights().items():
        print(f"{name:28} ships with the package\n    {file}")
    short = {name: f" (short: {alias})" for alias, name in SHORT_NAMES.items()}
    for name, checkpoint in CATALOGUE.items():
        file = cached_weights(name)
        place = file if file.is_file() else f"not fetched yet: {checkpoint.url}"
        print(f"{name:28} {checkpoint.label_set}, {checkpoint.summary}{short.get(name, '')}")
        print(f"    licence: {checkpoint.licence}\n    {place}")
    for name in installed(DETECTORS):
        print(f"{name + ':ARGUMENT':28} detector of an installed package, for 'track'")


def _run_transfer(arguments: argparse.Namespace) -> None:
    from queryinst_vis.checkpoints.transfer import transfer_checkpoint
    from queryinst_vis.config import DatasetConfig, load_config

    calibration = DatasetConfig(*arguments.calibrate) if arguments.calibrate else None
    lines = transfer_checkpoint(
        arguments.source,
        load_config(arguments.config),
        arguments.target,
        arguments.queries,
        calibration,
        arguments.new_classes_from,
    )
    print("\n".join(lines))


def _run_export_onnx(arguments: argparse.Namespace) -> None:
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
