"""Arguments of commands that write what was found in a video."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from queryinst_vis.drawing import DrawingStyle, Redaction

SAVE_HELP = {
    "video": "NAME.mp4, the annotated video",
    "json": "results.json, YouTube-VIS results with track_id",
    "jsonl": "tracks.jsonl, a line a frame: seconds, ids, classes, scores, boxes, masks",
    "timeline": "timeline.png, when each track is visible",
    "csv": "tracks.csv and detections.csv",
    "parquet": "the same tables as Parquet (extra 'parquet')",
    "mots": "mots/NAME.txt, MOTSChallenge text",
    "coco-video": "coco_video.json, COCO-video annotations",
    "crops": "crops/, the best pictures of each track",
    "mattes": "NAME_matte.mp4, white where instances are",
    "report": "NAME.html, one file with a player, a timeline and a table of the tracks",
}
"""What --save may name, as ``report.outputs.ALL_OUTPUTS`` does, which --help does not wait for."""

DEFAULT_SAVE = "video,json,jsonl,timeline"
DEFAULT_DRAW = "mask,outline,trace,label"


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Where results go, and which files."""
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder to write to (default: out/NAME-OF-VIDEO); of several videos, each gets the "
        "folder of its name in there",
    )
    group.add_argument(
        "--save",
        type=names,
        default=names(DEFAULT_SAVE),
        metavar="KIND,...",
        help="what to write besides run.json, which says how the files came about: "
        + "; ".join(f"{name} ({about})" for name, about in SAVE_HELP.items())
        + f" (default: {DEFAULT_SAVE})",
    )
    group.add_argument(
        "--no-video", action="store_true", help="leave out the annotated video, which saves time"
    )
    group.add_argument(
        "--draw",
        type=names,
        default=names(DEFAULT_DRAW),
        metavar="PART,...",
        help="what the annotated video shows of an instance: mask, outline, box, trace (its path), "
        f"label; or none (default: {DEFAULT_DRAW})",
    )
    group.add_argument(
        "--blur",
        type=names,
        default=[],
        metavar="CLASS|ID,...",
        help="make these classes or track ids unrecognisable in every picture that is written, "
        "such as person or 3,7; what the detector misses stays visible",
    )
    group.add_argument(
        "--cut-out",
        type=names,
        default=[],
        metavar="CLASS|ID,...",
        help="show only these classes or track ids, on black",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the results of another video in that folder, which are kept otherwise; those "
        "of the same one are always replaced",
    )


def save_of(arguments: argparse.Namespace) -> list[str]:
    """What the options of ``add_output_options`` ask to write."""
    return [name for name in arguments.save if not (arguments.no_video and name == "video")]


def style_of(arguments: argparse.Namespace) -> DrawingStyle:
    """What the options of ``add_output_options`` ask to draw.

    Raises:
        InputError: there is no such part.
    """
    from queryinst_vis.drawing import DrawingStyle

    return DrawingStyle.of([] if arguments.draw == ["none"] else arguments.draw)


def redaction_of(arguments: argparse.Namespace) -> Redaction:
    """What the options of ``add_output_options`` ask to hide; digits are track ids."""
    from queryinst_vis.drawing import Redaction

    blur, cut_out = (
        tuple(int(word) if word.isdecimal() else word for word in words)
        for words in (arguments.blur, arguments.cut_out)
    )
    return Redaction(blur, cut_out)


def names(text: str) -> list[str]:
    """Words that commas separate."""
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise argparse.ArgumentTypeError(f"expected names separated by commas, got '{text}'")
    return words
