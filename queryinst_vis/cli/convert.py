"""``queryinst-vis convert-checkpoint``."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from queryinst_vis.cli.arguments import Commands, add_command


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "convert-checkpoint",
        _run_checkpoint,
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


def _run_checkpoint(arguments: argparse.Namespace) -> None:
    from queryinst_vis.checkpoints.convert import convert_checkpoint

    report = partial(print, file=sys.stderr)
    print(convert_checkpoint(arguments.source, arguments.target, report))
