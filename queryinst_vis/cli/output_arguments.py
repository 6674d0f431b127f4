"""Arguments of commands that write the results for a video."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from queryinst_vis.cli.arguments import names

if TYPE_CHECKING:
    from queryinst_vis.drawing import DrawingStyle, Redaction

SAVE_HELP = {
    "video": "NAME.mp4, the annotated video",
    "json": "results.json, YouTube-VIS results with track_id",
    "jsonl": "tracks.jsonl, one line per frame: time, ids, classes, scores, boxes, masks",
    "timeline": "timeline.png, when each track is visible",
    "csv": "tracks.csv and detections.csv",
    "parquet": "the same tables as Parquet (extra 'parquet')",
    "mots": "mots/NAME.txt, MOTSChallenge text",
    "coco-video": "coco_video.json, COCO-video annotations",
    "crops": "crops/, the best crops of each track",
    "mattes": "NAME_matte.mp4, white where instances are",
    "report": "NAME.html, a single file with a player, a timeline and a table of the tracks",
    "rrd": "NAME.rrd, recording for the Rerun Viewer (extra 'rerun')",
}
"""The keys of ``report.outputs.ALL_OUTPUTS``, listed here so that --help is fast."""

ENCODERS = ("libx264", "h264_nvenc", "h264_qsv", "h264_amf", "h264_videotoolbox", "auto")
"""``video.encoders.ENCODERS`` and ``auto``, listed here so that --help is fast."""

DEFAULT_SAVE = "video,json,jsonl,timeline"
DEFAULT_DRAW = "mask,outline,trace,label"


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Output folder, files and drawing style."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="output folder (default: out/NAME-OF-VIDEO); several videos are written to subfolders "
        "with their names",
    )
    group.add_argument(
        "--save",
        type=names,
        default=names(DEFAULT_SAVE),
        metavar="KIND,...",
        help="outputs to write, in addition to run.json with the provenance of the files: "
        + "; ".join(f"{name} ({about})" for name, about in SAVE_HELP.items())
        + f" (default: {DEFAULT_SAVE})",
    )
    group.add_argument(
        "--no-video", action="store_true", help="skip the annotated video, which saves time"
    )
    add_picture_options(group)
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="replace results of another video in the output folder (results of the same video are "
        "always replaced)",
    )


def add_picture_options(group: argparse._ActionsContainer) -> None:
    """--draw, --encoder, --blur and --cut-out: the content of images and videos."""
    group.add_argument(
        "--draw",
        type=names,
        default=names(DEFAULT_DRAW),
        metavar="PART,...",
        help="parts to draw for each instance: mask, outline, box, trace (its path), label; or "
        f"none (default: {DEFAULT_DRAW})",
    )
    group.add_argument(
        "--encoder",
        choices=ENCODERS,
        default=ENCODERS[0],
        metavar="NAME",
        help="H.264 encoder of the videos: libx264 on the CPU, which writes the smallest files; "
        "h264_nvenc (NVIDIA), h264_qsv (Intel), h264_amf (AMD) or h264_videotoolbox (Apple) on "
        "graphics hardware; or auto, the first hardware encoder that works on this machine, "
        "otherwise libx264 (default: %(default)s)",
    )
    group.add_argument(
        "--blur",
        type=names,
        default=[],
        metavar="CLASS|ID,...",
        help="make these classes or track ids, such as person or 3,7, unrecognisable in all images "
        "and videos written; objects that the detector misses stay visible",
    )
    group.add_argument(
        "--cut-out",
        type=names,
        default=[],
        metavar="CLASS|ID,...",
        help="show only these classes or track ids, on black",
    )


def save_of(arguments: argparse.Namespace) -> list[str]:
    """The outputs selected by the options of ``add_output_options``."""
    return [name for name in arguments.save if not (arguments.no_video and name == "video")]


def style_of(arguments: argparse.Namespace) -> DrawingStyle:
    """The drawing style selected by the options of ``add_output_options``.

    Raises:
        InputError: an unknown part.
    """
    from queryinst_vis.drawing import DrawingStyle

    return DrawingStyle.of([] if arguments.draw == ["none"] else arguments.draw)


def redaction_of(arguments: argparse.Namespace) -> Redaction:
    """The classes and tracks to hide; integers are track ids."""
    from queryinst_vis.drawing import Redaction

    blur, cut_out = (
        tuple(int(word) if word.isdecimal() else word for word in words)
        for words in (arguments.blur, arguments.cut_out)
    )
    return Redaction(blur, cut_out)
