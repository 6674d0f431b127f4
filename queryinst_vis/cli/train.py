"""``queryinst-vis train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import (
    CONFIG_HELP,
    Commands,
    add_command,
    add_devices,
    add_overrides,
    add_run,
)
from queryinst_vis.errors import InputError


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "train",
        _run,
        "Train a model from a config.",
        "Ctrl-C stops after the current step; --resume continues exactly from there, with the\n"
        "settings of the run, or with those of CONFIG if given.",
        "queryinst-vis train local/tiny_coco --work-dir work/tiny_coco",
        "queryinst-vis train my.yaml train.epochs=12 train.patience=5 --work-dir work/run",
        "queryinst-vis train --work-dir work/run --resume",
    )
    parser.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG",
        help=f"{CONFIG_HELP}; optional with --resume",
    )
    add_overrides(parser, "train.max_steps=100")
    add_run(parser)
    parser.add_argument(
        "--pretrained-backbone",
        action="store_true",
        help="download ImageNet weights for the backbone with timm (default: no downloads)",
    )
    add_devices(parser)


def _run(arguments: argparse.Namespace) -> None:
    from queryinst_vis.utils.allocator import keep_compiled_kernels, keep_freed_memory

    keep_freed_memory()
    keep_compiled_kernels()
    from queryinst_vis.config import load_config
    from queryinst_vis.training.record import BaseConfig
    from queryinst_vis.training.train import train

    config, overrides = _split(arguments)
    if arguments.seed is not None:
        overrides.append(f"seed={arguments.seed}")
    base = None
    if Path(config) != arguments.work_dir / "config.yaml":
        base = BaseConfig(str(config), load_config(config))
    train(
        load_config(config, overrides),
        arguments.work_dir,
        resume=arguments.resume,
        devices=arguments.devices,
        nodes=arguments.nodes,
        pretrained_backbone=arguments.pretrained_backbone,
        base=base,
    )


def _split(arguments: argparse.Namespace) -> tuple[str | Path, list[str]]:
    """The config (with --resume by default that of the work dir), and the overrides.

    Raises:
        InputError: no config is given, and there is none in the work dir.
    """
    words = [word for word in (arguments.config, *arguments.overrides) if word is not None]
    if words and ("=" not in words[0] or Path(words[0]).is_file()):
        return words[0], words[1:]
    saved = arguments.work_dir / "config.yaml"
    if not arguments.resume:
        raise InputError("CONFIG is missing; see 'queryinst-vis train --help'")
    if not saved.is_file():
        raise InputError(f"work dir {arguments.work_dir}: contains no run to resume; give a CONFIG")
    return saved, words
