"""``queryinst-vis weights`` and ``transfer-weights``."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import Commands, add_command


def add(commands: Commands) -> None:
    """Add both commands."""
    listing = add_command(
        commands,
        "weights",
        _run_weights,
        "List the weights that have names, or fetch some of them ahead of their use.",
        "Wherever weights are asked for, a name does as well as a file.",
        "queryinst-vis weights",
        "queryinst-vis weights queryinst_r50_100q_3x",
    )
    listing.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="print the file of these weights, fetched if need be",
    )
    transfer = add_command(
        commands,
        "transfer-weights",
        _run_transfer,
        "Make weights for one model out of another's, such as video weights out of COCO's.",
        "Classes are matched by name, through a table of synonyms; new ones start from the mean of "
        "the others or from one of them (--from). Whatever else has no counterpart keeps its "
        "initialisation. What was taken is printed. Train with train.init_weights=DST.",
        "queryinst-vis transfer-weights queryinst_r50_100q_3x "
        "configs/youtube_vis/queryinst_vis_r50_2019.yaml work/start.safetensors --queries kmeans",
    )
    transfer.add_argument("source", metavar="SRC", help="weights to start from: a name or a file")
    transfer.add_argument(
        "config", type=Path, metavar="CONFIG", help="YAML file of the model that they are for"
    )
    transfer.add_argument("target", type=Path, metavar="DST", help=".safetensors file to write")
    transfer.add_argument(
        "--queries",
        default="first",
        metavar="RULE",
        help="which queries to keep where CONFIG has another number of them: first, kmeans (one of "
        "each cluster of embeddings), most_used (needs --calibrate) or reinitialise, none "
        "(default: %(default)s)",
    )
    transfer.add_argument(
        "--from",
        dest="new_classes_from",
        metavar="CLASS",
        help="class of SRC whose rows classes that SRC does not know start from (default: "
        "train.init_new_classes_from of CONFIG, else the mean of all classes of SRC)",
    )
    transfer.add_argument(
        "--calibrate",
        nargs=2,
        metavar=("ANNOTATIONS", "IMAGES"),
        help="COCO or YouTube-VIS set in which most_used looks at the queries",
    )


def _run_weights(arguments: argparse.Namespace) -> None:
    from queryinst_vis.checkpoints.catalogue import (
        CATALOGUE,
        cached_weights,
        find_weights,
        shipped_weights,
    )

    if arguments.name is not None:
        print(find_weights(arguments.name))
        return
    for name, file in shipped_weights().items():
        print(f"{name:28} ships with the package\n    {file}")
    for name, checkpoint in CATALOGUE.items():
        file = cached_weights(name)
        place = file if file.is_file() else f"not fetched yet: {checkpoint.url}"
        print(f"{name:28} {checkpoint.label_set}, {checkpoint.summary}\n    {place}")


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
