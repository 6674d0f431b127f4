"""A comparison of two result files as a table for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Column, Table

from queryinst_vis.evaluation.confidence import verdict


def print_comparison(comparison: dict[str, Any], console: Console | None = None) -> None:
    """Print what ``compare_results`` returned, in percent, and the verdict on AP.

    Args:
        comparison: the dict.
        console: where to print; standard output if None.
    """
    console = console or Console()
    level = f"{100 * comparison['level']:.0f} %"
    columns = ("A", "B", "B - A", f"{level} interval", "B wins")
    table = Table("metric, %", *(Column(name, justify="right") for name in columns))
    for name, found in comparison["metrics"].items():
        table.add_row(name, *(["-"] * len(columns) if found is None else _row(found)))
    console.print(table)
    console.print(
        f"{comparison['samples']} resamples of {comparison['videos']} videos"
        f" ({comparison['checksum']}), seed {comparison['seed']}; training seeds are not covered"
    )
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
