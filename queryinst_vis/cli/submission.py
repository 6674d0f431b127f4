"""``queryinst-vis check-submission`` and ``zip``: prepare result files for upload."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import Commands, OutputFile, add_command
from queryinst_vis.cli.findings import report_findings


def add(commands: Commands) -> None:
    """Add both commands."""
    check = add_command(
        commands,
        "check-submission",
        _run_check,
        "Check a YouTube-VIS result file against its set before upload.",
        "Lists all problems, not just the first one: ids that are not in the set, masks\n"
        "that are missing, unreadable or of the wrong size, a results.json that is not at the\n"
        "root of the zip, videos without predictions, and more. SET.json may be a public\n"
        "validation file without annotations. Exit status 2 if the server would reject the file.",
        "queryinst-vis check-submission results.zip data/youtube_vis_2019/valid.json",
        "queryinst-vis check-submission results.json valid.json --json findings.json",
    )
    check.add_argument("results", type=Path, metavar="RESULTS", help="result file, JSON or zipped")
    check.add_argument("set", type=Path, metavar="SET.json", help="the set's videos and classes")
    check.add_argument(
        "--json", type=OutputFile, metavar="OUT", help="also write all findings as JSON"
    )
    pack = add_command(
        commands,
        "zip",
        _run_zip,
        "Pack a YouTube-VIS result file for an evaluation server.",
        "The file becomes results.json at the root of the zip. The fields of each entry are\n"
        "checked first; with --set, all checks of check-submission are run.",
        "queryinst-vis zip results.json results.zip --set data/youtube_vis_2019/valid.json",
    )
    pack.add_argument("results", type=Path, metavar="RESULTS", help="JSON result file")
    pack.add_argument("target", type=OutputFile, metavar="OUT.zip", help="zip file to write")
    pack.add_argument("--set", type=Path, metavar="SET.json", help="the set's videos and classes")


def _run_check(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.tools.results_checks import check_submission
    from queryinst_vis.formats.annotation_set import open_set

    found = check_submission(arguments.results, open_set(arguments.set))
    report_findings({arguments.results: found}, arguments.json)


def _run_zip(arguments: argparse.Namespace) -> None:
    import zipfile

    from queryinst_vis.data.tools.results_checks import check_submission
    from queryinst_vis.errors import InputError
    from queryinst_vis.formats.annotation_set import open_set
    from queryinst_vis.formats.results import write_zip

    if zipfile.is_zipfile(arguments.results):
        raise InputError(
            f"results {arguments.results}: is already a zip; check it with check-submission"
        )
    video_set = None if arguments.set is None else open_set(arguments.set)
    report_findings({arguments.results: check_submission(arguments.results, video_set)})
    write_zip(arguments.results, arguments.target)
    print(f"wrote {arguments.target}")
