"""The tables of an evaluation report; two result files are columns A and B."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from queryinst_vis.evaluation.report import percent, signed
from queryinst_vis.report.assessment import Assessment
from queryinst_vis.report.page import Column, Table
from queryinst_vis.visualization.error_report import bin_name


def _columns(
    title: str, assessments: Sequence[Assessment], show: Callable[[Any], str] = percent
) -> list[Column]:
    """One column per result file."""
    letters = [""] if len(assessments) == 1 else [" A", " B"]
    return [Column(title + letter, show) for letter in letters]


def metrics_table(assessments: Sequence[Assessment]) -> Table:
    """All metrics of the whole set, with intervals."""
    columns = [Column("metric")]
    for column in _columns("value, %", assessments):
        columns += [column, Column("95 % interval")]
    rows = [
        [name, *(cell for each in assessments for cell in (each.values[name], each.interval(name)))]
        for name in assessments[0].values
    ]
    return Table(columns, rows)


def comparison_table(comparison: dict[str, Any]) -> Table:
    """The result of ``compare_results``."""
    columns = [
        Column("metric"),
        Column("A, %", percent),
        Column("B, %", percent),
        Column("B - A", signed),
        Column("95 % interval"),
        Column("B wins, %", percent),
    ]
    rows = [
        [
            name,
            *(found[key] for key in ("a", "b", "difference")),
            " to ".join(map(signed, found["interval"])),
            found["b_wins"],
        ]
        for name, found in comparison["metrics"].items()
        if found is not None
    ]
    return Table(columns, rows)


def error_types_table(assessments: Sequence[Assessment]) -> Table:
    """AP lost to each error type."""
    columns = [Column("error type")]
    for what in ("alone", "in turn"):
        columns += _columns(what, assessments, signed)
    rows = [
        [
            cause,
            *(each.diagnosis[how][cause] for how in ("alone", "waterfall") for each in assessments),
        ]
        for cause in assessments[0].diagnosis["waterfall"]
    ]
    return Table(
        columns,
        rows,
        "Gain in AP, in percentage points, if this type alone is fixed, or after those above it.",
    )


def classes_table(assessments: Sequence[Assessment]) -> Table:
    """Number of objects and metrics of each class."""
    first = assessments[0]
    columns = [Column("class"), Column("objects", str)]
    for metric in ("AP", *first.tracked_metrics):
        columns += _columns(f"{metric}, %", assessments)
    objects = Counter[str]()
    for entry in first.diagnosis["confusion"]:
        objects[entry["object"]] += entry["count"]
    rows = [
        [
            name,
            objects[name],
            *(each.precision["per_class_AP"][name] for each in assessments),
            *(
                each.of_class(name).get(metric)
                for metric in first.tracked_metrics
                for each in assessments
            ),
        ]
        for name in first.precision["per_class_AP"]
    ]
    return Table(columns, rows)


def attributes_table(assessments: Sequence[Assessment]) -> Table:
    """AP of objects by length, size, speed and occlusion."""
    columns = [Column("attribute"), Column("range"), Column("objects", str)]
    for metric in ("AP", "AP50"):
        columns += _columns(f"{metric}, %", assessments)
    rows = [
        [
            attribute,
            bin_name(entry),
            entry["objects"],
            *(
                each.diagnosis["breakdown"][attribute][number][metric]
                for metric in ("AP", "AP50")
                for each in assessments
            ),
        ]
        for attribute, bins in assessments[0].diagnosis["breakdown"].items()
        for number, entry in enumerate(bins)
    ]
    return Table(columns, rows)


def videos_table(assessments: Sequence[Assessment], unit: str) -> Table:
    """Metrics of each video or image, and the AP that the set loses to it."""
    first = assessments[0]
    columns = [Column(unit)]
    for title in ("AP", "lost AP", *first.tracked_metrics):
        columns += _columns(f"{title}, %", assessments)
    counted = ("IDSW",) if first.tracked_metrics else ()
    for _ in counted:
        columns += _columns("identity switches", assessments, _count)
    tracked = [each.by_video() for each in assessments]
    rows = [
        [
            name,
            *(each.precision["per_video_AP"][name] for each in assessments),
            *(each.diagnosis["lost_per_video"][name] for each in assessments),
            *(
                found.get(name, {}).get(metric)
                for metric in (*first.tracked_metrics, *counted)
                for found in tracked
            ),
        ]
        for name in first.precision["per_video_AP"]
    ]
    note = (
        f"AP: of the {unit} alone. Lost AP: gain in AP of the whole set if all errors in this "
        f"{unit} were fixed."
    )
    return Table(columns, rows, note)


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)
