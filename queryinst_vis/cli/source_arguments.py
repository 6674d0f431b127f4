"""Arguments of commands that read a video: the source and the selection of frames."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from queryinst_vis.cli.arguments import count, number

if TYPE_CHECKING:
    from queryinst_vis.video.frames import Selection
    from queryinst_vis.video.source import Source

_OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)*=.*", re.DOTALL)

_LIVE = (
    "low latency: always process the newest frame and drop those that arrived in between; a file "
    "is played in real time. Stops at the end of the source, after --max-frames or on Ctrl-C, "
    "finishes the output files and reports dropped frames and latency. The annotated video plays "
    "in real time: each processed frame is shown until the next one"
)


def add_source_options(parser: argparse.ArgumentParser, live: bool) -> None:
    """Options for frame selection and decoding; without ``live``, the help omits --live."""
    group = parser.add_argument_group("frames")
    group.add_argument(
        "--start",
        type=seconds,
        metavar="TIME",
        help="start at this time from the beginning of the video, such as 90, 90s, 1.5min or "
        "0:01:30.5 (default: the first frame)",
    )
    group.add_argument("--end", type=seconds, metavar="TIME", help="stop before this time")
    group.add_argument(
        "--start-frame", type=number, metavar="N", help="start at this frame, counted from 0"
    )
    group.add_argument("--end-frame", type=number, metavar="N", help="stop before this frame")
    group.add_argument(
        "--stride",
        type=count,
        default=1,
        metavar="N",
        help="process only every N-th frame (default: %(default)s)",
    )
    group.add_argument(
        "--max-frames", type=count, metavar="N", help="stop after N frames (default: all)"
    )
    group.add_argument(
        "--decoder",
        choices=("pyav", "decord", "torchcodec"),
        default="pyav",
        help="video decoder; decord and torchcodec are extras (pip install "
        "'queryinst-vis[decord]') that return the same frames for undamaged files. torchcodec uses "
        "the GPU decoder if available (default: %(default)s)",
    )
    group.add_argument(
        "--fps",
        type=rate,
        metavar="R",
        help="frame rate for image sequences (default: 25)",
    )
    group.add_argument(
        "--live",
        action="store_true",
        help=_LIVE if live else argparse.SUPPRESS,
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help="reject a video with damaged or missing frames, instead of a warning that lists them",
    )
    group.add_argument(
        "--allow-partial",
        action="store_true",
        help="read an MP4, MOV or AVI file with missing data at the end as far as possible",
    )


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Split command-line words into ``(sources, overrides)``.

    ``key=value`` is an override, unless a file with that name exists.
    """
    overrides = [word for word in words if _OVERRIDE.fullmatch(word) and not Path(word).exists()]
    return [word for word in words if word not in overrides], overrides


def selection_of(arguments: argparse.Namespace) -> Selection:
    """The frames selected by the options of ``add_source_options``.

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
    """Open the sources with the options of ``add_source_options``.

    Raises:
        InputError: a source cannot be opened.
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
    """A time such as ``90``, ``10min`` or ``0:10:00``, in seconds."""
    from queryinst_vis.video.frames import parse_time

    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def rate(text: str) -> float:
    """Frames per second."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected frames per second, such as 29.97, got '{text}'")
    return value
