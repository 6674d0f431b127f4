"""Metrics as tables for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from queryinst_vis.evaluation.average_precision import METRICS, UNDEFINED


def print_metrics(
    metrics: dict[str, Any], console: Console | None = None, per_video: bool = False
) -> None:
    """Print what a function of this room returned, in percent.

    Undefined values (no ground truth) print as a dash.

    Args:
        metrics: one metrics dict, or several by name, which become columns.
        console: where to print; standard output if None.
        per_video: add the table of the videos' own AP, worst first.
    """
    console = console or Console()
    columns = {"segm": metrics} if "AP" in metrics else metrics
    overall = {
        kind: {name: found[name] for name in METRICS if name in found}  # Cityscapes has but two
        for kind, found in columns.items()
    }
    by_class = {f"{kind} AP": found["per_class_AP"] for kind, found in columns.items()}
    console.print(_table("metric, %", overall))
    console.print(_table("class, %", by_class))
    if per_video:
        values = metrics["per_video_AP"]
        names = sorted(values, key=lambda name: (values[name] is None, values[name] or 0.0))
        console.print(_table("video, %", {"segm AP": {name: values[name] for name in names}}))
    if "videos" in metrics:
        print_videos(metrics["videos"], console)


def print_videos(videos: dict[str, Any], console: Console | None = None) -> None:
    """Print on which videos a report is based: how many, and the checksum that names the set."""
    (console or Console()).print(f"{videos['count']} videos, checksum {videos['checksum']}")


def _table(title: str, columns: dict[str, dict[str, float | None]]) -> Table:
    """One row per key of the columns, which all have the same keys."""
    table = Table(title, *(Column(name, justify="right") for name in columns))
    for row in next(iter(columns.values())):
        table.add_row(escape(row), *(percent(values[row]) for values in columns.values()))
    return table


def percent(value: float | None) -> str:
    """A fraction as tables show it: in percent, or a dash where it is undefined."""
    return "-" if value is None or value == UNDEFINED else f"{100 * value:.1f}"
