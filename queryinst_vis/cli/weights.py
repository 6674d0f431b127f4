"""``queryinst-vis convert-checkpoint``, ``weights``, ``transfer-weights``, ``average-weights``."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from queryinst_vis.cli.arguments import CONFIG_HELP, Commands, OutputFile, add_command


def add(commands: Commands) -> None:
    """Add the commands."""
    _add_convert_checkpoint(commands)
    _add_weights(commands)
    _add_transfer_weights(commands)
    _add_average_weights(commands)


def _add_convert_checkpoint(commands: Commands) -> None:
    parser = add_command(
        commands,
        "convert-checkpoint",
        _run_convert_checkpoint,
        "Import weights of other projects, export to mmdetection, or strip for distribution.",
        "The direction follows from the file names. SRC.pth to DST.safetensors imports QueryInst\n"
        "from the official repository and from mmdetection 2 and 3 (ResNet, ResNeXt, Swin), the\n"
        "track head of MaskTrack R-CNN, mmtracking and mmdetection 3, and backbones of\n"
        "EfficientNet-PyTorch (Lite0 to Lite4); unexpected keys are listed. SRC.safetensors or\n"
        "SRC.ckpt to DST.pth exports to mmdetection 3; to DST.safetensors writes half precision\n"
        "without the parts needed only for training. No code in a file is executed.",
        "queryinst-vis convert-checkpoint queryinst_r50_mmdet.pth queryinst_r50.safetensors",
        "queryinst-vis convert-checkpoint work/run/best.safetensors for_mmdetection.pth",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="the checkpoint to read")
    parser.add_argument(
        "target", type=OutputFile, metavar="DST", help=".safetensors or .pth file to write"
    )


def _add_weights(commands: Commands) -> None:
    parser = add_command(
        commands,
        "weights",
        _run_weights,
        "List named weights, or download them in advance.",
        "A name can be used wherever weights are expected, and so can a URL of the Hugging Face\n"
        "Hub: hf://OWNER/NAME[/FILE][@REVISION].",
        "queryinst-vis weights",
        "queryinst-vis weights coco",
        "queryinst-vis weights hf://OWNER/NAME/model.safetensors@v1",
    )
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="print the path of these weights, downloaded if necessary",
    )


def _add_transfer_weights(commands: Commands) -> None:
    parser = add_command(
        commands,
        "transfer-weights",
        _run_transfer,
        "Initialise a model from the weights of another, such as a video model from COCO.",
        "Classes are matched by name, with a table of synonyms; new ones are initialised with the\n"
        "mean of the others or with one of them (--from). Other parts without a counterpart keep\n"
        "their initialisation. Prints what was transferred. Train with train.init_weights=DST.",
        "queryinst-vis transfer-weights queryinst_r50_100q_3x "
        "youtube_vis/queryinst_vis_r50_2019 work/start.safetensors --queries kmeans",
    )
    parser.add_argument("source", metavar="SRC", help="source weights: a name or a file")
    parser.add_argument("config", metavar="CONFIG", help=f"the target model: {CONFIG_HELP}")
    parser.add_argument("target", type=OutputFile, metavar="DST", help=".safetensors file to write")
    parser.add_argument(
        "--queries",
        default="first",
        metavar="RULE",
        help="which queries to keep if CONFIG has a different number: first, kmeans (one per "
        "cluster of embeddings), most_used (needs --calibrate), nearest (for each box of a grid, "
        "also if CONFIG has more) or reinitialise (none) (default: %(default)s)",
    )
    parser.add_argument(
        "--from",
        dest="new_classes_from",
        metavar="CLASS",
        help="class of SRC that initialises classes missing in SRC (default: "
        "train.init_new_classes_from of CONFIG, otherwise the mean of all classes of SRC)",
    )
    parser.add_argument(
        "--calibrate",
        nargs=2,
        metavar=("ANNOTATIONS", "IMAGES"),
        help="COCO or YouTube-VIS set for most_used",
    )
    parser.add_argument(
        "--fit-neck",
        nargs=2,
        metavar=("ANNOTATIONS", "IMAGES"),
        help="if CONFIG has another backbone: fit the FPN's lateral convolutions to SRC's on at "
        "most 300 images of this COCO or YouTube-VIS set, so that the heads keep working "
        "(set model.backbone.weights in CONFIG)",
    )


def _add_average_weights(commands: Commands) -> None:
    parser = add_command(
        commands,
        "average-weights",
        _run_average,
        "Average the weights of several training runs of one model.",
        "The mean of a model and of its fine-tuned successor is often better on both kinds of\n"
        "data (model soups). Parts that some files lack, such as a track head, are averaged over\n"
        "the others. The config is that of the last file, or of the last one with a track head.",
        "queryinst-vis average-weights work/people_image/final.safetensors "
        "work/people_pairs/final.safetensors work/people.safetensors",
    )
    parser.add_argument(
        "sources", nargs="+", metavar="SRC", help="two or more files, or names of weights"
    )
    parser.add_argument("target", type=OutputFile, metavar="DST", help=".safetensors file to write")


def _run_convert_checkpoint(arguments: argparse.Namespace) -> None:
    from queryinst_vis.checkpoints.convert import convert_checkpoint

    report = partial(print, file=sys.stderr)
    print(convert_checkpoint(arguments.source, arguments.target, report))


def _run_average(arguments: argparse.Namespace) -> None:
    from queryinst_vis.checkpoints.average import average_weights

    print(average_weights(arguments.sources, arguments.target))


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
        print(f"{name:28} bundled with the package\n    {file}")
    short = {name: f" (short: {alias})" for alias, name in SHORT_NAMES.items()}
    for name, checkpoint in CATALOGUE.items():
        file = cached_weights(name)
        place = file if file.is_file() else f"not downloaded yet: {checkpoint.url}"
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
        DatasetConfig(*arguments.fit_neck) if arguments.fit_neck else None,
    )
    print("\n".join(lines))
