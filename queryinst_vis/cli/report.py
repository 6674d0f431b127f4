"""``queryinst-vis report``: an HTML report on results or a training run."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import (
    Commands,
    OutputFile,
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
        "Write an HTML report on result files or on a training run.",
        "GT.json RESULTS.json [OTHER.json]: AP, HOTA and IDF1 with confidence intervals, error\n"
        "analysis, curves, classes, and with --images clips of the worst videos; for two result\n"
        "files, also a paired comparison.\n"
        "WORK_DIR: training curves with restarts, scores, training samples as seen by the\n"
        "network, predictions over time, config and environment.\n"
        "The file is self-contained: it opens without a network and can be shared.",
        "queryinst-vis report ground_truth.json results.json --images frames --out report.html",
        "queryinst-vis report ground_truth.json baseline.json ours.json --out report.html",
        "queryinst-vis report work/mine --out training.html",
    )
    report.add_argument(
        "subject",
        type=Path,
        metavar="GT.json|WORK_DIR",
        help="ground truth, or the work dir of a training run",
    )
    report.add_argument(
        "results", type=Path, nargs="*", metavar="RESULTS.json", help="one or two result files"
    )
    report.add_argument(
        "--out", type=OutputFile, required=True, metavar="FILE.html", help="HTML file to write"
    )
    report.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images; without it, no clips"
    )
    report.add_argument(
        "--threshold",
        type=fraction,
        default=0.3,
        metavar="S",
        help="minimum score of tracks for HOTA and IDF1, which do not use the ranking, and in "
        "clips (default: %(default)s)",
    )
    report.add_argument(
        "--clips",
        type=count,
        default=6,
        metavar="N",
        help="number of videos to show (default: %(default)s)",
    )
    add_allow_outside(report)
    add_workers(report)


def _run(arguments: argparse.Namespace) -> None:
    from queryinst_vis.errors import InputError

    subject, results = arguments.subject, arguments.results
    if subject.is_dir():
        if arguments.images is not None:
            raise InputError(f"--images: not used for {subject}, the work dir of a training run")
        if results:
            raise InputError(
                f"{subject}: is a folder; give only a WORK_DIR, or GT.json before the results"
            )
        _report_training(arguments)
    elif len(results) not in (1, 2):
        raise InputError(
            f"{subject}: give one or two result files after the ground truth, or the work dir of a "
            "training run"
        )
    else:
        _report_evaluation(arguments)
    print(f"wrote {arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")


def _report_training(arguments: argparse.Namespace) -> None:
    from queryinst_vis.report.training import write_training_page

    write_training_page(arguments.subject, arguments.out)


def _report_evaluation(arguments: argparse.Namespace) -> None:
    from queryinst_vis.report.evaluation import write_evaluation_page

    write_evaluation_page(
        arguments.subject,
        arguments.results[0],
        arguments.out,
        arguments.results[1] if len(arguments.results) > 1 else None,
        images=arguments.images,
        threshold=arguments.threshold,
        clips=arguments.clips,
        workers=arguments.workers,
        allow_outside=arguments.allow_outside,
    )
