"""``queryinst-vis report``: one HTML file that shows how good results are."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import (
    Commands,
    add_allow_outside,
    add_command,
    add_workers,
    count,
    fraction,
)


def add(commands: Commands) -> None:
    """Add the command."""
    report = add_command(
        commands,
        "report",
        _run,
        "Write one HTML file that shows how good a result file is, and where it fails.",
        "AP, HOTA and IDF1 with intervals, what each kind of error costs, curves, classes, and\n"
        "with --images the worst videos as clips; of two result files also which one is better.\n"
        "The file is complete: it opens from disk without a network, and can be sent to others.",
        "queryinst-vis report ground_truth.json results.json --images frames --out report.html",
        "queryinst-vis report ground_truth.json baseline.json ours.json --out report.html",
    )
    report.add_argument("ground_truth", type=Path, metavar="GT.json", help="annotated dataset")
    report.add_argument("results", type=Path, metavar="RESULTS.json", help="result file")
    report.add_argument(
        "other", type=Path, nargs="?", metavar="OTHER.json", help="another one, to compare with"
    )
    report.add_argument(
        "--out", type=Path, required=True, metavar="FILE.html", help="the page to write"
    )
    report.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images; without it, no clips"
    )
    report.add_argument(
        "--threshold",
        type=fraction,
        default=0.3,
        metavar="S",
        help="score from which on tracks count for HOTA and IDF1, which do not rank, and are shown "
        "in clips (default: %(default)s)",
    )
    report.add_argument(
        "--clips", type=count, default=6, metavar="N", help="videos to show (default: %(default)s)"
    )
    add_allow_outside(report)
    add_workers(report)


def _run(arguments: argparse.Namespace) -> None:
    from queryinst_vis.report.evaluation import write_evaluation_page

    write_evaluation_page(
        arguments.ground_truth,
        arguments.results,
        arguments.out,
        arguments.other,
        images=arguments.images,
        threshold=arguments.threshold,
        clips=arguments.clips,
        workers=arguments.workers,
        allow_outside=arguments.allow_outside,
    )
    size = arguments.out.stat().st_size / 1e6
    print(f"wrote {arguments.out}: {size:.1f} MB")
