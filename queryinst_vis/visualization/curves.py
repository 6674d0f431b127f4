"""The curves of a training as one picture: losses, scores and learning rate over the steps."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from queryinst_vis.utils.files import atomic_path

Curve = list[tuple[int, float]]
"""``(step, value)`` in the order of the steps."""

_MAX_CURVES = 10  # in a panel, so that colours and legend suffice


def draw_curves(metrics: str | Path, path: str | Path) -> None:
    """Draw the metrics of a run as a PNG: the loss, its parts, scores, and the learning rate.

    Args:
        metrics: ``metrics.csv`` of a run.
        path: the PNG to write, all of it or nothing.

    Raises:
        InputError: the picture cannot be written.
    """
    curves = _read(Path(metrics))
    panels = {
        "loss": _chosen(curves, "loss"),
        "losses of the last stage": _last_stage(curves),
        "scores on data.val": _chosen(curves, "val/"),
        "learning rate": _chosen(curves, "lr"),
    }
    shown = {title: group for title, group in panels.items() if group}
    if not shown:
        return
    figure = Figure(figsize=(6.5, 2.6 * len(shown)), layout="constrained")
    for axes, (title, group) in zip(
        figure.subplots(len(shown), squeeze=False)[:, 0], shown.items(), strict=True
    ):
        _draw(axes, title, group)
    axes.set_xlabel("step")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _read(path: Path) -> dict[str, Curve]:
    """The curves of all metrics, by name."""
    curves: dict[str, Curve] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            curves[row["name"]].append((int(row["step"]), float(row["value"])))
    return curves


def _chosen(curves: dict[str, Curve], name: str) -> dict[str, Curve]:
    """The metric of a name, or all whose names begin with it if it ends in a slash."""
    found = {key: curve for key, curve in curves.items() if key == name}
    if name.endswith("/"):
        found = {k.removeprefix(name): c for k, c in curves.items() if k.startswith(name)}
    return dict(list(found.items())[:_MAX_CURVES])


def _last_stage(curves: dict[str, Curve]) -> dict[str, Curve]:
    """The parts of the loss, of all stages those of the last one (``loss/s5.cls``)."""
    parts = {k.removeprefix("loss/"): c for k, c in curves.items() if k.startswith("loss/")}
    stages = [int(k[1:].partition(".")[0]) for k in parts if k[0] == "s" and k[1:2].isdigit()]
    last = f"s{max(stages, default=0)}."
    return {k: c for k, c in parts.items() if k.startswith(last) or "." not in k}


def _draw(axes: Axes, title: str, curves: dict[str, Curve]) -> None:
    for name, curve in curves.items():
        steps, values = zip(*curve, strict=True)
        axes.plot(steps, values, label=name, linewidth=1.2, marker="." if len(curve) < 30 else None)
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(linewidth=0.5, alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        axes.legend(fontsize=7, ncols=2)
