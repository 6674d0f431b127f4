"""Charts of an evaluation: precision-recall curves, HOTA, classes and confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from queryinst_vis.visualization.charts import HAVE, PALE, Chart, records

_UNIT = alt.Scale(domain=[0, 1])
_ROW = 20  # height of a row in pixels
_MAX_CLASSES = 40
"""Maximum number of classes in a confusion matrix; the most frequent are shown."""

Named = Mapping[str, Mapping[str, Any]]
"""Values of one or two result files, by file name."""


def precision_recall_chart(curves: Named) -> Chart:
    """Precision-recall curves for each IoU threshold, averaged over classes.

    Args:
        curves: ``precision_recall`` of a diagnosis, by result file.
    """
    rows = [
        {"result": name, "IoU": iou, "recall": recall, "precision": precision}
        for name, found in curves.items()
        for iou, values in found["by_iou"].items()
        for recall, precision in zip(found["recall"], values, strict=True)
    ]
    return _lines(rows, "recall", "precision", "IoU", len(curves), ordered=True)


def class_precision_recall_chart(curves: Named) -> Chart:
    """Precision-recall curves of each class at an IoU threshold of 0.5."""
    rows = [
        {"result": name, "class": class_name, "recall": recall, "precision": precision}
        for name, found in curves.items()
        for class_name, values in found["by_class"].items()
        for recall, precision in zip(found["recall"], values, strict=True)
    ]
    return _lines(rows, "recall", "precision", "class", len(curves))


def hota_chart(curves: Named) -> Chart:
    """HOTA, DetA and AssA by IoU threshold, averaged over classes.

    Args:
        curves: ``curves`` of ``evaluate_tracking``, by result file.
    """
    rows = [
        {"result": name, "metric": metric, "IoU": alpha, "value": value}
        for name, classes in curves.items()
        for metric in ("HOTA", "DetA", "AssA")
        for alpha, value in zip(
            next(iter(classes.values()))["alpha"],
            np.mean([found[metric] for found in classes.values()], axis=0).tolist(),
            strict=True,
        )
    ]
    return _lines(rows, "IoU", "value", "metric", len(curves))


def _lines(
    rows: list[dict[str, Any]], x: str, y: str, colour: str, results: int, ordered: bool = False
) -> Chart:
    """Lines between 0 and 1; a click on the legend highlights one."""
    selected = alt.selection_point(fields=[colour], bind="legend")
    kind = "O" if ordered else "N"
    encoding: dict[str, Any] = {
        "x": alt.X(f"{x}:Q", scale=_UNIT, axis=alt.Axis(grid=True)),
        "y": alt.Y(f"{y}:Q", scale=_UNIT, axis=alt.Axis(grid=True)),
        "color": alt.Color(
            f"{colour}:{kind}", sort=None, legend=alt.Legend(symbolLimit=100, columns=1)
        ),
        "opacity": alt.when(selected).then(alt.value(1)).otherwise(alt.value(0.08)),
        "tooltip": [f"{colour}:N", *_numbers(x, y)],
    }
    if results > 1:
        encoding["strokeDash"] = alt.StrokeDash("result:N", sort=None)
        encoding["tooltip"].insert(0, "result:N")
    return alt.Chart(records(rows)).mark_line(clip=True).encode(**encoding).add_params(selected)


def _numbers(*fields: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{field}:Q", format=".3f") for field in fields]


def class_chart(values: Mapping[str, Mapping[str, float | None]]) -> Chart:
    """AP of each class, in descending order.

    Args:
        values: by result file, AP (0..1) by class name, None without ground truth.
    """
    first = next(iter(values.values()))
    defined = [name for name in first if first[name] is not None]
    order = sorted(defined, key=lambda name: -(first[name] or 0.0))
    rows = [
        {"result": result, "class": name, "AP": 100 * (by_class[name] or 0.0)}
        for result, by_class in values.items()
        for name in order
    ]
    encoding: dict[str, Any] = {
        "y": alt.Y("class:N", sort=order, title=None),
        "x": alt.X("AP:Q", title="AP, %", scale=alt.Scale(domain=[0, 100]), stack=None),
        "tooltip": ["class:N", "result:N", alt.Tooltip("AP:Q", format=".1f")],
    }
    height = _ROW * max(len(rows), 2)
    if len(values) == 1:
        bars = alt.Chart(records(rows), height=height).mark_bar(color=HAVE)
        return bars.encode(**encoding)
    encoding["yOffset"] = alt.YOffset("result:N", sort=None)
    colours = alt.Scale(domain=list(values), range=[PALE, HAVE])
    encoding["color"] = alt.Color("result:N", scale=colours, legend=alt.Legend(orient="top"))
    return alt.Chart(records(rows), height=height).mark_bar().encode(**encoding)


def confusion_chart(confusion: Sequence[Mapping[str, Any]]) -> Chart:
    """Confusion matrix of classes; the colour is the fraction of the class's objects.

    Args:
        confusion: ``confusion`` of a diagnosis.
    """
    totals: dict[str, int] = {}
    for entry in confusion:
        totals[entry["object"]] = totals.get(entry["object"], 0) + entry["count"]
    shown = sorted(totals, key=lambda name: -totals[name])[:_MAX_CLASSES]
    names = [name for name in totals if name in shown]
    rows = [
        {
            "object": entry["object"],
            "found as": entry["found_as"] or "nothing",
            "count": entry["count"],
            "share": entry["count"] / totals[entry["object"]],
        }
        for entry in confusion
        if entry["object"] in shown
    ]
    others = {row["found as"] for row in rows} - set(names) - {"nothing"}
    base = alt.Chart(records(rows)).encode(
        y=alt.Y("object:N", sort=names, title="object"),
        x=alt.X(
            "found as:N",
            sort=[*names, *sorted(others), "nothing"],
            title="found as",
            axis=alt.Axis(labelAngle=-45),
        ),
    )
    cells = base.mark_rect().encode(
        color=alt.Color("share:Q", scale=alt.Scale(domain=[0, 1], scheme="blues"), legend=None),
        tooltip=["object:N", "found as:N", "count:Q", alt.Tooltip("share:Q", format=".0%")],
    )
    ink = alt.when(alt.datum.share > 0.5).then(alt.value("white")).otherwise(alt.value("black"))
    return alt.layer(
        cells,
        base.mark_text(fontSize=10).encode(text="count:Q", color=ink),
        height=_ROW * max(len(names), 2),
    )
