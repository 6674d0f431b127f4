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
"""What ``review.export.EXPORTS`` writes, which --help does not wait for."""

DEFAULT_PORT = 8765


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "review",
        _run,
        "Correct the tracks of a video, and write them as training data.",
        "Prints the address of a page on which tracks are corrected in a browser, and serves it\n"
        "until Ctrl-C (extra 'review'), unless --apply, --suggest or --export says what to do.\n"
        "The address holds a secret: keep it to yourself. docs/review.md has a recipe for SSH.\n"
        "Corrections go to a journal beside the results, which are never changed; a later review\n"
        "goes on where this one ends. --apply takes one action a line, such as\n"
        '{"action": "merge", "first": 3, "second": 7, "decide": "keep first"}; either all of\n'
        "them are done or none. Several options are done in the order of this help.",
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
        help="the folder that 'track' has written; or a result file: tracks.jsonl, YouTube-VIS or "
        "COCO-video JSON, MOTS text",
    )
    parser.add_argument(
        "--video",
        type=Path,
        metavar="FILE",
        help="the video, or folder of its frames, if it has moved since it was tracked or if the "
        "results are of another program",
    )
    parser.add_argument(
        "--gt",
        type=Path,
        metavar="GT.json",
        help="YouTube-VIS file with the names of the classes of JSON results, which needs no "
        "annotations (default: classes have numbers)",
    )
    parser.add_argument(
        "--video-id", type=int, metavar="N", help="which video of JSON results of several"
    )
    parser.add_argument(
        "--apply",
        type=Path,
        metavar="FILE.jsonl",
        help="do these actions: all of them, or, if one cannot be done or leaves a conflict "
        "undecided, none. Actions whose `id` the journal has are done already and left out",
    )
    parser.add_argument(
        "--suggest",
        type=count,
        metavar="N",
        help="print what is most likely wrong, at most N suggestions, best first, one JSON object "
        "a line: what and why, and as `accept` and `dismiss` the lines for --apply",
    )
    parser.add_argument(
        "--port",
        type=port,
        default=DEFAULT_PORT,
        metavar="N",
        help="of the page, on this machine's loopback address alone; 0: any that is free "
        f"(default: {DEFAULT_PORT})",
    )
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "--export",
        type=Path,
        metavar="DIR",
        help="write the corrected tracks to this folder, new or empty",
    )
    group.add_argument(
        "--format",
        choices=FORMATS,
        help="of --export: youtube-vis (with the frames as JPEG, for 'finetune' and 'eval-video'), "
        "coco-video, mots, cvat (CVAT for video 1.1) or label-studio (boxes) "
        "(default: youtube-vis)",
    )
    group.add_argument(
        "--frames",
        choices=("checked", "all"),
        help="of --export: those that are marked as checked, or all (default: checked for "
        "youtube-vis, all for the others)",
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
        lambda url: print(f"open {url}\nCtrl-C ends; every action is saved at once", flush=True),
    )


def _apply(session: ReviewSession, path: Path) -> None:
    from queryinst_vis.review import read_actions

    results = session.apply_all(read_actions(path), str(path))
    done = sum(not result.is_repeated for result in results)
    repeated = f", {len(results) - done} were done already" if done < len(results) else ""
    print(f"{done} actions done{repeated}: {len(session.state.tracks)} tracks")


def _suggest(session: ReviewSession, most: int) -> None:
    from queryinst_vis.review.queue import suggest

    for suggestion in suggest(session)[:most]:
        print(json.dumps(suggestion.to_json()))


def _export(session: ReviewSession, arguments: argparse.Namespace) -> None:
    from queryinst_vis.review.export import export

    to = arguments.format or FORMATS[0]
    print(export(session, arguments.export, to, arguments.frames))


def port(text: str) -> int:
    """The number of a port that can be listened on."""
    if not (text.isdecimal() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got '{text}'")
    return int(text)
