"""``queryinst-vis track``."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import (
    Commands,
    add_command,
    add_device,
    add_overrides,
    count,
    fraction,
)

_BATCH = 4  # frames of a file; nobody waits for a single one


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "track",
        _run,
        "Find, segment and follow the instances of a video.",
        "Writes the annotated video, the tracks as YouTube-VIS JSON and a timeline picture.\n"
        "Memory does not grow with the video: the tracker remembers the 1,000 tracks that were\n"
        "seen last, unless tracking.max_tracks says otherwise (null: all, as published), and\n"
        "forgets those unseen for tracking.expire_after frames, where that is set, and all of\n"
        "them at a hard cut (tracking.cut_threshold=4; null: never).",
        "queryinst-vis track street.mp4 --out out/street",
        "queryinst-vis track clip.mp4 --weights work/run/best.safetensors --stride 5",
        "queryinst-vis track clip.mp4 --max-size 320",
        "queryinst-vis track /dev/video0 --live --out out/camera",
        "queryinst-vis track clip.mp4 --weights work/image_model.safetensors",
    )
    parser.add_argument(
        "video",
        metavar="VIDEO",
        help="any video file that FFmpeg can read; with --live also a camera (/dev/video0), an "
        "address (rtsp://, http://, udp://, ...) or a pipe (/dev/stdin)",
    )
    add_overrides(parser, "tracking.rule=ocsort")
    parser.add_argument(
        "--weights",
        default="people",
        metavar="NAME|FILE",
        help="a .safetensors file, an .onnx file that 'queryinst-vis export-onnx' wrote, or a name "
        "that 'queryinst-vis weights' lists (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write to (default: out/NAME-OF-VIDEO)"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the results of another video in that folder, which are kept otherwise; those "
        "of the same one are always replaced",
    )
    parser.add_argument(
        "--score-threshold",
        type=fraction,
        metavar="P",
        help="leave out detections below this score, 0..1 (default: what the weights ask for, or "
        "0.3 where that is the 0.05 of the benchmarks)",
    )
    parser.add_argument(
        "--stride",
        type=count,
        default=1,
        metavar="N",
        help="look at every N-th frame only (default: %(default)s)",
    )
    parser.add_argument(
        "--max-frames", type=count, metavar="N", help="stop after N frames (default: all)"
    )
    parser.add_argument(
        "--batch",
        type=count,
        metavar="N",
        help="frames that the network sees at a time: the same results, sooner in all and later "
        f"for each (default: {_BATCH}; --live: 1)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse a video with damaged frames, or with fewer than it promises, instead of a "
        "warning that names them",
    )
    parser.add_argument(
        "--allow-partial",
        action="store_true",
        help="track what is there of an MP4, MOV or AVI file whose end is missing",
    )
    parser.add_argument(
        "--max-size",
        type=count,
        metavar="N",
        help="pixels of the longer side of what the network sees, at most: speed against detail. "
        "Half the size takes about a quarter of the time, and small things vanish; boxes and masks "
        "are still of the video's own size (default: what the weights ask for, which is never "
        "exceeded; input.test_long)",
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="least delay: go on with the newest frame always and drop what came meanwhile; a file "
        "is played at its own pace. Ends with the source, --max-frames or Ctrl-C, finishes the "
        "files and tells how many frames were dropped and how late the detections were. The "
        "annotated video keeps real time: a frame is shown until the next one that was looked at",
    )
    add_device(parser)


def _run(arguments: argparse.Namespace) -> None:
    from queryinst_vis.utils.allocator import keep_freed_memory

    keep_freed_memory()
    if arguments.live:
        _run_live(arguments)
    else:
        _run_file(arguments)


def _run_file(arguments: argparse.Namespace) -> None:
    from queryinst_vis.inference.track import track_video

    summary = track_video(
        arguments.video,
        arguments.out or Path("out") / Path(arguments.video).stem,
        arguments.weights,
        score_threshold=arguments.score_threshold,
        stride=arguments.stride,
        max_frames=arguments.max_frames,
        batch=arguments.batch or _BATCH,
        max_size=arguments.max_size,
        device=arguments.device,
        overrides=arguments.overrides,
        strict=arguments.strict,
        allow_partial=arguments.allow_partial,
        overwrite=arguments.overwrite,
    )
    print(summary)


def _run_live(arguments: argparse.Namespace) -> None:
    from queryinst_vis.errors import InputError
    from queryinst_vis.inference.live import track_live

    if arguments.stride > 1 or (arguments.batch or 1) > 1:
        raise InputError("--live looks at the newest frame alone: leave out --stride and --batch")
    summary = track_live(
        arguments.video,
        arguments.out,
        arguments.weights,
        score_threshold=arguments.score_threshold,
        max_frames=arguments.max_frames,
        max_size=arguments.max_size,
        overwrite=arguments.overwrite,
        device=arguments.device,
        overrides=arguments.overrides,
    )
    print(summary)
