"""The page of an evaluation: how good a result file is, where it fails, and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from queryinst_vis.evaluation.average_precision import METRICS
from queryinst_vis.evaluation.report import percent
from queryinst_vis.evaluation.youtube_vis import evaluate_youtube_vis
from queryinst_vis.report.page import Column, Table, render_page, write_page


def write_evaluation_page(
    gt: str | Path, results: str | Path, out: str | Path, workers: int = 1
) -> None:
    """Write the page of a YouTube-VIS result file.

    Args:
        gt: annotations, as for ``evaluate_youtube_vis``.
        results: the result file, or a zip with ``results.json`` at its root.
        out: the HTML file to write, all of it or nothing.
        workers: processes that share the videos.

    Raises:
        InputError: a file cannot be used, or the page cannot be written.
    """
    metrics = evaluate_youtube_vis(gt, results, workers)
    context = {
        "ground_truth": Path(gt).name,
        "results": Path(results).name,
        "videos": metrics["videos"],
        "figures": [(name, percent(metrics[name])) for name in METRICS],
        "classes": _precision_table("class", metrics["per_class_AP"]),
        "by_video": _precision_table("video", metrics["per_video_AP"]),
    }
    title = f"Evaluation of {Path(results).name}"
    write_page(out, render_page("evaluation.html.j2", title, context))


def _precision_table(title: str, values: dict[str, Any]) -> Table:
    return Table([Column(title), Column("AP, %", percent)], list(values.items()))
