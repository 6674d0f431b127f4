"""``queryinst-vis finetune``."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import (
    Commands,
    add_command,
    add_devices,
    add_overrides,
    add_run,
    add_weights,
    fraction,
)


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "finetune",
        _run,
        "Fine-tune weights on your own data.",
        "Classes come from the data, model and image sizes from the weights. Part of the data is\n"
        "held out for validation, the best weights are kept, and training stops when the score no\n"
        "longer improves. DIR/samples/ shows predictions, DIR/curves.png the training curves.",
        "queryinst-vis finetune people my_photos/ --work-dir work/mine",
        "queryinst-vis finetune people data.json --images photos/ --work-dir work/mine "
        "train.epochs=20",
        "queryinst-vis finetune people yolo/data.yaml --work-dir work/mine train.lr=1e-4",
        "queryinst-vis track street.mp4 --weights work/mine/best.safetensors",
    )
    add_weights(parser)
    parser.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="COCO or YouTube-VIS JSON, YOLO's data.yaml, or a folder of labelme, CVAT, YOLO or "
        "Pascal VOC files",
    )
    add_overrides(parser, "train.epochs=20")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of the images (default: as given by the annotations)",
    )
    parser.add_argument(
        "--videos",
        action="store_true",
        help="treat folders of labelme files as videos, with label and group_id as identity "
        "(default: single images)",
    )
    parser.add_argument(
        "--val", type=Path, metavar="DATA", help="validation set (default: part of DATA)"
    )
    parser.add_argument("--val-images", type=Path, metavar="DIR", help="folder of --val's images")
    parser.add_argument(
        "--held-out",
        type=fraction,
        metavar="F",
        help="fraction of the data held out for validation, selected by a hash of the names "
        "(default: 0.2 for fewer than 500 images, otherwise 0.1; 0: none); also replaces the "
        "validation set of DATA, if any",
    )
    add_run(parser)
    add_devices(parser)


def _run(arguments: argparse.Namespace) -> None:
    from queryinst_vis.utils.allocator import keep_compiled_kernels, keep_freed_memory

    keep_freed_memory()
    keep_compiled_kernels()
    from queryinst_vis.config import load_config
    from queryinst_vis.data.convert.own_data import read_own_data
    from queryinst_vis.errors import InputError
    from queryinst_vis.training.finetune import finetune
    from queryinst_vis.training.train import train

    overrides, work_dir = arguments.overrides, arguments.work_dir
    if arguments.seed is not None:
        overrides = [*overrides, f"seed={arguments.seed}"]
    if arguments.resume and (work_dir / "config.yaml").exists():
        config = load_config(work_dir / "config.yaml", overrides)
        train(config, work_dir, True, arguments.devices, arguments.nodes)
        return
    if arguments.val is None and arguments.val_images is not None:
        raise InputError("--val-images: give the annotations of these images with --val")
    data = read_own_data(arguments.data, arguments.images, arguments.videos)
    validation = None
    if arguments.val is not None:
        validation = read_own_data(arguments.val, arguments.val_images, arguments.videos)
    finetune(
        arguments.weights,
        data,
        work_dir,
        overrides,
        validation,
        arguments.held_out,
        arguments.devices,
        arguments.nodes,
    )
    print(f"next: queryinst-vis track VIDEO --weights {_best(work_dir)}")


def _best(work_dir: Path) -> Path:
    """The weights to use: the best ones, or the final ones without validation."""
    best = work_dir / "best.safetensors"
    return best if best.exists() else work_dir / "final.safetensors"
