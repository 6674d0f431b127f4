"""``queryinst-vis report``: one HTML file that shows how good results are."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import Commands, add_command, add_workers


def add(commands: Commands) -> None:
    """Add the command."""
    report = add_command(
        commands,
        "report",
        _run,
        "Write one HTML file that shows how good a result file is and where it fails.",
        "The file is complete: it opens from disk without a network, and can be sent to others.",
        "queryinst-vis report ground_truth.json results.json --out report.html",
    )
    report.add_argument("ground_truth", type=Path, metavar="GT.json", help="annotated dataset")
    report.add_argument("results", type=Path, metavar="RESULTS.json", help="result file")
    report.add_argument(
        "--out", type=Path, required=True, metavar="FILE.html", help="the page to write"
    )
    add_workers(report)


def _run(arguments: argparse.Namespace) -> None:
    from queryinst_vis.report.evaluation import write_evaluation_page

    write_evaluation_page(
        arguments.ground_truth, arguments.results, arguments.out, arguments.workers
    )
    print(f"wrote {arguments.out}")
