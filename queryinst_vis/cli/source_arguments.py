"""Arguments of commands that read a video: where it comes from, and which frames of it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from queryinst_vis.cli.arguments import count

if TYPE_CHECKING:
    from queryinst_vis.video.frames import Selection
    from queryinst_vis.video.source import Source

_OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)*=.*", re.DOTALL)


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Which frames are read, and how."""
    group = parser.add_argument_group("which frames")
    group.add_argument(
        "--start",
        type=seconds,
        metavar="TIME",
        help="begin with the frame shown at this time: seconds, or h:mm:ss such as 0:01:30.5, from "
        "the beginning of the video (default: the first frame)",
    )
    group.add_argument(
        "--end", type=seconds, metavar="TIME", help="stop before the frame shown at this time"
    )
    group.add_argument(
        "--start-frame", type=number, metavar="N", help="begin with this frame, counted from 0"
    )
    group.add_argument("--end-frame", type=number, metavar="N", help="stop before this frame")
    group.add_argument(
        "--stride",
        type=count,
        default=1,
        metavar="N",
        help="look at every N-th frame only (default: %(default)s)",
    )
    group.add_argument(
        "--max-frames", type=count, metavar="N", help="stop after N frames (default: all)"
    )
    group.add_argument(
        "--decoder",
        choices=("pyav", "decord", "torchcodec"),
        default="pyav",
        help="what decodes video files; the others are extras (pip install "
        "'queryinst-vis[decord]') that give the same frames of sound files. torchcodec uses the "
        "GPU's decoder where there is one (default: %(default)s)",
    )
    group.add_argument(
        "--fps",
        type=rate,
        metavar="R",
        help="frames per second of images, which do not say when they are shown (default: 25)",
    )
    group.add_argument(
        "--live",
        action="store_true",
        help="least delay: go on with the newest frame always and drop what came meanwhile; a file "
        "is played at its own pace. Ends with the source, --max-frames or Ctrl-C, finishes the "
        "files and tells how many frames were dropped and how late the detections were. The "
        "annotated video keeps real time: a frame is shown until the next one that was looked at",
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help="refuse a video with damaged frames, or with fewer than it promises, instead of a "
        "warning that names them",
    )
    group.add_argument(
        "--allow-partial",
        action="store_true",
        help="read what is there of an MP4, MOV or AVI file whose end is missing",
    )


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """``(sources, overrides)`` of the words of a command line that may be either.

    ``key=value`` is an override, unless there is a file of that name.
    """
    overrides = [word for word in words if _OVERRIDE.fullmatch(word) and not Path(word).exists()]
    return [word for word in words if word not in overrides], overrides


def selection_of(arguments: argparse.Namespace) -> Selection:
    """The frames that the options of ``add_source_options`` name.

    Raises:
        InputError: an empty range.
    """
    from queryinst_vis.video.frames import Selection

    return Selection(
        start=arguments.start,
        end=arguments.end,
        start_frame=arguments.start_frame,
        end_frame=arguments.end_frame,
        stride=arguments.stride,
        max_frames=arguments.max_frames,
    )


def open_sources_of(arguments: argparse.Namespace, words: list[str]) -> list[Source]:
    """Open the sources that the words name, as the options of ``add_source_options`` say.

    Raises:
        InputError: one of them cannot be used.
    """
    from queryinst_vis.video.sources import open_sources

    return open_sources(
        words,
        selection_of(arguments),
        live=arguments.live,
        decoder=arguments.decoder,
        fps=arguments.fps,
        strict=arguments.strict,
        allow_partial=arguments.allow_partial,
    )


def seconds(text: str) -> float:
    """A time of ``--start`` and ``--end``."""
    from queryinst_vis.video.frames import parse_time

    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def number(text: str) -> int:
    """A non-negative integer."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a non-negative integer, got '{text}'")
    return int(text)


def rate(text: str) -> float:
    """Frames per second."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected frames per second, such as 29.97, got '{text}'")
    return value
