"""``queryinst-vis review``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from queryinst_vis.cli.arguments import Commands, add_command, count
from queryinst_vis.errors import InputError

if TYPE_CHECKING:
    from queryinst_vis.review import ReviewSession

FORMATS = ("youtube-vis", "coco-video", "mots", "cvat", "label-studio")
"""The keys of ``review.export.EXPORTS``, listed here so that --help is fast."""

DEFAULT_PORT = 8765


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "review",
        _run,
        "Correct the tracks of a video and export them as training data.",
        "Without --apply, --suggest or --export, serves a web page for correcting tracks (extra\n"
        "'review') until Ctrl-C and prints its address, which contains a secret: do not share it.\n"
        "docs/review.md explains the use over SSH. Corrections are stored in a journal next to\n"
        "the results, which are never modified; the next review continues from there. --apply\n"
        "reads one action per line, such as\n"
        '{"action": "merge", "first": 3, "second": 7, "decide": "keep first"}; either all\n'
        "are applied or none. Several options are processed in the order of this help.",
        "queryinst-vis review out/street",
        "queryinst-vis review out/street --suggest 20",
        "queryinst-vis review out/street --apply corrections.jsonl",
        "queryinst-vis review out/street --export corrected/street",
        "queryinst-vis review out/street --export street_cvat --format cvat --frames all",
        "queryinst-vis review results.json --video street.mp4 --gt videos.json "
        "--export corrected --frames all",
    )
    parser.add_argument(
        "results",
        type=Path,
        metavar="RESULTS",
        help="the output folder of 'track', or a result file: tracks.jsonl, YouTube-VIS or "
        "COCO-video JSON, MOTS text",
    )
    parser.add_argument(
        "--video",
        type=Path,
        metavar="FILE",
        help="the video or folder of its frames, if it has been moved since tracking or the "
        "results are from another program",
    )
    parser.add_argument(
        "--gt",
        type=Path,
        metavar="GT.json",
        help="YouTube-VIS file with the class names of JSON results; annotations are not needed "
        "(default: classes are numbered)",
    )
    parser.add_argument(
        "--video-id", type=int, metavar="N", help="id of the video, if JSON results have several"
    )
    parser.add_argument(
        "--apply",
        type=Path,
        metavar="FILE.jsonl",
        help="apply these actions: all of them or, if one is invalid or leaves a conflict "
        "unresolved, none. Actions whose `id` is in the journal are skipped",
    )
    parser.add_argument(
        "--suggest",
        type=count,
        metavar="N",
        help="print at most N suggestions for corrections, best first, as one JSON object per line "
        "with a reason, and with lines for --apply as `accept` and `dismiss`",
    )
    parser.add_argument(
        "--port",
        type=port,
        default=DEFAULT_PORT,
        metavar="N",
        help="port of the page, on the loopback address only; 0: any free port "
        f"(default: {DEFAULT_PORT})",
    )
    group = parser.add_argument_group("export")
    group.add_argument(
        "--export",
        type=Path,
        metavar="DIR",
        help="write the corrected tracks to this new or empty folder",
    )
    group.add_argument(
        "--format",
        choices=FORMATS,
        help="format for --export: youtube-vis (with the frames as JPEG, for 'finetune' and "
        "'eval-video'), coco-video, mots, cvat (CVAT for video 1.1) or label-studio (boxes) "
        "(default: youtube-vis)",
    )
    group.add_argument(
        "--frames",
        choices=("checked", "all"),
        help="frames for --export: only those marked as checked, or all (default: checked for "
        "youtube-vis, all for other formats)",
    )


def _run(arguments: argparse.Namespace) -> None:
    if arguments.export is None and (arguments.format or arguments.frames):
        raise InputError("--format and --frames belong to --export")
    from queryinst_vis.review import ReviewSession

    with ReviewSession.open(
        arguments.results, arguments.video, gt=arguments.gt, video_id=arguments.video_id
    ) as session:
        if arguments.apply is not None:
            _apply(session, arguments.apply)
        if arguments.suggest is not None:
            _suggest(session, arguments.suggest)
        if arguments.export is not None:
            _export(session, arguments)
        if all(each is None for each in (arguments.apply, arguments.suggest, arguments.export)):
            _serve(session, arguments.port)


def _serve(session: ReviewSession, port: int) -> None:
    try:
        from queryinst_vis.review.web.serve import serve
    except ImportError as error:
        raise InputError(
            f"the page needs Starlette and uvicorn ({error}): pip install 'queryinst-vis[review]'"
        ) from error
    serve(
        session,
        port,
        FORMATS,
        lambda url: print(
            f"open {url}\nCtrl-C stops; every action is saved immediately", flush=True
        ),
    )


def _apply(session: ReviewSession, path: Path) -> None:
    from queryinst_vis.review import read_actions

    results = session.apply_all(read_actions(path), str(path))
    new = sum(not result.is_repeated for result in results)
    repeated = f", {len(results) - new} already in the journal" if new < len(results) else ""
    print(f"{new} actions applied{repeated}; {len(session.state.tracks)} tracks")


def _suggest(session: ReviewSession, limit: int) -> None:
    from queryinst_vis.review.queue import suggest

    for suggestion in suggest(session)[:limit]:
        print(json.dumps(suggestion.to_json()))


def _export(session: ReviewSession, arguments: argparse.Namespace) -> None:
    from queryinst_vis.review.export import export

    to = arguments.format or FORMATS[0]
    print(export(session, arguments.export, to, arguments.frames))


def port(text: str) -> int:
    """Parse a port number, 0 to 65535."""
    if not (text.isdecimal() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got '{text}'")
    return int(text)
