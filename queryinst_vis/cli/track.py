"""``queryinst-vis track``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from queryinst_vis.cli.arguments import (
    Commands,
    add_command,
    add_device,
    count,
)
from queryinst_vis.cli.output_arguments import add_output_options
from queryinst_vis.cli.source_arguments import open_sources_of, split_words
from queryinst_vis.cli.track_arguments import add_track_options, track_options_of
from queryinst_vis.errors import InputError

if TYPE_CHECKING:
    from queryinst_vis.inference.live import LiveSummary
    from queryinst_vis.inference.outputs.writing import TrackSummary
    from queryinst_vis.video.source import LiveSource, Source

_BATCH = 4  # frames per forward pass for files, where latency does not matter


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "track",
        _run,
        "Detect, segment and track the instances of a video.",
        "Writes the annotated video, the tracks as YouTube-VIS JSON and as one JSON line per\n"
        "frame, and a timeline image; --save selects other outputs, such as tables.\n"
        "Memory does not grow with the length of the video: the tracker keeps the 1,000 most\n"
        "recently seen tracks (tracking.max_tracks; null: all, as published), drops tracks unseen\n"
        "for tracking.expire_after frames, if set, and drops all tracks at a hard cut\n"
        "(tracking.cut_threshold=4; null: never).",
        "queryinst-vis track street.mp4 --out out/street",
        "queryinst-vis track clip.mp4 --weights work/run/best.safetensors --stride 5",
        "queryinst-vis track clip.mp4 --max-size 320",
        "queryinst-vis track a.mp4 b.mp4 --start 0:01:30 --end 0:02:00 --out out",
        "queryinst-vis track street.mp4 --classes person,dog --conf 0.5 --save csv,jsonl",
        "queryinst-vis track street.mp4 --save report",
        "queryinst-vis track street.mp4 --blur person --draw label",
        "queryinst-vis track frames/ --fps 30",
        "queryinst-vis track 0 --out out/camera",
        "queryinst-vis track rtsp://192.168.0.9/stream",
        "queryinst-vis track 0 1 --live --out out/cameras",
        "queryinst-vis track clip.mp4 --weights work/image_model.safetensors",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a video file; a folder of frames, a glob pattern ('frames/*.png') or an image; a "
        "camera index (0) or device; a URL (rtsp://, http://, udp://, ...); - for standard input. "
        "Several videos are tracked one after another (see --streams). KEY=VALUE arguments such as "
        "tracking.rule=ocsort override config keys",
    )
    parser.set_defaults(overrides=[])  # for words after an option, see parse_arguments
    parser.add_argument(
        "--batch",
        type=count,
        metavar="N",
        help="batch size: the same results, higher throughput, higher latency "
        f"(default: {_BATCH}; --live: 1)",
    )
    parser.add_argument(
        "--streams",
        type=count,
        metavar="N",
        help="number of videos that are tracked at the same time; frames with the same network "
        "input size share batches (default: 1; --live: all)",
    )
    add_track_options(parser, live=True)
    add_output_options(parser)
    add_device(parser)


def _run(arguments: argparse.Namespace) -> None:
    from queryinst_vis.utils.allocator import keep_freed_memory
    from queryinst_vis.video.source import LiveSource

    words, overrides = split_words([*arguments.sources, *arguments.overrides])
    if not words:
        raise InputError("no video given; see 'queryinst-vis track --help'")
    keep_freed_memory()
    sources = open_sources_of(arguments, words)
    live = [source for source in sources if isinstance(source, LiveSource)]
    if live:
        _run_live(live, overrides, arguments)
    else:
        _run_files(sources, overrides, arguments)


def _run_files(sources: list[Source], overrides: list[str], arguments: argparse.Namespace) -> None:
    from queryinst_vis.inference.track import track_videos
    from queryinst_vis.report.outputs import ALL_OUTPUTS

    for summary in track_videos(
        sources,
        _folders(sources, arguments.out),
        track_options_of(arguments, overrides),
        kinds=ALL_OUTPUTS,
        batch=arguments.batch or _BATCH,
        streams=arguments.streams or 1,
        device=arguments.device,
        overwrite=arguments.overwrite,
    ):
        _print(summary, summary.hint)


def _run_live(
    sources: list[LiveSource], overrides: list[str], arguments: argparse.Namespace
) -> None:
    from queryinst_vis.inference.live import track_live
    from queryinst_vis.report.outputs import ALL_OUTPUTS

    if (arguments.batch or 1) > 1:
        raise InputError("--batch: live sources are processed one frame at a time; leave it out")
    if (arguments.streams or len(sources)) < len(sources):
        raise InputError(
            f"--streams {arguments.streams}: all {len(sources)} live sources are processed "
            "concurrently; leave it out"
        )
    for summary in track_live(
        sources,
        _folders(sources, arguments.out),
        track_options_of(arguments, overrides),
        kinds=ALL_OUTPUTS,
        device=arguments.device,
        overwrite=arguments.overwrite,
    ):
        _print(summary, summary.tracked.hint)


def _folders(sources: Sequence[Source], out: Path | None) -> list[Path]:
    """The output folder of each source."""
    if out is not None and len(sources) == 1:
        return [out]
    return [(out or Path("out")) / source.name for source in sources]


def _print(summary: TrackSummary | LiveSummary, hint: str | None) -> None:
    """Print the summary, and a hint on standard error if nothing was found."""
    print(summary, flush=True)
    if hint is not None:
        print(f"queryinst-vis: {hint}", file=sys.stderr)
