"""``queryinst-vis eval-video``, ``eval-image``, ``eval-cityscapes`` and ``eval-tracking``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from queryinst_vis.cli.arguments import Commands, OutputFile, add_command, add_workers, count
from queryinst_vis.errors import InputError


def add(commands: Commands) -> None:
    """Add the commands."""
    _add_video(commands)
    _add_image(commands)
    _add_cityscapes(commands)
    _add_tracking(commands)


def _add_video(commands: Commands) -> None:
    parser = add_command(
        commands,
        "eval-video",
        _run_video,
        "Evaluate a YouTube-VIS result file against its ground truth.",
        "The results are identical to those of the YouTube-VIS API.",
        "queryinst-vis eval-video ground_truth.json results.json --json scores.json",
        "queryinst-vis eval-video ovis_train.json results.zip --per-video --workers 4",
        "queryinst-vis eval-video ground_truth.json results.json --tracking --threshold 0.5",
    )
    _add_arguments(parser)
    parser.add_argument(
        "--per-video", action="store_true", help="also print the AP of every video, worst first"
    )
    add_workers(parser)
    _add_confidence(parser)
    parser.add_argument(
        "--tracking",
        action="store_true",
        help="also print HOTA, IDF1 and MOTA as eval-tracking does, from the same pass over the "
        "files",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="S",
        help="with --tracking: minimum score of tracks (default: 0); AP uses all tracks",
    )


def _add_image(commands: Commands) -> None:
    parser = add_command(
        commands,
        "eval-image",
        _run_image,
        "Evaluate a COCO result file against its ground truth.",
        "Prints COCO mask AP and box AP.",
        "queryinst-vis eval-image instances_val2017.json results.json --json scores.json",
    )
    _add_arguments(parser)
    parser.add_argument(
        "--backend",
        choices=("pycocotools", "hotcoco"),
        default="pycocotools",
        help="implementation; hotcoco (pip install 'queryinst-vis[hotcoco]') is several times as "
        "fast with identical results (default: %(default)s)",
    )


def _add_cityscapes(commands: Commands) -> None:
    parser = add_command(
        commands,
        "eval-cityscapes",
        _run_cityscapes,
        "Evaluate a result file of test-image with the metric of the Cityscapes benchmark.",
        "Average precision is computed by the package cityscapesscripts.",
        "queryinst-vis eval-cityscapes data/cityscapes/annotations/instances_val.json "
        "results.json data/cityscapes/gtFine/val --json scores.json",
    )
    _add_arguments(parser)
    parser.add_argument(
        "gt_dir", type=Path, metavar="GT_DIR", help="instance maps of the split, e.g. gtFine/val"
    )
    parser.add_argument(
        "--zip", type=OutputFile, metavar="FILE", help="also write the results as a zip for upload"
    )


def _add_tracking(commands: Commands) -> None:
    parser = add_command(
        commands,
        "eval-tracking",
        _run_tracking,
        "Compute HOTA, IDF1, MOTA (MOTSA) and identities per object of a result file.",
        "All metrics use masks; HOTA, IDF1 and MOTA are identical to trackeval's. Unlike AP,\n"
        "these metrics ignore the ranking by score: a track with a low score counts like any\n"
        "other. For results made for AP, choose a --threshold on videos other than those that you\n"
        "report.",
        "queryinst-vis eval-tracking ground_truth.json results.json --threshold 0.5",
        "queryinst-vis eval-tracking ground_truth.json results.json --per-video --json scores.json",
    )
    _add_arguments(parser)
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="S",
        help="minimum score of tracks (default: %(default)s)",
    )
    parser.add_argument(
        "--class-agnostic",
        action="store_true",
        help="ignore classes, as if there were only one",
    )
    parser.add_argument("--per-video", action="store_true", help="also print tables per video")
    _add_confidence(parser)


def _add_confidence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--confidence",
        type=count,
        metavar="N",
        help="also print 95 %% confidence intervals from N bootstrap resamples, e.g. 1000",
    )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ground_truth", type=Path, metavar="GT.json", help="ground truth")
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="result file")
    parser.add_argument(
        "--json", type=OutputFile, metavar="OUT", help="also write the results as JSON"
    )


def _run_video(arguments: argparse.Namespace) -> None:
    from queryinst_vis.evaluation import evaluate_youtube_vis
    from queryinst_vis.evaluation.confidence import evaluate_with_confidence
    from queryinst_vis.evaluation.one_pass import evaluate_with_tracking
    from queryinst_vis.evaluation.report import print_intervals

    samples, workers = arguments.confidence, arguments.workers
    if arguments.tracking:
        threshold = arguments.threshold or 0.0
        evaluate = partial(
            evaluate_with_tracking, threshold=threshold, workers=workers, samples=samples
        )
    elif arguments.threshold is not None:
        raise InputError("--threshold: AP uses tracks of all scores; add --tracking")
    elif samples is not None:
        evaluate = partial(evaluate_with_confidence, samples=samples, workers=workers)
    else:
        evaluate = partial(evaluate_youtube_vis, workers=workers)
    metrics = _score(arguments, evaluate, per_video=arguments.per_video)
    if samples is not None:
        print_intervals(metrics)
    if arguments.tracking:
        _print_tracking(metrics["tracking"], arguments)


def _run_image(arguments: argparse.Namespace) -> None:
    from queryinst_vis.evaluation import evaluate_coco

    _score(arguments, partial(evaluate_coco, backend=arguments.backend))


def _run_cityscapes(arguments: argparse.Namespace) -> None:
    from queryinst_vis.evaluation import evaluate_cityscapes, write_cityscapes_zip

    if arguments.zip is not None:
        write_cityscapes_zip(arguments.ground_truth, arguments.results, arguments.zip)
        print(f"wrote {arguments.zip}")
    _score(arguments, partial(evaluate_cityscapes, gt_dir=arguments.gt_dir))


def _score(
    arguments: argparse.Namespace,
    evaluate: Callable[[Path, Path], dict[str, Any]],
    per_video: bool = False,
) -> dict[str, Any]:
    from queryinst_vis.evaluation.report import print_metrics
    from queryinst_vis.utils.files import write_json_atomically

    metrics = evaluate(arguments.ground_truth, arguments.results)
    if arguments.json is not None:
        write_json_atomically(arguments.json, metrics)
    print_metrics(metrics, per_video=per_video)
    return metrics


def _run_tracking(arguments: argparse.Namespace) -> None:
    from queryinst_vis.evaluation import evaluate_tracking
    from queryinst_vis.evaluation.tracking_confidence import evaluate_tracking_with_confidence
    from queryinst_vis.utils.files import write_json_atomically

    samples = arguments.confidence
    evaluate = evaluate_tracking
    if samples is not None:
        evaluate = partial(evaluate_tracking_with_confidence, samples=samples)
    metrics = evaluate(
        arguments.ground_truth,
        arguments.results,
        threshold=arguments.threshold,
        class_agnostic=arguments.class_agnostic,
    )
    if arguments.json is not None:
        write_json_atomically(arguments.json, metrics)
    _print_tracking(metrics, arguments)


def _print_tracking(metrics: dict[str, Any], arguments: argparse.Namespace) -> None:
    from queryinst_vis.evaluation.report import print_intervals, print_tracking

    print_tracking(metrics, per_video=arguments.per_video)
    if arguments.confidence is not None:
        print_intervals({**metrics, **metrics["class_averaged"]})
