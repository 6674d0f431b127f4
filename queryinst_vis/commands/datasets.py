"""``queryinst-vis convert-dataset``: one sub-command a format."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from queryinst_vis.commands.arguments import Commands, add_command, count

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

SUMMARY = "Bring a dataset into YouTube-VIS or COCO format, or render a synthetic one."


def add(commands: Commands) -> None:
    """Add ``convert-dataset``."""
    parser = commands.add_parser(
        "convert-dataset", help=SUMMARY, description=SUMMARY, allow_abbrev=False
    )
    add_datasets(parser)


def add_datasets(parser: argparse.ArgumentParser) -> None:
    """Add one sub-command a format to ``parser``."""
    datasets = parser.add_subparsers(title="datasets", metavar="DATASET", required=True)
    _add_mots(datasets)
    _add_cityscapes(datasets)
    _add_synthetic(datasets)


def _add_mots(datasets: Commands) -> None:
    parser = add_command(
        datasets,
        "mots",
        _run_mots,
        "MOTSChallenge or KITTI MOTS instance maps to a YouTube-VIS JSON file.",
        "Reads SRC/images/SEQUENCE/*.jpg and SRC/instances/SEQUENCE/*.png; images stay in place.",
        "queryinst-vis convert-dataset mots data/mots work/mots_val.json --start 0.75 "
        "--clip-length 36",
    )
    parser.add_argument(
        "source", type=Path, metavar="SRC", help="folder with images/ and instances/"
    )
    parser.add_argument("target", type=Path, metavar="DST.json", help="annotation file to write")
    parser.add_argument(
        "--start",
        type=float,
        default=0.0,
        metavar="F",
        help="where in each sequence to begin, 0 to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--end",
        type=float,
        default=1.0,
        metavar="F",
        help="where in each sequence to end, 0 to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--clip-length", type=int, metavar="N", help="cut sequences into videos of N frames"
    )
    parser.add_argument(
        "--coco", type=Path, metavar="FILE", help="also write the frames as a COCO image set"
    )
    parser.add_argument(
        "--from",
        dest="form",
        choices=["png", "txt"],
        help="read SRC/instances/*.png or SRC/instances_txt/*.txt (default: png where it exists)",
    )


def _run_mots(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.convert import convert_mots

    line = convert_mots(
        arguments.source,
        arguments.target,
        start=arguments.start,
        end=arguments.end,
        clip_length=arguments.clip_length,
        coco_json=arguments.coco,
        source=arguments.form,
    )
    print(line)


def _add_cityscapes(datasets: Commands) -> None:
    parser = add_command(
        datasets,
        "cityscapes",
        _run_cityscapes,
        "Cityscapes instance maps of one split to a COCO JSON file.",
        "Reads SRC/CITY/*_gtFine_instanceIds.png; file names are relative to leftImg8bit/SPLIT.",
        "queryinst-vis convert-dataset cityscapes data/cityscapes/gtFine/val "
        "data/cityscapes/annotations/instances_val.json",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="a split, e.g. gtFine/train")
    parser.add_argument("target", type=Path, metavar="DST.json", help="annotation file to write")


def _run_cityscapes(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.convert import convert_cityscapes

    print(convert_cityscapes(arguments.source, arguments.target))


def _add_synthetic(datasets: Commands) -> None:
    parser = add_command(
        datasets,
        "synthetic",
        _run_synthetic,
        "Render videos of moving shapes with exact masks and identities.",
        "The same preset, options and seed give the same files.",
        "queryinst-vis convert-dataset synthetic work/shapes --preset train --seed 0",
        "queryinst-vis convert-dataset synthetic work/crowd --videos 5 --size 640x360 "
        "--objects 20-30",
    )
    parser.add_argument("target", type=Path, metavar="DST", help="folder to write, new or empty")
    parser.add_argument(
        "--preset",
        default="train",
        metavar="P",
        help="train (to learn from), bench (a yardstick) or demo (one clip) (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="random seed (default: %(default)s)"
    )
    parser.add_argument("--videos", type=count, metavar="N", help="number of videos")
    parser.add_argument("--frames", type=count, metavar="N", help="frames per video")
    parser.add_argument(
        "--size", type=_size, metavar="WxH", help="width and height of a frame in pixels"
    )
    parser.add_argument(
        "--objects",
        type=_range,
        metavar="MIN-MAX",
        help="objects per video; where there are more than the preset's they are smaller",
    )
    parser.add_argument(
        "--mp4", action="store_true", help="also write every video as DST/videos/NAME.mp4"
    )


def _size(text: str) -> tuple[int, int]:
    """WxH."""
    return _two_numbers(text, r"([0-9]+)x([0-9]+)", "WxH such as 256x160")


def _range(text: str) -> tuple[int, int]:
    """MIN-MAX."""
    return _two_numbers(text, r"([0-9]+)-([0-9]+)", "MIN-MAX such as 2-6")


def _two_numbers(text: str, pattern: str, wanted: str) -> tuple[int, int]:
    match = re.fullmatch(pattern, text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected {wanted}, got '{text}'")
    return int(match[1]), int(match[2])


def _run_synthetic(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.synthetic import PRESETS, generate
    from queryinst_vis.errors import InputError

    if arguments.preset not in PRESETS:
        raise InputError(f"preset '{arguments.preset}': choose one of {', '.join(PRESETS)}")
    settings = PRESETS[arguments.preset].override(
        videos=arguments.videos,
        frames=arguments.frames,
        size=arguments.size,
        objects=arguments.objects,
    )
    write_video = _write_mp4 if arguments.mp4 else None
    print(generate(arguments.target, settings, arguments.seed, write_video))


def _write_mp4(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    from queryinst_vis.video.writer import VideoWriter

    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
