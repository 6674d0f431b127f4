"""Plots of an error diagnosis: AP waterfall, AP by attribute, counts of detection types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from queryinst_vis.evaluation.report import short
from queryinst_vis.utils.files import atomic_path

_HAVE, _GAIN, _LOSS, _PALE = "#1f9bff", "#2fbf5b", "#e8384f", "#a9d6ff"


def draw_error_report(report: Mapping[str, Any], path: str | Path) -> None:
    """Draw what ``evaluation.diagnosis.diagnose`` returned as a PNG.

    Above, how AP grows to 1 as causes are repaired one after the other; below, AP and AP50 in
    the bins of each attribute, and the numbers of each kind of detection.

    Args:
        report: the dict.
        path: the PNG to write, all of it or nothing.

    Raises:
        InputError: the file cannot be written.
    """
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(2, 1))
    _draw_waterfall(figure.add_subplot(grid[0, :]), report)
    _draw_breakdown(figure.add_subplot(grid[1, 0]), report["breakdown"])
    _draw_counts(figure.add_subplot(grid[1, 1]), report["detections"])
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _draw_waterfall(axes: Axes, report: Mapping[str, Any]) -> None:
    steps = dict(report["waterfall"])
    if report["limit"] > 1e-9:
        steps["beyond 100 a video"] = report["limit"]
    axes.bar(0, 100 * report["AP"], color=_HAVE)
    _write(axes, 0, 100 * report["AP"], f"{100 * report['AP']:.1f}")
    reached = report["AP"]
    for position, gain in enumerate(steps.values(), start=1):
        colour = _GAIN if gain >= 0 else _LOSS
        axes.bar(position, 100 * gain, bottom=100 * reached, color=colour)
        axes.plot([position - 1, position + 0.4], [100 * reached] * 2, color="0.6", linewidth=0.7)
        _write(axes, position, 100 * max(reached, reached + gain), f"{100 * gain:+.1f}")
        reached += gain
    names = ["as it is", *(name.replace(" ", "\n") for name in steps)]
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(0, 109)
    _decorate(axes, "AP, %", "What repairing each cause after the one before adds to AP")


def _draw_breakdown(axes: Axes, breakdown: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    position, ticks, labels = 0.0, [], []
    axes.bar(0, 0, color=_HAVE, label="AP (number)")
    axes.bar(0, 0, color=_PALE, label="AP50")
    for attribute, bins in breakdown.items():
        for entry in bins:
            for key, colour in (("AP50", _PALE), ("AP", _HAVE)):
                axes.bar(position, 100 * (entry[key] or 0.0), color=colour)
            _write(axes, position, 100 * (entry["AP50"] or 0.0), f"{100 * (entry['AP'] or 0):.0f}")
            position += 1
        if bins:
            ticks.append(position - (len(bins) + 1) / 2)
            labels.append(f"{attribute}\n{_bounds(bins)}")
        position += 0.8
    axes.set_xticks(ticks, labels, fontsize=8)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylim(0, 122)  # room for the legend above bars of 100
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="upper right")
    _decorate(axes, "%", "By what objects are like, from low to high, and the bounds between")


def _bounds(bins: Sequence[Mapping[str, Any]]) -> str:
    """The bounds between bins, as a line of text."""
    return " | ".join(short(entry["low"]) for entry in bins[1:]) or "all alike"


def _draw_counts(axes: Axes, detections: Mapping[str, int]) -> None:
    bars = axes.barh(range(len(detections)), list(detections.values()), color=_HAVE)
    axes.bar_label(bars, padding=2, fontsize=8)
    names = [name.replace(" and ", "\nand ") for name in detections]
    axes.set_yticks(range(len(detections)), names, fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    _decorate(axes, "", "Detections")
    axes.grid(axis="x", linewidth=0.5, alpha=0.4)


def _write(axes: Axes, x: float, y: float, text: str) -> None:
    axes.annotate(
        text, (x, y), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=8
    )


def _decorate(axes: Axes, label: str, title: str) -> None:
    axes.set_ylabel(label, fontsize=8)
    axes.set_title(title, fontsize=9, loc="left")
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
