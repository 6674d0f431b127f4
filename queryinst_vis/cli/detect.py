"""``queryinst-vis detect``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from queryinst_vis.cli.arguments import (
    Commands,
    add_choices,
    add_command,
    add_device,
    add_weights_option,
    count,
)
from queryinst_vis.cli.source_arguments import split_words
from queryinst_vis.errors import InputError


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "detect",
        _run,
        "Detect and segment the instances in images.",
        "Writes detections.json, a COCO file with images, categories and annotations with scores,\n"
        "and the annotated images. No annotations are needed.",
        "queryinst-vis detect photo.jpg --out out/photo",
        "queryinst-vis detect photos/ more/*.png --conf 0.5 --classes person",
        "queryinst-vis detect photos/ --weights work/run/best.safetensors --no-pictures",
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="an image file, a folder or a glob pattern ('photos/*.jpg'). KEY=VALUE arguments "
        "such as inference.max_per_image=10 override config keys",
    )
    parser.set_defaults(overrides=[])  # for words after an option, see parse_arguments
    add_weights_option(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/detect"),
        metavar="DIR",
        help="output folder (default: %(default)s)",
    )
    parser.add_argument(
        "--no-pictures",
        action="store_true",
        help="write only detections.json",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace results of other images in the output folder",
    )
    add_choices(parser)
    parser.add_argument(
        "--batch",
        type=count,
        default=1,
        metavar="N",
        help="batch size: higher throughput on a GPU; images of different sizes are padded to a "
        "common size, which changes the results slightly (default: %(default)s)",
    )
    parser.add_argument(
        "--max-size",
        type=count,
        metavar="N",
        help="maximum longer side of the network input in pixels, to trade accuracy for speed "
        "(default, and upper limit: input.test_long of the weights)",
    )
    add_device(parser)


def _run(arguments: argparse.Namespace) -> None:
    from queryinst_vis.inference.detect_images import detect_images, find_images
    from queryinst_vis.utils.allocator import keep_freed_memory

    keep_freed_memory()
    words, overrides = split_words([*arguments.images, *arguments.overrides])
    if not words:
        raise InputError("no image given; see 'queryinst-vis detect --help'")
    summary = detect_images(
        find_images(words),
        arguments.out,
        arguments.weights,
        classes=arguments.classes,
        conf=arguments.conf,
        iou=arguments.iou,
        batch=arguments.batch,
        max_size=arguments.max_size,
        device=arguments.device,
        overrides=overrides,
        pictures=not arguments.no_pictures,
        overwrite=arguments.overwrite,
    )
    print(summary)
    if summary.hint is not None:
        print(summary.hint, file=sys.stderr)
