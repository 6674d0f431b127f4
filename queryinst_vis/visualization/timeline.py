"""Who was there when: a picture of a video's tracks over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from queryinst_vis.files import atomic_path
from queryinst_vis.structures import Track, VideoResult
from queryinst_vis.visualization.overlay import track_colour

_WIDTH, _MAX_HEIGHT, _FRAME_HEIGHT = 10.0, 30.0, 1.1  # inches; the frame is titles and axes
_ROW_HEIGHT, _MIN_LABELLED_ROW = 0.28, 0.07  # inches


def draw_timeline(
    result: VideoResult, class_names: Sequence[str], fps: float, path: str | Path
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
    tracks = sorted(result, key=lambda track: (min(track.scores), track.track_id))
    row = min(_ROW_HEIGHT, (_MAX_HEIGHT - _FRAME_HEIGHT) / max(len(tracks), 1))
    height = _FRAME_HEIGHT + row * max(len(tracks), 3)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, track in enumerate(tracks):
        bars = [(first / fps, count / fps) for first, count in _runs(track.scores)]
        colour = [channel / 255 for channel in track_colour(track.track_id)]
        axes.broken_barh(bars, (number - 0.36, 0.72), facecolors=[colour])
    _label_rows(axes, tracks, class_names, row)
    _label_time(axes, max(result.length, 1), fps)
    axes.set_title(_title(tracks, result.length, fps), fontsize=10, loc="left")
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


def _label_rows(axes: Axes, tracks: list[Track], class_names: Sequence[str], row: float) -> None:
    axes.set_ylim(max(len(tracks), 1) - 0.4, -0.6)  # the first track on top
    if tracks and row >= _MIN_LABELLED_ROW:
        names = [f"#{track.track_id} {class_names[track.label]}" for track in tracks]
        axes.set_yticks(range(len(tracks)), names, fontsize=min(9.0, row * 72 * 0.8))
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


def _title(tracks: list[Track], length: int, fps: float) -> str:
    noun = "track" if len(tracks) == 1 else "tracks"
    return f"{len(tracks) or 'no'} {noun} in {length} frames, {length / fps:.1f} seconds"
