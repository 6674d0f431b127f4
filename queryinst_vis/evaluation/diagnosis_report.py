"""A diagnosis as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from queryinst_vis.evaluation.report import percent, print_videos

SWITCHES_SHOWN = 10


def print_diagnosis(report: dict[str, Any], console: Console | None = None) -> None:
    """Print what ``diagnose`` returned, fractions in percent.

    Args:
        report: the dict.
        console: where to print; standard output if None.
    """
    console = console or Console()
    console.print(_causes(report))
    console.print(_counts(report))
    console.print(_breakdown(report["breakdown"]))
    _print_switches(report["id_switches"], console)
    print_videos(report["videos"], console)


def _causes(report: dict[str, Any]) -> Table:
    table = _table("cause, % AP", "repaired alone", "in turn", "AP then")
    reached = report["AP"]
    table.add_row("as it is", "", "", percent(reached))
    for cause, gain in report["waterfall"].items():
        reached += gain
        table.add_row(cause, _signed(report["alone"][cause]), _signed(gain), percent(reached))
    if report["limit"] > 1e-9:
        limit = report["limit"]
        table.add_row("beyond 100 a video", "", _signed(limit), percent(reached + limit))
    return table


def _counts(report: dict[str, Any]) -> Table:
    objects = report["objects"]
    table = _table("what there is", "number")
    for kind, number in report["detections"].items():
        table.add_row(f"detections: {kind}", str(number))
    table.add_row("detections that show several objects", str(objects["merged"]))
    table.add_row("objects", str(objects["all"]))
    table.add_row("objects found (IoU .5, right class)", str(objects["found"]))
    table.add_row("objects that several detections show", str(objects["split"]))
    return table


def _breakdown(breakdown: dict[str, Sequence[dict[str, Any]]]) -> Table:
    table = _table("objects by", "from", "to below", "objects", "AP, %", "AP50, %")
    for attribute, bins in breakdown.items():
        for number, entry in enumerate(bins):
            table.add_row(
                attribute if number == 0 else "",
                *("" if entry[key] is None else short(entry[key]) for key in ("low", "high")),
                str(entry["objects"]),
                percent(entry["AP"]),
                percent(entry["AP50"]),
            )
    return table


def short(number: float) -> str:
    """A number in a few characters: whole from 100 on, else two digits that say something."""
    return f"{number:.0f}" if number >= 100 else f"{number:.2g}"


def _print_switches(switches: Sequence[dict[str, Any]], console: Console) -> None:
    if not switches:
        console.print("no identity switches")
        return
    table = Table("video", "class", *_right("object", "frame", "from result", "to result"))
    for switch in switches[:SWITCHES_SHOWN]:
        numbers = (switch[key] for key in ("truth_id", "frame", "before", "after"))
        table.add_row(escape(switch["video"]), escape(switch["class"]), *map(str, numbers))
    console.print(table)
    rest = len(switches) - SWITCHES_SHOWN
    if rest > 0:
        console.print(f"and {rest} more identity switches")


def _table(title: str, *columns: str) -> Table:
    return Table(title, *_right(*columns))


def _right(*columns: str) -> list[Column]:
    return [Column(name, justify="right") for name in columns]


def _signed(gain: float) -> str:
    return f"{100 * gain:+.1f}"
