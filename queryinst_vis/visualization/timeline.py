"""Who was there when: a picture of a video's tracks over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from queryinst_vis.files import atomic_path
from queryinst_vis.structures import Track, VideoResult
from queryinst_vis.track_store import TrackStore
from queryinst_vis.visualization.overlay import track_colour

_WIDTH, _MAX_HEIGHT, _FRAME_HEIGHT = 10.0, 30.0, 1.1  # inches; the frame is titles and axes
_ROW_HEIGHT, _MIN_LABELLED_ROW = 0.28, 0.07  # inches


@dataclass(frozen=True)
class _Row:
    """What the timeline shows of a track: nothing that grows with the frames that show it."""

    track_id: int
    label: int
    runs: list[tuple[int, int]]  # (first frame, frames)

    @classmethod
    def of(cls, track: Track) -> _Row:
        return cls(track.track_id, track.label, _runs(track.scores))


def draw_timeline(
    result: VideoResult | TrackStore, class_names: Sequence[str], fps: float, path: str | Path
) -> None:
    """Draw one row per track, with bars where it is visible, as a PNG.

    Rows are sorted by first appearance and have the tracks' colours of the overlay. Many tracks
    get thinner rows rather than an endless picture, and no names once these would be illegible.

    Args:
        result: a finished video; may be without tracks.
        class_names: names of the labels.
        fps: frames per second of the result, for the time axis.
        path: the PNG to write, all of it or nothing.

    Raises:
        InputError: the file cannot be written.
    """
    rows = sorted(map(_Row.of, result), key=lambda row: (row.runs[0][0], row.track_id))
    row_height = min(_ROW_HEIGHT, (_MAX_HEIGHT - _FRAME_HEIGHT) / max(len(rows), 1))
    height = _FRAME_HEIGHT + row_height * max(len(rows), 3)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, row in enumerate(rows):
        bars = [(first / fps, count / fps) for first, count in row.runs]
        colour = [channel / 255 for channel in track_colour(row.track_id)]
        axes.broken_barh(bars, (number - 0.36, 0.72), facecolors=[colour])
    _label_rows(axes, rows, class_names, row_height)
    _label_time(axes, max(result.length, 1), fps)
    axes.set_title(_title(len(rows), result.length, fps), fontsize=10, loc="left")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _runs(frames: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending frame indices as ``(first, count)`` of their unbroken runs."""
    runs: list[tuple[int, int]] = []
    for frame in frames:
        if runs and frame == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((frame, 1))
    return runs


def _label_rows(axes: Axes, rows: list[_Row], class_names: Sequence[str], height: float) -> None:
    axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)  # the first track on top
    if rows and height >= _MIN_LABELLED_ROW:
        names = [f"#{row.track_id} {class_names[row.label]}" for row in rows]
        axes.set_yticks(range(len(rows)), names, fontsize=min(9.0, height * 72 * 0.8))
    else:
        axes.set_yticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines[["right", "left"]].set_visible(False)


def _label_time(axes: Axes, length: int, fps: float) -> None:
    axes.set_xlim(0, length / fps)
    axes.set_xlabel("seconds")
    axes.grid(axis="x", linewidth=0.5, alpha=0.4)
    axes.set_axisbelow(True)
    frames = axes.secondary_xaxis("top", functions=(lambda s: s * fps, lambda f: f / fps))
    frames.set_xlabel("frames")


def _title(count: int, length: int, fps: float) -> str:
    noun = "track" if count == 1 else "tracks"
    return f"{count or 'no'} {noun} in {length} frames, {length / fps:.1f} seconds"
