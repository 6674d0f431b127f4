"""Accuracy against speed, from benchmark files (paper Fig. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import altair as alt
import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import read_json
from queryinst_vis.utils.numbers import is_finite
from queryinst_vis.visualization.charts import Chart, records, save_chart

_MAX_FPS = 1e6
_WIDTH, _HEIGHT = 620, 400  # pixels of the plot
_SHAPES = ["circle", "square", "diamond", "triangle-down", "triangle-up", "cross", "stroke"]
_NO_DEVICE = "device not given"
_POINT = 9  # diameter of a point in pixels
_FONT, _LETTER, _LINE = 11, 6.6, 13  # pixels: font size, maximum letter width, line height
_PLACES = [  # of labels: offset of the anchor from the point, position of the anchor in the box
    (x * distance, y * distance, across, down)
    for distance in (9, 18, 30)
    for x, y, across, down in (
        (1, 0, 0.0, 0.5),
        (-1, 0, 1.0, 0.5),
        (0, -1, 0.5, 1.0),
        (0, 1, 0.5, 0.0),
        (0.7, -0.7, 0.0, 1.0),
        (-0.7, -0.7, 1.0, 1.0),
        (0.7, 0.7, 0.0, 0.0),
        (-0.7, 0.7, 1.0, 0.0),
    )
]

Box = tuple[float, float, float, float]
"""``(left, top, right, bottom)`` in pixels of the plot."""


@dataclass(frozen=True)
class SpeedPoint:
    """A model's accuracy and speed.

    Attributes:
        name: label of the point.
        fps: frames per second, above 0.
        average_precision: mask AP of images or track AP of videos, 0..1.
        group: points of a group are connected by a line; None: no group.
        device: device of the speed measurement, if known.
    """

    name: str
    fps: float
    average_precision: float
    group: str | None = None
    device: str | None = None


def read_speed_point(path: str | Path) -> SpeedPoint:
    """Read a benchmark file.

    It contains a JSON object with ``name`` (text), ``fps`` (above 0) and ``AP`` (0..1), and
    optionally ``group`` and ``device`` (text or null). Other keys are ignored.

    Raises:
        InputError: invalid file; names the key.
    """
    where = f"benchmark file {path}"
    values = read_json(path, "benchmark file")
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected a JSON object with name, fps and AP")
    for key in ("name", "fps", "AP"):
        if key not in values:
            raise InputError(f"{where}: '{key}' is missing; name, fps and AP are needed")
    for key in ("name", "group", "device"):
        text = values.get(key)
        if not (isinstance(text, str) and text.strip()) and (key == "name" or text is not None):
            raise InputError(f"{where}: {key} must be a text, not {text!r}")
    fps, precision = values["fps"], values["AP"]
    if not is_finite(fps) or not 0 < fps <= _MAX_FPS:
        raise InputError(f"{where}: fps must be a number above 0, up to a million, not {fps!r}")
    if not is_finite(precision) or not 0 <= precision <= 1:
        raise InputError(
            f"{where}: AP must be a number from 0 to 1 (0.346, not 34.6), not {precision!r}"
        )
    return SpeedPoint(values["name"], fps, precision, values.get("group"), values.get("device"))


def draw_speed_plot(points: Sequence[SpeedPoint], path: str | Path) -> None:
    """Draw AP against frames per second as a PNG, with a label for every point (Fig. 1).

    Every group has a colour. Speeds on different devices are not comparable, so every device has
    its own marker.

    Args:
        points: at least one.
        path: the PNG to write.

    Raises:
        InputError: the file cannot be written.
    """
    save_chart(speed_chart(points), path)


def speed_chart(points: Sequence[SpeedPoint]) -> Chart:
    """The chart of ``draw_speed_plot``."""
    plot = _Plot.around(points)
    rows = [
        {
            "name": point.name,
            "fps": point.fps,
            "AP": 100 * point.average_precision,
            "group": group,
            "device": point.device or _NO_DEVICE,
        }
        for point, group in zip(points, _groups(points), strict=True)
    ]
    labels = []
    for row, box in zip(rows, place_labels(points), strict=True):
        fps, precision = plot.values(box[0], (box[1] + box[3]) / 2)
        labels.append({**row, "fps": fps, "AP": precision})
    x = alt.X("fps:Q", title="frames per second", scale=plot.scale(0), axis=alt.Axis(grid=True))
    y = alt.Y("AP:Q", title="AP (%)", scale=plot.scale(1), axis=alt.Axis(grid=True))
    colour = alt.Color("group:N", sort=None, legend=None)
    base = alt.Chart(records(rows)).encode(x=x, y=y, color=colour)
    devices = list(dict.fromkeys(point.device or _NO_DEVICE for point in points))
    known = any(point.device is not None for point in points)
    legend = alt.Legend(title="speed measured on", orient="bottom") if known else None
    shapes = [_SHAPES[number % len(_SHAPES)] for number in range(len(devices))]
    shape = alt.Shape(
        "device:N", sort=None, scale=alt.Scale(domain=devices, range=shapes), legend=legend
    )
    names = alt.Chart(records(labels)).mark_text(align="left", baseline="middle", fontSize=_FONT)
    return alt.layer(
        base.mark_line(strokeWidth=1.2, opacity=0.6),
        base.mark_point(filled=True, size=_POINT**2, opacity=1).encode(
            shape=shape, tooltip=["name:N", "fps:Q", "AP:Q", "device:N"]
        ),
        names.encode(x=x, y=y, color=colour, text="name:N"),
        width=_WIDTH,
        height=_HEIGHT,
    )


def _groups(points: Sequence[SpeedPoint]) -> list[str]:
    """Key for colour and line: the group, or the point itself."""
    return [
        f"point {index}" if point.group is None else f"group {point.group}"
        for index, point in enumerate(points)
    ]


@dataclass(frozen=True)
class _Plot:
    """Conversion between (frames per second, percent) and pixels of the plot.

    Attributes:
        low, high: ``(fps, percent)`` at the lower left and the upper right corner.
    """

    low: tuple[float, float]
    high: tuple[float, float]

    @classmethod
    def around(cls, points: Sequence[SpeedPoint]) -> _Plot:
        """A plot that contains the points with a margin for labels; speeds start at 0."""
        precision = [100 * point.average_precision for point in points]
        margin = max(0.15 * (max(precision) - min(precision)), 1.0)
        widest = 1.2 * max(point.fps for point in points)
        return cls((0.0, min(precision) - margin), (widest, max(precision) + margin))

    def scale(self, axis: int) -> alt.Scale:
        """Scale of an axis: 0 for x, 1 for y."""
        return alt.Scale(domain=[self.low[axis], self.high[axis]], nice=False, zero=False)

    def pixel(self, point: SpeedPoint) -> tuple[float, float]:
        """Position of a point in pixels."""
        values = point.fps, 100 * point.average_precision
        x, y = (
            (value - low) / (high - low)
            for value, low, high in zip(values, self.low, self.high, strict=True)
        )
        return x * _WIDTH, (1 - y) * _HEIGHT

    def values(self, x: float, y: float) -> tuple[float, float]:
        """``(fps, percent)`` of a pixel."""
        fractions = x / _WIDTH, 1 - y / _HEIGHT
        fps, percent = (
            low + fraction * (high - low)
            for fraction, low, high in zip(fractions, self.low, self.high, strict=True)
        )
        return fps, percent


def place_labels(points: Sequence[SpeedPoint]) -> list[Box]:
    """Label positions with minimum overlap with points, lines and other labels."""
    plot = _Plot.around(points)
    pixels = [plot.pixel(point) for point in points]
    half = _POINT / 2
    taken: list[Box] = [(x - half, y - half, x + half, y + half) for x, y in pixels]
    lines = _lines(points, pixels)
    boxes = []
    for point, pixel in zip(points, pixels, strict=True):
        choices = [_label_box(point.name, pixel, place) for place in _PLACES]
        best = min(choices, key=lambda box: _covered(box, taken, lines))
        taken.append(best)
        boxes.append(best)
    return boxes


def _lines(points: Sequence[SpeedPoint], pixels: Sequence[tuple[float, float]]) -> np.ndarray:
    """``(L, 100, 2)`` pixels along the lines that join the points of a group, slow to fast."""
    groups = _groups(points)
    segments = []
    for group in dict.fromkeys(groups):
        members = sorted(p for p, own in zip(pixels, groups, strict=True) if own == group)
        segments += [np.linspace(start, end, 100) for start, end in pairwise(members)]
    return np.array(segments).reshape(-1, 100, 2)


def _label_box(
    name: str, pixel: tuple[float, float], place: tuple[float, float, float, float]
) -> Box:
    """The box of a label at one of its possible positions."""
    x, y, across, down = place
    width, height = _LETTER * len(name), float(_LINE)
    left, top = pixel[0] + x - across * width, pixel[1] + y - down * height
    return left, top, left + width, top + height


def _covered(box: Box, taken: Sequence[Box], lines: np.ndarray) -> float:
    """Overlap of a label with other elements, in square pixels."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    outside = area - _overlap(box, (0.0, 0.0, float(_WIDTH), float(_HEIGHT)))
    inside = np.all((lines >= box[:2]) & (lines <= box[2:]), axis=2)
    crossed = np.count_nonzero(np.any(inside, axis=1))
    hidden = sum(_overlap(box, other) for other in taken)
    return outside + hidden + crossed * (box[3] - box[1])


def _overlap(first: Box, second: Box) -> float:
    """Intersection area of two boxes, in square pixels."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)
