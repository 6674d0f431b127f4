"""``queryinst-vis convert-results``."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import Commands, OutputFile, add_command
from queryinst_vis.cli.datasets import AddItem, print_result


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "convert-results",
        _run,
        "Convert results of videos between YouTube-VIS JSON, MOTS text and COCO-video JSON.",
        "The format of SRC is detected: one of these, or the tracks.jsonl of 'track', which needs\n"
        "no --gt. MOTS is a folder with one text file per sequence; its masks must not overlap\n"
        "(the track with the higher score keeps the pixels) and have no scores (1 when read).",
        "queryinst-vis convert-results out/street/tracks.jsonl street.json",
        "queryinst-vis convert-results results.json mots_results --gt ground_truth.json",
        "queryinst-vis convert-results mots_results results.json --gt ground_truth.json",
        "queryinst-vis convert-results results.json tao.json --to coco-video "
        "--gt ground_truth.json",
        "queryinst-vis convert-results results.json kitti --first-frame 0 --class sedan=1 "
        "--gt ground_truth.json",
    )
    parser.add_argument("src", type=Path, metavar="SRC", help="result file or folder")
    parser.add_argument(
        "dst",
        type=OutputFile,
        metavar="DST",
        help="file to write, or a new or empty folder for MOTS",
    )
    parser.add_argument(
        "--gt",
        type=Path,
        metavar="GT.json",
        help="YouTube-VIS file with the videos and classes; needs no annotations. Not needed for "
        "a tracks.jsonl",
    )
    parser.add_argument(
        "--to",
        choices=["youtube-vis", "mots", "coco-video"],
        help="format of DST (default: youtube-vis if it ends in .json, mots if it has no suffix)",
    )
    parser.add_argument(
        "--first-frame",
        type=int,
        metavar="N",
        help="MOTS: number each video's frames N, N+1, ...: 1 for MOTSChallenge, 0 for KITTI MOTS "
        "(default: the numbers in the file names if they are increasing, otherwise from 1)",
    )
    parser.add_argument(
        "--class",
        dest="classes",
        type=_class_number,
        action=AddItem,
        default={},
        metavar="NAME=N",
        help="MOTS: number of a class; repeatable (default: car=1, pedestrian=2, person=2)",
    )


def _class_number(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition("=")
    if not name or not number.isdecimal() or int(number) == 0:
        raise argparse.ArgumentTypeError(f"expected a class and its number, e.g. dog=3: '{text}'")
    return name, int(number)


def _run(arguments: argparse.Namespace) -> None:
    from queryinst_vis.formats.convert_results import convert_results

    print_result(convert_results, arguments)
