"""Training curves: losses, scores and learning rate by step."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import altair as alt

from queryinst_vis.errors import InputError
from queryinst_vis.visualization.charts import Chart, records, save_chart

Curve = list[tuple[int, float]]
"""``(step, value)`` in the order of the steps."""

_MAX_CURVES = 10  # per panel, limited by colours and legend
_MAX_POINTS = 1000  # per curve, limited by the resolution
_WIDTH, _HEIGHT = 560, 170


def draw_curves(metrics: str | Path, path: str | Path) -> None:
    """Draw the metrics of a run as a PNG: the loss, its parts, scores, and the learning rate.

    Args:
        metrics: ``metrics.csv`` of a run.
        path: the PNG to write.

    Raises:
        InputError: the file cannot be written.
    """
    charts = curve_charts(read_curves(metrics))
    if charts:
        panels = [
            chart.properties(title=title, width=_WIDTH, height=_HEIGHT)
            for title, chart in charts.items()
        ]
        save_chart(alt.vconcat(*panels).resolve_scale(color="independent"), path)


def read_curves(path: str | Path) -> dict[str, Curve]:
    """The curves of all metrics in a ``metrics.csv``, by name.

    Raises:
        InputError: the file cannot be read, or a row is not ``step,name,value``.
    """
    curves: dict[str, Curve] = defaultdict(list)
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                curves[row["name"]].append((int(row["step"]), float(row["value"])))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: expected rows of step,name,value ({error})") from error
    return dict(curves)


def curve_charts(curves: Mapping[str, Curve], restarts: Sequence[int] = ()) -> dict[str, Chart]:
    """Non-empty charts of a training run, by title.

    Args:
        curves: curves by metric.
        restarts: steps after which the run was resumed, marked in the charts.
    """
    panels = {
        "loss": _chosen(curves, "loss"),
        "losses of the last stage": _last_stage(curves),
        "scores on data.val": _chosen(curves, "val/"),
        "learning rate": _chosen(curves, "lr"),
        "gradient norm": _chosen(curves, "grad_norm"),
        "seconds per step": _chosen(curves, "seconds_per_step"),
    }
    return {title: _chart(group, restarts) for title, group in panels.items() if group}


def _chosen(curves: Mapping[str, Curve], name: str) -> dict[str, Curve]:
    """The metric with a name, or all with this prefix if it ends in a slash."""
    found = {key: curve for key, curve in curves.items() if key == name}
    if name.endswith("/"):
        found = {k.removeprefix(name): c for k, c in curves.items() if k.startswith(name)}
    return dict(list(found.items())[:_MAX_CURVES])


def _last_stage(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """The terms of the loss, for the last stage only (``loss/s5.cls``)."""
    parts = {k.removeprefix("loss/"): c for k, c in curves.items() if k.startswith("loss/")}
    stages = [int(k[1:].partition(".")[0]) for k in parts if k[0] == "s" and k[1:2].isdigit()]
    last = f"s{max(stages, default=0)}."
    return {k: c for k, c in parts.items() if k.startswith(last) or "." not in k}


def _chart(curves: Mapping[str, Curve], restarts: Sequence[int]) -> Chart:
    rows = [
        {"metric": name, "step": step, "value": value}
        for name, curve in curves.items()
        for step, value in curve[:: math.ceil(len(curve) / _MAX_POINTS)]
        if math.isfinite(value)
    ]
    points = any(len(curve) < 30 for curve in curves.values())
    legend = alt.Legend(title=None) if len(curves) > 1 else None
    lines = (
        alt.Chart(records(rows))
        .mark_line(point=points, strokeWidth=1.5)
        .encode(
            x=alt.X("step:Q", axis=alt.Axis(grid=True, format="d")),
            y=alt.Y("value:Q", title=None, axis=alt.Axis(grid=True), scale=alt.Scale(zero=False)),
            color=alt.Color("metric:N", sort=None, legend=legend),
            tooltip=["metric:N", "step:Q", alt.Tooltip("value:Q", format=".4g")],
        )
    )
    if not restarts:
        return lines
    marks = [{"step": step, "what": f"resumed after step {step}"} for step in restarts]
    rules = alt.Chart(records(marks)).mark_rule(strokeDash=[4, 3])
    return alt.layer(rules.encode(x="step:Q", tooltip="what:N"), lines)
