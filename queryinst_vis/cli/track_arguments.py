"""Arguments of the commands that track: detector, frames and detections."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from queryinst_vis.cli.arguments import add_choices, add_weights_option, count
from queryinst_vis.cli.output_arguments import redaction_of, save_of, style_of
from queryinst_vis.cli.source_arguments import add_source_options, selection_of

if TYPE_CHECKING:
    from queryinst_vis.inference.options import TrackOptions


def add_track_options(parser: argparse.ArgumentParser, live: bool) -> None:
    """Options for the detector, the frames and the detections; ``live``: offer --live."""
    add_weights_option(parser, ", or NAME:ARGUMENT for a detector of an installed package")
    parser.add_argument(
        "--max-size",
        type=count,
        metavar="N",
        help="maximum longer side of the network input in pixels, to trade accuracy for speed: "
        "half the size takes about a quarter of the time but misses small objects. Boxes and masks "
        "stay at the video's resolution (default, and upper limit: input.test_long of the weights)",
    )
    add_source_options(parser, live)
    add_choices(parser.add_argument_group("detections"))


def track_options_of(arguments: argparse.Namespace, overrides: list[str]) -> TrackOptions:
    """The tracking options given on the command line.

    Raises:
        InputError: an empty range of frames, or an unknown drawing style.
    """
    from queryinst_vis.inference.options import TrackOptions

    return TrackOptions(
        arguments.weights,
        conf=arguments.conf,
        iou=arguments.iou,
        classes=arguments.classes,
        max_size=arguments.max_size,
        overrides=overrides,
        selection=selection_of(arguments),
        save=save_of(arguments),
        style=style_of(arguments),
        redaction=redaction_of(arguments),
        encoder=arguments.encoder,
    )
