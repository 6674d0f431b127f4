"""``queryinst-vis train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import Commands, add_command, add_config, add_devices


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "train",
        _run,
        "Train a model as a config says.",
        "Ctrl-C stops after the current step; --resume goes on from there, exactly.",
        "queryinst-vis train configs/local/tiny_coco.yaml --work-dir work/tiny_coco",
        "queryinst-vis train CONFIG train.max_steps=1000 --work-dir work/run --resume",
    )
    add_config(parser)
    parser.add_argument(
        "--work-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for weights, training state and logs",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the training state in --work-dir"
    )
    parser.add_argument(
        "--pretrained-backbone",
        action="store_true",
        help="let timm download the backbone's ImageNet weights; nothing is fetched without this",
    )
    add_devices(parser)


def _run(arguments: argparse.Namespace) -> None:
    from queryinst_vis.utils.allocator import keep_compiled_kernels, keep_freed_memory

    keep_freed_memory()
    keep_compiled_kernels()
    from queryinst_vis.config import load_config
    from queryinst_vis.training.train import train

    train(
        load_config(arguments.config, arguments.overrides),
        arguments.work_dir,
        resume=arguments.resume,
        devices=arguments.devices,
        nodes=arguments.nodes,
        pretrained_backbone=arguments.pretrained_backbone,
    )
