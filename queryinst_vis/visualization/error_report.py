"""Charts of an error diagnosis: AP waterfall, AP by attribute, counts of detection types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt

from queryinst_vis.evaluation.report import percent, short
from queryinst_vis.visualization.charts import GAIN, HAVE, LOSS, PALE, Chart, records, save_chart

_AP = alt.Scale(domain=[0, 100])


def draw_error_report(report: Mapping[str, Any], path: str | Path) -> None:
    """Draw the result of ``evaluation.diagnosis.diagnose`` as a PNG.

    Top: AP, which grows to 1 as error types are fixed one after another. Bottom: AP and AP50 by
    attribute, and the number of detections of each kind.

    Args:
        report: the result.
        path: the PNG to write.

    Raises:
        InputError: the file cannot be written.
    """
    below = alt.hconcat(
        breakdown_chart(report["breakdown"]).properties(width=400, height=220),
        counts_chart(report["detections"]).properties(width=220, height=220),
    ).resolve_scale(color="independent")
    above = waterfall_chart(report).properties(width=760, height=220)
    save_chart(alt.vconcat(above, below).resolve_scale(color="independent"), path)


def waterfall_chart(report: Mapping[str, Any]) -> Chart:
    """How AP grows to 100 % as error types are fixed one after another."""
    steps = {"unmodified": report["AP"], **report["waterfall"]}
    if report["limit"] > 1e-9:
        steps["beyond 100 per video"] = report["limit"]
    rows: list[dict[str, Any]] = []
    reached = 0.0
    for name, gain in steps.items():
        kind = "AP" if not rows else "gain" if gain >= 0 else "loss"
        text = percent(gain) if not rows else f"{100 * gain:+.1f}"
        start, end = 100 * reached, 100 * (reached + gain)
        top = max(start, end)
        rows.append(
            {"error type": name, "start": start, "end": end, "top": top, "text": text, "is": kind}
        )
        reached += gain
    base = alt.Chart(records(rows)).encode(
        x=alt.X("error type:N", sort=None, title=None, axis=alt.Axis(labelAngle=-30))
    )
    bars = base.mark_bar().encode(
        y=alt.Y("start:Q", title="AP, %", scale=_AP),
        y2="end:Q",
        color=alt.Color(
            "is:N",
            scale=alt.Scale(domain=["AP", "gain", "loss"], range=[HAVE, GAIN, LOSS]),
            legend=None,
        ),
        tooltip=["error type:N", alt.Tooltip("text:N", title="AP, %"), _of("end", "AP then, %")],
    )
    labels = base.mark_text(dy=-7).encode(y="top:Q", text="text:N")
    title = "Gain in AP as error types are fixed one after another"
    return alt.layer(bars, labels, title=title)


def breakdown_chart(breakdown: Mapping[str, Sequence[Mapping[str, Any]]]) -> Chart:
    """AP and AP50 of objects in the bins of each attribute."""
    rows = [
        {
            "attribute": attribute,
            "bin": f"{attribute} {bin_name(entry)}",
            "objects": entry["objects"],
            "metric": metric,
            "value": 100 * (entry[metric] or 0.0),
        }
        for attribute, bins in breakdown.items()
        for entry in bins
        for metric in ("AP50", "AP")
    ]
    return (
        alt.Chart(records(rows), title="AP by attribute of the objects")
        .mark_bar()
        .encode(
            x=alt.X("bin:N", sort=None, title=None, axis=alt.Axis(labelAngle=-40)),
            y=alt.Y("value:Q", title="%", scale=_AP, stack=None),
            color=alt.Color(
                "metric:N",
                title=None,
                scale=alt.Scale(domain=["AP50", "AP"], range=[PALE, HAVE]),
                legend=alt.Legend(orient="top", direction="horizontal"),
            ),
            tooltip=["bin:N", "metric:N", _of("value", "%"), "objects:Q"],
        )
    )


def bin_name(entry: Mapping[str, Any]) -> str:
    """The bounds of a bin in a few characters, e.g. "4 to 9" or "from 9"."""
    low, high = (None if entry[key] is None else short(entry[key]) for key in ("low", "high"))
    if low is None:
        return "all" if high is None else f"below {high}"
    return f"from {low}" if high is None else f"{low} to {high}"


def counts_chart(detections: Mapping[str, int]) -> Chart:
    """Number of detections of each kind."""
    rows = [{"kind": kind, "count": number} for kind, number in detections.items()]
    base = alt.Chart(records(rows)).encode(
        y=alt.Y("kind:N", sort=None, title=None),
        x=alt.X("count:Q", title=None, axis=alt.Axis(grid=True, tickCount=4)),
    )
    bars = base.mark_bar(color=HAVE).encode(tooltip=["kind:N", "count:Q"])
    labels = base.mark_text(align="left", dx=4).encode(text="count:Q")
    return alt.layer(bars, labels, title="Detections", height=160)


def _of(field: str, title: str) -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", title=title, format=".1f")
