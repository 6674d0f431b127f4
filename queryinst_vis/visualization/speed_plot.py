"""Accuracy against speed, from benchmark files (paper Fig. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import atomic_path, read_json
from queryinst_vis.utils.numbers import is_finite

_MAX_FPS = 1e6
_MARKERS = "osD^vPX*"
_POINT = 7  # diameter of a point, in points of 1/72 inch
_PLACES = [  # of a label: offset from its point in points, and alignment; the best come first
    (x * distance, y * distance, horizontal, vertical)
    for distance in (7, 14, 24)
    for x, y, horizontal, vertical in (
        (1, 0, "left", "center"),
        (-1, 0, "right", "center"),
        (0, 1, "center", "bottom"),
        (0, -1, "center", "top"),
        (0.7, 0.7, "left", "bottom"),
        (-0.7, 0.7, "right", "bottom"),
        (0.7, -0.7, "left", "top"),
        (-0.7, -0.7, "right", "top"),
    )
]


@dataclass(frozen=True)
class SpeedPoint:
    """A model's accuracy and speed.

    Attributes:
        name: what the point is labelled with.
        fps: frames per second, above 0.
        average_precision: mask AP of images or track AP of videos, 0..1.
        group: points of one group are joined by a line; None stands alone.
        device: on which the speed was measured, if that is known.
    """

    name: str
    fps: float
    average_precision: float
    group: str | None = None
    device: str | None = None


def read_speed_point(path: str | Path) -> SpeedPoint:
    """Read a benchmark file.

    It holds a JSON object with ``name`` (text), ``fps`` (above 0) and ``AP`` (0..1), perhaps
    ``group`` and ``device`` (text or null). Other keys are left alone.

    Raises:
        InputError: not such a file; says which key is at fault.
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
    """Draw AP against frames per second as a PNG, with a label beside every point (Fig. 1).

    Every group has its colour. Speeds on different devices do not compare, so every device has
    its marker.

    Args:
        points: at least one.
        path: the PNG to write, all of it or nothing.

    Raises:
        InputError: the file cannot be written.
    """
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xlabel="frames per second", ylabel="AP (%)")
    axes.margins(x=0.2, y=0.15)  # room for labels
    axes.grid(linewidth=0.5, alpha=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    colours = _draw_points(axes, points)
    axes.set_xlim(left=0)
    canvas.draw()  # places the axes: before, nobody knows where a point is on the picture
    _label_points(axes, points, colours)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_points(axes: Axes, points: Sequence[SpeedPoint]) -> list[str]:
    """Draw the points, the lines of their groups and the legend of devices; return colours."""
    groups = [index if point.group is None else point.group for index, point in enumerate(points)]
    distinct = list(dict.fromkeys(groups))
    colours = [f"C{distinct.index(group)}" for group in groups]
    for colour in dict.fromkeys(colours):
        line = sorted(
            _position(point) for point, own in zip(points, colours, strict=True) if own == colour
        )
        axes.plot(*zip(*line, strict=True), color=colour, linewidth=1, alpha=0.6)
    devices = list(dict.fromkeys(point.device for point in points))
    for point, colour in zip(points, colours, strict=True):
        marker = _marker(devices.index(point.device))
        axes.scatter(*_position(point), s=_POINT**2, marker=marker, color=colour, zorder=3)
    if devices != [None]:
        _draw_legend(axes, devices)
    return colours


def _position(point: SpeedPoint) -> tuple[float, float]:
    return point.fps, 100 * point.average_precision


def _marker(device: int) -> str:
    return _MARKERS[device % len(_MARKERS)]


def _draw_legend(axes: Axes, devices: Sequence[str | None]) -> None:
    """Which marker is which device, below the axes."""
    legend = axes.figure.legend(
        [
            Line2D([], [], color="0.4", marker=_marker(index), linewidth=0, markersize=_POINT)
            for index in range(len(devices))
        ],
        [device or "device not given" for device in devices],
        title="speed measured on",
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
        title_fontsize=9,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _label_points(axes: Axes, points: Sequence[SpeedPoint], colours: Sequence[str]) -> None:
    """Write every name where it covers no point, line or other name, or as little as can be."""
    radius = _POINT / 72 * axes.figure.dpi / 2
    taken = [
        Bbox.from_bounds(x - radius, y - radius, 2 * radius, 2 * radius)
        for x, y in axes.transData.transform([_position(point) for point in points])
    ]
    for point, colour in zip(points, colours, strict=True):
        label = axes.annotate(
            point.name,
            _position(point),
            xytext=(0, 0),
            textcoords="offset points",
            color=colour,
            fontsize=9,
            parse_math=False,
            in_layout=False,  # or the axes would shrink under the labels
        )
        taken.append(_place(label, axes, taken))


def _place(label: Annotation, axes: Axes, taken: Sequence[Bbox]) -> Bbox:
    """Move a label to the best of its places and return the box that it takes up there."""
    lines = [line.get_path().transformed(axes.transData) for line in axes.lines]

    def move(place: tuple[float, float, str, str]) -> Bbox:
        x, y, horizontal, vertical = place
        label.set(position=(x, y), horizontalalignment=horizontal, verticalalignment=vertical)
        return label.get_window_extent()

    def covered(place: tuple[float, float, str, str]) -> float:
        """Square pixels that the label would hide, or that would be hidden of it."""
        box = move(place)
        outside = box.width * box.height - _overlap(box, axes.bbox)
        crossed = sum(line.intersects_bbox(box, filled=False) for line in lines)
        hidden = sum(_overlap(box, other) for other in taken)
        return outside + hidden + crossed * box.height

    return move(min(_PLACES, key=covered))


def _overlap(first: Bbox, second: Bbox) -> float:
    """Area that two boxes share, in square pixels."""
    shared = Bbox.intersection(first, second)
    return 0.0 if shared is None else shared.width * shared.height
