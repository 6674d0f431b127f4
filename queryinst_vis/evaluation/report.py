"""Print the results of this package as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from queryinst_vis.evaluation.average_precision import METRICS, UNDEFINED
from queryinst_vis.evaluation.confidence import verdict
from queryinst_vis.evaluation.coverage import RATIOS
from queryinst_vis.evaluation.diagnosis import Diagnosis
from queryinst_vis.evaluation.tracking_metrics import COUNTS

SWITCHES_SHOWN = 10

TRACKING_TABLES = {
    "HOTA, %": ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA"),
    "identity, %": ("IDF1", "IDR", "IDP", "IDSW", "Frag", "MT", "PT", "ML"),
    "CLEAR MOT, %": ("MOTA", "sMOTA", "MOTP", "TP", "FN", "FP"),
    "identities": (
        "objects",
        "objects_found",
        "identities",
        "identities_matched",
        "identities_per_object",
        "objects_per_identity",
    ),
}
"""Columns of the tables of ``print_tracking``, split to fit the width of a terminal."""

VIDEO_TABLES = (
    ("HOTA", "DetA", "AssA", "IDF1", "MOTA", "IDSW", "Frag"),
    (
        "objects",
        "objects_found",
        "identities_per_object",
        "objects_per_identity",
        "IDSW",
        "HOTA",
        "IDF1",
    ),
)
"""Columns of the per-video tables of ``print_tracking``."""

HEADINGS = {
    "objects_found": "found",
    "identities": "ids",
    "identities_matched": "matched",
    "identities_per_object": "ids/object",
    "objects_per_identity": "objects/id",
}
"""Column headings that are shorter than the names of the metrics."""


def print_metrics(metrics: dict[str, Any], per_video: bool = False) -> None:
    """Print what an ``evaluate_...`` function returned, in percent; undefined values as a dash.

    Args:
        metrics: one metrics dict, or several by name, which become columns.
        per_video: add a table of per-video AP, worst first.
    """
    columns = {"segm": metrics} if "AP" in metrics else metrics
    overall = {
        kind: {name: found[name] for name in METRICS if name in found}  # Cityscapes has only two
        for kind, found in columns.items()
    }
    by_class = {f"{kind} AP": found["per_class_AP"] for kind, found in columns.items()}
    _print_percents("metric, %", overall)
    _print_percents("class, %", by_class)
    if per_video:
        values = metrics["per_video_AP"]
        names = sorted(values, key=lambda name: (values[name] is None, values[name] or 0.0))
        _print_percents("video, %", {"segm AP": {name: values[name] for name in names}})
    if "videos" in metrics:
        _print_videos(metrics["videos"])


def _print_percents(title: str, columns: Mapping[str, Mapping[str, float | None]]) -> None:
    """Print a row per key of the columns, which all have the same keys."""
    table = _table(title, *columns)
    for row in next(iter(columns.values())):
        table.add_row(escape(row), *(percent(values[row]) for values in columns.values()))
    Console().print(table)


def _print_videos(videos: dict[str, Any]) -> None:
    """Print the number of videos and the checksum of the set."""
    Console().print(f"{videos['count']} videos, checksum {videos['checksum']}")


def _table(title: str, *columns: str) -> Table:
    """An empty table; all columns but the first are right-aligned."""
    return Table(title, *(Column(name, justify="right") for name in columns))


def percent(value: float | None) -> str:
    """A fraction in percent, or a dash if it is undefined."""
    if value is None or value == UNDEFINED or not math.isfinite(value):
        return "-"
    return f"{100 * value:.1f}"


def signed(gain: float) -> str:
    """A difference of fractions in percent, with sign."""
    return f"{100 * gain:+.1f}"


def print_intervals(metrics: dict[str, Any]) -> None:
    """Print the intervals of what ``evaluate_with_confidence`` returned, in percent.

    Args:
        metrics: values by name, with ``confidence`` and ``videos``.
    """
    confidence = metrics["confidence"]
    table = _table("metric, %", "value", _interval_title(confidence))
    for name, interval in confidence["intervals"].items():
        if interval is not None:
            low, high = map(percent, interval)
            table.add_row(name, percent(metrics[name]), f"{low} to {high}")
    Console().print(table)
    _print_basis(confidence, metrics["videos"])


def print_comparison(comparison: dict[str, Any]) -> None:
    """Print what ``compare_results`` returned, in percent, and the verdict on AP."""
    columns = ("A", "B", "B - A", _interval_title(comparison), "B wins")
    table = _table("metric, %", *columns)
    for name, found in comparison["metrics"].items():
        cells = ["-"] * len(columns)
        if found is not None:
            low, high = map(signed, found["interval"])
            values = (percent(found["a"]), percent(found["b"]), signed(found["difference"]))
            cells = [*values, f"{low} to {high}", f"{100 * found['b_wins']:.0f}"]
        table.add_row(name, *cells)
    Console().print(table)
    _print_basis(comparison, comparison["videos"])
    Console().print(verdict(comparison), markup=False, highlight=False, soft_wrap=True)


def _interval_title(settings: dict[str, Any]) -> str:
    return f"{100 * settings['level']:.0f} % interval"


def _print_basis(settings: dict[str, Any], videos: dict[str, Any]) -> None:
    """Print the basis of intervals, and what they do not cover."""
    Console().print(
        f"{settings['samples']} resamples (seed {settings['seed']}) of {videos['count']} videos,"
        f" checksum {videos['checksum']}; the variance between training runs is not covered"
    )


def print_tracking(metrics: dict[str, Any], per_video: bool = False) -> None:
    """Print what ``evaluate_tracking`` returned, fractions in percent.

    Args:
        metrics: the dict.
        per_video: add per-video tables.
    """
    rows = dict(metrics["per_class"])
    if len(rows) > 1:
        rows["mean of classes"] = metrics["class_averaged"]
        rows["all pooled"] = metrics["detection_averaged"]
    for title, names in TRACKING_TABLES.items():
        _print_tracking_table(title, names, rows)
    if per_video:
        videos = {found["video"]: found for found in metrics["per_video"]}
        for names in VIDEO_TABLES:
            _print_tracking_table("video", names, videos)
    _print_videos(metrics["videos"])
    Console().print("On masks MOTA is MOTSA, sMOTA is sMOTSA and MOTP is MOTSP.")


def _print_tracking_table(
    title: str, names: Sequence[str], rows: Mapping[str, dict[str, Any] | None]
) -> None:
    table = _table(title, *(HEADINGS.get(name, name) for name in names))
    for row, found in rows.items():
        table.add_row(
            escape(row), *("-" if found is None else _tracking_text(found, n) for n in names)
        )
    Console().print(table)


def _tracking_text(found: dict[str, Any], name: str) -> str:
    value = found[name]
    if name in COUNTS:
        return str(value)
    if name in RATIOS:
        return "-" if value is None else f"{value:.2f}"
    return f"{100 * value:.1f}"


def print_diagnosis(report: Diagnosis) -> None:
    """Print what ``diagnose`` returned, fractions in percent."""
    for table in (_error_types(report), _counts(report), _breakdown(report["breakdown"])):
        Console().print(table)
    _print_switches(report["id_switches"])
    _print_videos(report["videos"])


def _error_types(report: Diagnosis) -> Table:
    table = _table("error type, % AP", "alone", "in turn", "AP after")
    reached = report["AP"]
    table.add_row("unmodified", "", "", percent(reached))
    for error_type, gain in report["waterfall"].items():
        reached += gain
        table.add_row(
            error_type, signed(report["alone"][error_type]), signed(gain), percent(reached)
        )
    if report["limit"] > 1e-9:
        limit = report["limit"]
        table.add_row("more than 100 per video", "", signed(limit), percent(reached + limit))
    return table


def _counts(report: Diagnosis) -> Table:
    objects = report["objects"]
    table = _table("detections and objects", "number")
    for kind, number in report["detections"].items():
        table.add_row(f"detections: {kind}", str(number))
    table.add_row("detections that cover several objects", str(objects["merged"]))
    table.add_row("objects", str(objects["all"]))
    table.add_row("objects found (IoU .5, correct class)", str(objects["found"]))
    table.add_row("objects covered by several detections", str(objects["split"]))
    return table


def _breakdown(breakdown: Mapping[str, Sequence[dict[str, Any]]]) -> Table:
    table = _table("objects by", "from", "below", "objects", "AP, %", "AP50, %")
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
    """A number with two significant digits, or rounded to an integer above 100."""
    return f"{number:.0f}" if number >= 100 else f"{number:.2g}"


def _print_switches(switches: Sequence[dict[str, Any]]) -> None:
    if not switches:
        Console().print("no identity switches")
        return
    table = _table("video", "class", "object", "frame", "from result", "to result")
    table.columns[1].justify = "left"
    for switch in switches[:SWITCHES_SHOWN]:
        numbers = (switch[key] for key in ("ground_truth_id", "frame", "before", "after"))
        table.add_row(escape(switch["video"]), escape(switch["class"]), *map(str, numbers))
    Console().print(table)
    rest = len(switches) - SWITCHES_SHOWN
    if rest > 0:
        Console().print(f"and {rest} more identity switches")
