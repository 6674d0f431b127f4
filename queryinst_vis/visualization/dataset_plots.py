"""Plots of data set statistics: bar charts of counts, and histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from queryinst_vis.utils.files import atomic_path

_WIDTH, _HEIGHT, _BAR, _MAX_HEIGHT = 7.0, 3.6, 0.22, 40.0  # inches
_COLOUR = "#1f9bff"
_MAX_BINS = 40


def draw_bars(counts: Mapping[str, int], title: str, unit: str, path: str | Path) -> None:
    """Draw one horizontal bar per name as a PNG, the first on top.

    Args:
        counts: length of each bar.
        title: what is counted.
        unit: label of the axis.
        path: the PNG to write, all of it or nothing.

    Raises:
        InputError: the file cannot be written.
    """
    height = min(1.2 + _BAR * max(len(counts), 4), _MAX_HEIGHT)
    figure, axes = _figure(height, title)
    bars = axes.barh(range(len(counts)), list(counts.values()), color=_COLOUR)
    axes.bar_label(bars, padding=2, fontsize=7)
    axes.set_yticks(range(len(counts)), list(counts), fontsize=8)
    axes.set_ylim(max(len(counts), 1) - 0.4, -0.6)
    axes.margins(x=0.1)
    axes.set_xlabel(unit)
    axes.grid(axis="x", linewidth=0.5, alpha=0.4)
    _save(figure, path)


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
        values: any number of them; integers get a bin each where they span few values.
        title: what they are.
        unit: label of the horizontal axis.
        counted: label of the vertical axis: what is counted.
        path: the PNG to write, all of it or nothing.
        marks: named positions that are drawn as dashed lines.
        limit: larger values are counted in the last bin, so that outliers do not flatten the rest.

    Raises:
        InputError: the file cannot be written.
    """
    figure, axes = _figure(_HEIGHT, title)
    numbers = np.asarray(values, dtype=float)
    if limit is not None:
        numbers = numbers.clip(max=limit)
        unit = f"{unit} ({limit:g} and more in the last bin)"
    if numbers.size:
        axes.hist(numbers, bins=_bins(numbers), color=_COLOUR, edgecolor="white", linewidth=0.4)
        axes.axvline(np.median(numbers), color="black", linewidth=1, label="median")
    for number, (name, position) in enumerate((marks or {}).items()):
        colour = ("#e8384f", "#ff7a1a", "#2fbf5b")[number % 3]
        axes.axvline(position, color=colour, linestyle="--", linewidth=1, label=name)
    axes.set_xlabel(unit)
    axes.set_ylabel(counted)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", linewidth=0.5, alpha=0.4)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    _save(figure, path)


def _bins(numbers: np.ndarray) -> list[float] | int:
    low, high = numbers.min(), numbers.max()
    if (numbers == numbers.round()).all() and high - low < _MAX_BINS:
        return list(np.arange(low, high + 2) - 0.5)  # integers stand in the middle of their bins
    return _MAX_BINS


def _figure(height: float, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: str | Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
