"""The datasets that ``convert-dataset`` renders: synthetic videos, and videos of still images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from queryinst_vis.cli.arguments import (
    Commands,
    add_allow_outside,
    add_command,
    count,
    fraction,
    number,
    size,
    two_numbers,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np


def add_coco_video(datasets: Commands) -> None:
    """``convert-dataset coco-video``."""
    parser = add_command(
        datasets,
        "coco-video",
        _run_coco_video,
        "Convert COCO images to pseudo-videos by simulating a camera that moves over each image.",
        "Writes DST/frames, DST/youtube_vis.json and DST/coco.json (the frames as images), with\n"
        "exact masks. The output is deterministic for given options and seed.",
        "queryinst-vis convert-dataset coco-video data/coco/annotations/instances_val2017.json "
        "data/coco/val2017 work/coco_video --frames 10",
    )
    parser.add_argument("source", type=Path, metavar="SRC.json", help="COCO annotation file")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of its images")
    parser.add_argument("target", type=Path, metavar="DST", help="folder to write, new or empty")
    parser.add_argument(
        "--frames", type=count, default=10, metavar="N", help="frames per video (default: 10)"
    )
    parser.add_argument(
        "--size",
        type=size,
        default=(640, 360),
        metavar="WxH",
        help="maximum long side x short side of a frame in pixels (default: 640x360)",
    )
    parser.add_argument(
        "--crop",
        type=fraction,
        nargs=2,
        default=(0.5, 0.9),
        metavar=("LOW", "HIGH"),
        help="range of the crop size, as fractions of the image's sides (default: 0.5 0.9)",
    )
    _add_seed(parser)
    add_allow_outside(parser)


def _run_coco_video(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.convert import convert_coco_video

    line = convert_coco_video(
        arguments.source,
        arguments.images,
        arguments.target,
        frames=arguments.frames,
        size=arguments.size,
        crop=tuple(arguments.crop),
        seed=arguments.seed,
        allow_outside=arguments.allow_outside,
    )
    print(line)


def add_synthetic(datasets: Commands) -> None:
    """``convert-dataset synthetic``."""
    parser = add_command(
        datasets,
        "synthetic",
        _run_synthetic,
        "Render videos of moving shapes with exact masks and identities.",
        "The output is deterministic for given preset, options and seed.",
        "queryinst-vis convert-dataset synthetic work/shapes --preset train --seed 0",
        "queryinst-vis convert-dataset synthetic work/crowd --videos 5 --size 640x360 "
        "--objects 20-30",
    )
    parser.add_argument("target", type=Path, metavar="DST", help="folder to write, new or empty")
    parser.add_argument(
        "--preset",
        default="train",
        metavar="P",
        help="train (training set), bench (evaluation set) or demo (one clip) "
        "(default: %(default)s)",
    )
    _add_seed(parser)
    parser.add_argument("--videos", type=count, metavar="N", help="number of videos")
    parser.add_argument("--frames", type=count, metavar="N", help="frames per video")
    parser.add_argument(
        "--size", type=size, metavar="WxH", help="width and height of a frame in pixels"
    )
    parser.add_argument(
        "--objects",
        type=_range,
        metavar="MIN-MAX",
        help="objects per video; more objects than in the preset are rendered smaller",
    )
    parser.add_argument(
        "--mp4", action="store_true", help="also write every video as DST/videos/NAME.mp4"
    )


def _range(text: str) -> tuple[int, int]:
    """MIN-MAX."""
    return two_numbers(text, r"([0-9]+)-([0-9]+)", "MIN-MAX such as 2-6")


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


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=number, default=0, metavar="N", help="random seed (default: %(default)s)"
    )
