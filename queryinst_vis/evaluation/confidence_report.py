"""Intervals, and comparisons of two result files, as tables for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Column, Table

from queryinst_vis.evaluation.confidence import verdict


def print_intervals(metrics: dict[str, Any], console: Console | None = None) -> None:
    """Print the intervals of what ``evaluate_with_confidence`` returned, in percent.

    Args:
        metrics: the dict.
        console: where to print; standard output if None.
    """
    console = console or Console()
    confidence = metrics["confidence"]
    table = Table("metric, %", *_right("value", _interval_title(confidence)))
    for name, interval in confidence["intervals"].items():
        if interval is not None:
            low, high = interval
            table.add_row(
                name, f"{100 * metrics[name]:.1f}", f"{100 * low:.1f} to {100 * high:.1f}"
            )
    console.print(table)
    console.print(_basis({**confidence, "videos": metrics["videos"]}))


def print_comparison(comparison: dict[str, Any], console: Console | None = None) -> None:
    """Print what ``compare_results`` returned, in percent, and the verdict on AP.

    Args:
        comparison: the dict.
        console: where to print; standard output if None.
    """
    console = console or Console()
    columns = ("A", "B", "B - A", _interval_title(comparison), "B wins")
    table = Table("metric, %", *_right(*columns))
    for name, found in comparison["metrics"].items():
        table.add_row(name, *(["-"] * len(columns) if found is None else _row(found)))
    console.print(table)
    console.print(_basis(comparison))
    console.print(verdict(comparison), markup=False, highlight=False, soft_wrap=True)


def _row(found: dict[str, Any]) -> list[str]:
    low, high = found["interval"]
    return [
        f"{100 * found['a']:.1f}",
        f"{100 * found['b']:.1f}",
        f"{100 * found['difference']:+.1f}",
        f"{100 * low:+.1f} to {100 * high:+.1f}",
        f"{100 * found['b_wins']:.0f}",
    ]


def _right(*columns: str) -> list[Column]:
    return [Column(name, justify="right") for name in columns]


def _interval_title(settings: dict[str, Any]) -> str:
    return f"{100 * settings['level']:.0f} % interval"


def _basis(settings: dict[str, Any]) -> str:
    """What the intervals rest on, and what they leave out."""
    videos = settings["videos"]
    return (
        f"{settings['samples']} resamples (seed {settings['seed']}) of {videos['count']} videos,"
        f" checksum {videos['checksum']}; training seeds are not covered"
    )
