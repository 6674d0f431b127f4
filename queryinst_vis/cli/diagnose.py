"""``queryinst-vis diagnose`` and ``compare``: error analysis and paired bootstrap comparison."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import (
    Commands,
    OutputFile,
    add_command,
    add_workers,
    count,
    number,
)


def add(commands: Commands) -> None:
    """Add both commands."""
    diagnose = add_command(
        commands,
        "diagnose",
        _run_diagnose,
        "Analyse the errors of a YouTube-VIS result file.",
        "Shows the AP lost to each type of error (identities, class, masks, ...), AP by track\n"
        "length, size, speed and occlusion, and every identity switch. Writes report.json and\n"
        "errors.png.",
        "queryinst-vis diagnose ground_truth.json results.json --out work/why",
    )
    _add_ground_truth(diagnose)
    diagnose.add_argument("results", type=Path, metavar="RESULTS.json", help="result file")
    diagnose.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    add_workers(diagnose)
    compare = add_command(
        commands,
        "compare",
        _run_compare,
        "Compare two YouTube-VIS result files with a paired bootstrap.",
        "Scores both files on the same resampled sets of videos. The confidence interval covers\n"
        "the choice of videos, not the variance between training runs (seeds).",
        "queryinst-vis compare ground_truth.json baseline.json ours.json",
        "queryinst-vis compare ground_truth.json baseline.json ours.json --samples 10000 "
        "--json comparison.json",
    )
    _add_ground_truth(compare)
    compare.add_argument("a", type=Path, metavar="A.json", help="baseline results")
    compare.add_argument("b", type=Path, metavar="B.json", help="results to compare with it")
    compare.add_argument(
        "--samples",
        type=count,
        default=1000,
        metavar="N",
        help="number of bootstrap resamples (default: %(default)s)",
    )
    compare.add_argument(
        "--seed", type=number, default=0, metavar="N", help="random seed (default: %(default)s)"
    )
    compare.add_argument(
        "--json", type=OutputFile, metavar="OUT", help="also write the results as JSON"
    )
    add_workers(compare)


def _add_ground_truth(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ground_truth", type=Path, metavar="GT.json", help="ground truth")


def _run_diagnose(arguments: argparse.Namespace) -> None:
    from queryinst_vis.evaluation.diagnosis import diagnose
    from queryinst_vis.evaluation.report import print_diagnosis
    from queryinst_vis.utils.files import files_together, write_json_atomically
    from queryinst_vis.visualization.error_report import draw_error_report

    report = diagnose(arguments.ground_truth, arguments.results, arguments.workers)
    numbers, picture = arguments.out / "report.json", arguments.out / "errors.png"
    with files_together():
        write_json_atomically(numbers, report)
        draw_error_report(report, picture)
    print_diagnosis(report)
    print(f"wrote {numbers} and {picture}")


def _run_compare(arguments: argparse.Namespace) -> None:
    from queryinst_vis.evaluation.confidence import compare_results
    from queryinst_vis.evaluation.report import print_comparison
    from queryinst_vis.utils.files import write_json_atomically

    comparison = compare_results(
        arguments.ground_truth,
        arguments.a,
        arguments.b,
        arguments.samples,
        arguments.seed,
        arguments.workers,
    )
    if arguments.json is not None:
        write_json_atomically(arguments.json, comparison)
    print_comparison(comparison)
