"""``queryinst-vis batch``."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from queryinst_vis.cli.arguments import (
    Commands,
    Parser,
    add_command,
    add_device,
    count,
    names,
)
from queryinst_vis.cli.output_arguments import (
    SAVE_HELP,
    add_picture_options,
)
from queryinst_vis.cli.source_arguments import seconds, split_words
from queryinst_vis.cli.track_arguments import add_track_options, track_options_of
from queryinst_vis.errors import InputError

if TYPE_CHECKING:
    from queryinst_vis.batch.dispatcher import Dispatcher, Event
    from queryinst_vis.batch.options import RunOptions, VideoOptions

SEGMENT_OVERLAP = 5.0  # seconds
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])i?B?", re.IGNORECASE)
_FLAGS = ("strict", "allow-partial", "no-video")  # boolean options of a manifest


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "batch",
        _run,
        "Track many videos into one data set of Parquet tables.",
        "Weights are loaded once per worker; a worker uses one core or GPU. A run can be killed\n"
        "at any time: the next run with the same options tracks only the missing videos. A video\n"
        "whose decoder crashes, hangs or runs out of memory does not affect the others. Exit\n"
        "status 1: some videos failed in this run (all others are done).",
        "queryinst-vis batch archive/ --out tracks",
        "queryinst-vis batch 'day1/*.mp4' day2/ --out tracks --classes person --streams 2",
        "queryinst-vis batch videos.csv --out s3://bucket/tracks",
        "queryinst-vis batch archive/ --out tracks --segment 10min",
        "queryinst-vis batch archive/ --out tracks --dry-run",
        "queryinst-vis batch --status tracks",
        "queryinst-vis batch --compact tracks",
        "queryinst-vis batch s3://bucket/videos --out s3://bucket/tracks --engine ray "
        "--address auto",
    )
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="a video, a folder, which is searched recursively, a glob pattern, a URL (https://, "
        "s3:// or any other file system that pyarrow supports), or a manifest (.csv, .parquet, "
        ".jsonl) with one row per video: `path`, and options of 'track' by name, such as `conf`. "
        "KEY=VALUE arguments such as tracking.rule=ocsort override config keys",
    )
    parser.set_defaults(overrides=[])
    parser.add_argument("--out", metavar="DIR|URI", help="folder or URI of the data set")
    parser.add_argument(
        "--status", metavar="DIR|URI", help="show the progress of the run that writes there"
    )
    parser.add_argument(
        "--compact",
        metavar="DIR|URI",
        help="merge the small files of a data set; not during a run",
    )
    _add_run_options(parser)
    _add_limits(parser)
    _add_video_options(parser)
    add_device(parser)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="only count videos and hours, and estimate the processing time",
    )
    group.add_argument(
        "--retry-failed", action="store_true", help="retry videos that failed in earlier runs"
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="replace results of the same videos that were computed with other weights or options",
    )
    _add_workers(group)
    _add_segments(group)


def _add_workers(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="local: processes on this machine; ray: actors on a Ray cluster (extra 'ray'; for "
        "trusted networks only) (default: %(default)s)",
    )
    group.add_argument(
        "--address",
        metavar="ADDRESS",
        help="address of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT (default: start Ray on "
        "this machine)",
    )
    group.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="number of worker processes (default: one per GPU, or one per --threads cores)",
    )
    group.add_argument(
        "--streams",
        type=count,
        default=1,
        metavar="N",
        help="videos that a worker tracks at a time; frames with the same network input size share "
        "batches. Worth raising if decoding is slower than the network (default: %(default)s)",
    )
    group.add_argument(
        "--batch",
        type=count,
        default=1,
        metavar="N",
        help="batch size of the network. GPUs need more than 1 for full throughput, but then the "
        "last digits of a result may depend on the other frames in its batch; with 1 tables are "
        "reproducible byte for byte (default: %(default)s)",
    )
    group.add_argument(
        "--threads",
        type=count,
        default=1,
        metavar="N",
        help="CPU threads per worker (default: %(default)s)",
    )


def _add_segments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--segment",
        type=seconds,
        metavar="TIME",
        help="cut longer videos at key frames into segments of about this length, such as 90s, "
        "10min or 1h, which all workers share; their tracks are joined afterwards. The file is "
        "read, or downloaded, once per segment (default: one worker tracks the whole video)",
    )
    group.add_argument(
        "--segment-overlap",
        type=seconds,
        metavar="TIME",
        help="with --segment: overlap of consecutive segments, in which their tracks are matched "
        f"(default: {SEGMENT_OVERLAP:g}s)",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--attempts",
        type=count,
        default=2,
        metavar="N",
        help="attempts per video before it counts as failed (default: %(default)s)",
    )
    group.add_argument(
        "--decode-memory",
        type=_bytes,
        default="4G",
        metavar="SIZE",
        help="memory limit for decoding a video, such as 512M (default: %(default)s)",
    )
    group.add_argument(
        "--decode-silence",
        type=seconds,
        default="2min",
        metavar="TIME",
        help="time without a new frame, including downloads, after which a decoder counts as hung "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--decode-time",
        type=seconds,
        metavar="TIME",
        help="limit of the time that tracking waits for the decoder of a video, or of a segment of "
        "one (default: none)",
    )


def _add_video_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``track`` that a manifest may also set per video."""
    add_track_options(parser, live=False)
    group = parser.add_argument_group("files beside the tables")
    group.add_argument(
        "--save",
        type=names,
        default=[],
        metavar="KIND,...",
        help=f"files for each video, in files/KEY: {', '.join(SAVE_HELP)}; see 'queryinst-vis "
        "track --help' (default: none)",
    )
    group.add_argument("--no-video", action="store_true", help=argparse.SUPPRESS)
    add_picture_options(group)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.status is not None:
        from queryinst_vis.batch.status import format_status, read_status

        print(format_status(read_status(arguments.status), time.time()))
    elif arguments.compact is not None:
        from queryinst_vis.batch.compaction import compact
        from queryinst_vis.batch.store import Store

        store = Store(arguments.compact)
        merged = compact(store)
        print(f"{store.name}: {f'merged {merged} files into 3' if merged else 'nothing to merge'}")
    else:
        _track(arguments)


def _track(arguments: argparse.Namespace) -> None:
    from queryinst_vis.batch.estimate import estimate
    from queryinst_vis.batch.local_engine import default_workers
    from queryinst_vis.batch.run import check_options, execute, plan_run
    from queryinst_vis.batch.sources import find_videos

    sources, overrides = split_words([*arguments.sources, *arguments.overrides])
    if not sources or arguments.out is None:
        raise InputError("SOURCE and --out are required; see 'queryinst-vis batch --help'")
    if arguments.live:
        raise InputError("--live: live sources have no end; follow them with 'queryinst-vis track'")
    if arguments.address is not None and arguments.engine != "ray":
        raise InputError("--address needs --engine ray")
    run = _run_options(arguments)
    videos = find_videos(
        sources,
        _options_of(arguments, overrides),
        lambda given, where: _parse_row(arguments, overrides, given, where),
    )
    plan = plan_run(videos, run, retry_failed=arguments.retry_failed, overwrite=arguments.overwrite)
    print(plan, flush=True)
    todo = list(plan.todo.values())
    workers = arguments.workers or default_workers(run.threads, run.device)
    if arguments.dry_run:
        print(estimate(todo, run, workers))
        return
    if not todo:
        return
    check_options(todo, run)
    summary = execute(plan, run, lambda dispatcher: _engine(arguments, dispatcher, run, workers))
    print(summary, flush=True)
    if summary.failures:
        sys.exit(1)


def _engine(
    arguments: argparse.Namespace, dispatcher: Dispatcher, run: RunOptions, workers: int
) -> Iterator[Event]:
    if arguments.engine == "ray":
        from queryinst_vis.batch.ray_engine import run_ray

        return run_ray(dispatcher, run, arguments.workers, arguments.address)
    from queryinst_vis.batch.local_engine import run_local

    return run_local(dispatcher, run, workers)


def _run_options(arguments: argparse.Namespace) -> RunOptions:
    from queryinst_vis.batch.options import RunOptions
    from queryinst_vis.batch.segments import Cutting

    out, length, overlap = arguments.out, arguments.segment, arguments.segment_overlap
    if overlap is None:
        overlap = SEGMENT_OVERLAP
    elif length is None:
        raise InputError("--segment-overlap: only used with --segment")
    return RunOptions(
        out=out if "://" in out else str(Path(out).absolute()),
        batch=arguments.batch,
        streams=arguments.streams,
        threads=arguments.threads,
        device=arguments.device,
        attempts=arguments.attempts,
        decode_memory=arguments.decode_memory,
        decode_silence=arguments.decode_silence,
        decode_time=arguments.decode_time,
        cutting=None if length is None else Cutting(length, overlap),
    )


def _options_of(arguments: argparse.Namespace, overrides: list[str]) -> VideoOptions:
    from queryinst_vis.batch.options import VideoOptions

    return VideoOptions(
        **vars(track_options_of(arguments, overrides)),
        decoder=arguments.decoder,
        fps=arguments.fps,
        strict=arguments.strict,
        allow_partial=arguments.allow_partial,
    )


def _parse_row(
    arguments: argparse.Namespace, overrides: list[str], given: Mapping[str, str], where: str
) -> VideoOptions:
    """The options in a row of a manifest, which override those of the command line."""
    parser = Parser(prog="queryinst-vis batch", add_help=False, allow_abbrev=False)
    _add_video_options(parser)
    known = {action.dest for action in parser._actions}
    parser.set_defaults(**{name: value for name, value in vars(arguments).items() if name in known})
    words = []
    for column, value in given.items():
        option = column.strip().replace("_", "-")
        if option in _FLAGS:
            if value.lower() not in ("true", "false", "1", "0", "yes", "no"):
                raise InputError(f"{where}: `{column}` must be true or false, is '{value}'")
            words += [f"--{option}"] * (value.lower() in ("true", "1", "yes"))
        elif option != "overrides":
            words.append(f"--{option}={value}")
    try:
        row = parser.parse_args(words)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if row.live:
        raise InputError(f"{where}: live sources have no end")
    return _options_of(row, [*overrides, *given.get("overrides", "").split()])


def _bytes(text: str) -> int:
    """A size such as ``512M`` or ``4G``."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a size such as 512M or 4G, got '{text}'")
    return int(float(match[1]) * 1024 ** ("KMGT".index(match[2].upper()) + 1))
