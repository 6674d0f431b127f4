"""Plots of dataset statistics: bar charts of counts, and histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

from queryinst_vis.visualization.charts import GAIN, HAVE, LOSS, Chart, records, save_chart

_WIDTH, _HEIGHT, _BAR, _MAX_HEIGHT = 560, 260, 18, 4000  # pixels
_ORANGE = "#ff7a1a"
_MAX_BINS = 40


def draw_bars(counts: Mapping[str, int], title: str, unit: str, path: str | Path) -> None:
    """Draw one horizontal bar per name as a PNG, the first on top.

    Args:
        counts: length of each bar.
        title: what is counted.
        unit: label of the axis.
        path: the PNG to write.

    Raises:
        InputError: the file cannot be written.
    """
    height = min(_BAR * max(len(counts), 4), _MAX_HEIGHT)
    chart = bar_chart(counts, title, unit)
    save_chart(chart.properties(width=_WIDTH, height=height), path)


def bar_chart(counts: Mapping[str, int], title: str, unit: str) -> Chart:
    """One horizontal bar per name, the first on top."""
    rows = [{"name": name, "count": count} for name, count in counts.items()]
    base = alt.Chart(records(rows)).encode(
        y=alt.Y("name:N", sort=None, title=None),
        x=alt.X("count:Q", title=unit, axis=alt.Axis(grid=True, format="d", tickMinStep=1)),
        tooltip=["name:N", "count:Q"],
    )
    labels = base.mark_text(align="left", dx=4).encode(text="count:Q")
    return alt.layer(base.mark_bar(color=HAVE), labels, title=title)


def draw_histogram(
    values: Sequence[float],
    title: str,
    unit: str,
    counted: str,
    path: str | Path,
    marks: Mapping[str, float] | None = None,
    limit: float | None = None,
) -> None:
    """Draw a histogram with its median as a PNG.

    Args:
        values: the values; integers get one bin each if the range is small.
        title: of the plot.
        unit: label of the horizontal axis.
        counted: label of the vertical axis: what is counted.
        path: the PNG to write.
        marks: named positions, drawn as dashed lines.
        limit: larger values are counted in the last bin, to limit the effect of outliers.

    Raises:
        InputError: the file cannot be written.
    """
    chart = histogram(values, title, unit, counted, marks, limit)
    save_chart(chart.properties(width=_WIDTH, height=_HEIGHT), path)


def histogram(
    values: Sequence[float],
    title: str,
    unit: str,
    counted: str,
    marks: Mapping[str, float] | None = None,
    limit: float | None = None,
) -> Chart:
    """A histogram with its median; the arguments are those of ``draw_histogram``."""
    numbers = np.asarray(values, dtype=float)
    if limit is not None:
        numbers = numbers.clip(max=limit)
        unit = f"{unit} ({limit:g} and more in the last bin)"
    rows: list[dict[str, Any]] = []
    if numbers.size:
        counts, edges = np.histogram(numbers, _bins(numbers))
        rows = [
            {"low": low, "high": high, "count": count}
            for (low, high), count in zip(pairwise(edges.tolist()), counts.tolist(), strict=True)
        ]
    bars = (
        alt.Chart(records(rows))
        .mark_bar(color=HAVE)
        .encode(
            x=alt.X("low:Q", title=unit, scale=alt.Scale(zero=False, nice=False)),
            x2="high:Q",
            y=alt.Y("count:Q", title=counted, axis=alt.Axis(grid=True, format="d", tickMinStep=1)),
            y2=alt.datum(0),
            tooltip=["low:Q", "high:Q", "count:Q"],
        )
    )
    lines = dict(marks or {})
    if numbers.size:
        lines = {"median": float(np.median(numbers)), **lines}
    return alt.layer(bars, _lines(lines), title=title)


def _lines(positions: Mapping[str, float]) -> alt.Chart:
    """Vertical lines with a legend: the median solid, others dashed."""
    rows: list[dict[str, Any]] = [{"name": name, "at": at} for name, at in positions.items()]
    names = list(positions)
    dashes = [[1, 0] if name == "median" else [5, 3] for name in names]
    others = iter([LOSS, _ORANGE, GAIN])
    colours = ["black" if name == "median" else next(others) for name in names]
    legend = alt.Legend(title=None, orient="top") if names else None
    return (
        alt.Chart(records(rows))
        .mark_rule()
        .encode(
            x="at:Q",
            color=alt.Color("name:N", scale=alt.Scale(domain=names, range=colours), legend=legend),
            strokeDash=alt.StrokeDash(
                "name:N", scale=alt.Scale(domain=names, range=dashes), legend=legend
            ),
            tooltip=["name:N", "at:Q"],
        )
    )


def _bins(numbers: np.ndarray) -> list[float] | int:
    low, high = numbers.min(), numbers.max()
    if (numbers == numbers.round()).all() and high - low < _MAX_BINS:
        return list(np.arange(low, high + 2) - 0.5)  # bins are centred on integers
    return _MAX_BINS
