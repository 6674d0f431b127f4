"""Timeline of a video: when each track is visible."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image

from queryinst_vis.drawing import track_colour
from queryinst_vis.formats.track_store import Track, TrackStore
from queryinst_vis.utils.files import atomic_path

_WIDTH, _FRAME_HEIGHT = 10.0, 1.1  # inches; the frame is titles and axes
_ROW_HEIGHT, _ROWS_HEIGHT = 0.28, 28.0  # inches: maximum height of one row and of all rows
_MAX_ROWS = 400  # names of more rows in 28 inches would be illegible
_DPI = 120
_COLUMNS = int(_WIDTH * _DPI)  # pixel columns: the resolution in time
_ORIGIN = "queryinst-vis source"  # key in the PNG's metadata


@dataclass(frozen=True)
class Row:
    """One row of the timeline, of bounded size regardless of the track's length."""

    track_id: int
    label: int
    runs: list[tuple[int, int]]  # (first frame, frames)

    @classmethod
    def of(cls, track: Track, length: int) -> Row:
        """The row of a track in a video with ``length`` frames."""
        runs = runs_of(track.frames(), max(1, length // _COLUMNS))
        return cls(track.track_id, track.label, runs)

    def seen(self) -> int:
        """Number of frames of the track."""
        return sum(count for _, count in self.runs)


class _Clock:
    """Times of the frames of a video, and their numbers in the file.

    Args:
        starts: N + 1 increasing times in seconds since the first frame; the last one is the end.
        numbers: N + 1 increasing frame numbers.
    """

    def __init__(self, starts: np.ndarray, numbers: np.ndarray) -> None:
        self._starts = starts
        self._numbers = numbers

    @classmethod
    def of(cls, tracks: TrackStore, fps: float) -> _Clock:
        """The clock of a video with this average frame rate."""
        times = np.array(list(tracks.frame_times()), dtype=float)  # None becomes NaN
        if len(times) == 0 or np.isnan(times).any():
            starts = np.arange(len(times) + 1) / fps
        else:
            starts = np.append(times, times[-1] + 1 / fps) - times[0]
        numbers = np.fromiter(tracks.frame_numbers(), float, len(times))
        step = np.diff(numbers[-2:]) if len(numbers) > 1 else [1]
        last = numbers[-1:] + step if len(numbers) else [0]
        return cls(starts, np.append(numbers, last))

    @property
    def duration(self) -> float:
        """Seconds until the end of the last frame."""
        return float(self._starts[-1])

    def span(self, first: int, count: int) -> tuple[float, float]:
        """``(start, duration)`` of some frames, in seconds."""
        start, end = self._starts[first], self._starts[first + count]
        return float(start), float(end - start)

    def number_at(self, seconds: ArrayLike) -> np.ndarray:
        """Fractional frame numbers of times."""
        return _interpolate(np.asarray(seconds, float), self._starts, self._numbers)

    def seconds_at(self, numbers: ArrayLike) -> np.ndarray:
        """Times of frame numbers."""
        return _interpolate(np.asarray(numbers, float), self._numbers, self._starts)


def _interpolate(x: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Like ``np.interp``, with extrapolation beyond the ends."""
    if len(xs) < 2:
        return x
    slope = (ys[-1] - ys[0]) / (xs[-1] - xs[0])
    outside = np.minimum(x - xs[0], 0) + np.maximum(x - xs[-1], 0)
    return np.interp(x, xs, ys) + slope * outside


def draw_timeline(
    tracks: TrackStore,
    class_names: Sequence[str],
    fps: float,
    path: str | Path,
    origin: str | None = None,
) -> None:
    """Draw one row per track, with bars where it is visible, as a PNG.

    Rows are sorted by first appearance and have the same colours as in the overlay. To limit image
    size and memory, many tracks get thinner rows, and only the ``_MAX_ROWS`` longest are drawn.

    The time axes are those of the video file: seconds since the first frame, and frame numbers,
    regardless of skipped frames.

    Args:
        tracks: of a finished video; there may be none.
        class_names: names of the labels.
        fps: average frame rate of the video; determines the duration of the last frame, and of all
            frames if their times are unknown.
        path: the PNG to write.
        origin: note on the source, stored in the PNG for ``read_origin``.

    Raises:
        InputError: the file cannot be written.
    """
    rows = heapq.nlargest(
        _MAX_ROWS, (Row.of(track, tracks.length) for track in tracks), key=Row.seen
    )
    rows.sort(key=lambda row: (row.runs[0][0], row.track_id))
    row_height = min(_ROW_HEIGHT, _ROWS_HEIGHT / max(len(rows), 1))
    height = _FRAME_HEIGHT + row_height * max(len(rows), 3)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    clock = _Clock.of(tracks, fps)
    for number, row in enumerate(rows):
        bars = [clock.span(*run) for run in row.runs]
        colour = [channel / 255 for channel in track_colour(row.track_id)]
        axes.broken_barh(bars, (number - 0.36, 0.72), facecolors=[colour])
    _label_rows(axes, rows, class_names, row_height)
    _label_time(axes, clock)
    title = _title(len(rows), len(tracks), tracks.length, clock.duration)
    axes.set_title(title, fontsize=10, loc="left")
    with atomic_path(path) as temporary:
        metadata = {} if origin is None else {_ORIGIN: origin}
        figure.savefig(temporary, format="png", dpi=_DPI, metadata=metadata)


def read_origin(path: str | Path) -> str | None:
    """The note on the source that ``draw_timeline`` stored in a PNG, or None."""
    try:
        with Image.open(path) as picture:
            return picture.info.get(_ORIGIN)
    except (OSError, SyntaxError, ValueError):  # not an image, or a damaged one
        return None


def runs_of(frames: Iterable[int], step: int) -> list[tuple[int, int]]:
    """Convert ascending frame indices to runs ``(first, count)``.

    Frames at most ``step`` apart belong to the same run, since the gap would not be visible.
    """
    runs: list[list[int]] = []  # first, last
    for frame in frames:
        if runs and frame - runs[-1][1] <= step:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    return [(first, last - first + 1) for first, last in runs]


def _label_rows(axes: Axes, rows: list[Row], class_names: Sequence[str], height: float) -> None:
    axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)  # the first track on top
    names = [f"#{row.track_id} {class_names[row.label]}" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=min(9.0, height * 72 * 0.8))
    axes.tick_params(axis="y", length=0)
    axes.spines[["right", "left"]].set_visible(False)


def _label_time(axes: Axes, clock: _Clock) -> None:
    axes.set_xlim(0, clock.duration or 1)
    axes.set_xlabel("seconds")
    axes.grid(axis="x", linewidth=0.5, alpha=0.4)
    axes.set_axisbelow(True)
    frames = axes.secondary_xaxis("top", functions=(clock.number_at, clock.seconds_at))
    frames.set_xlabel("frames")


def _title(shown: int, count: int, length: int, seconds: float) -> str:
    noun = "track" if count == 1 else "tracks"
    tracks = (
        f"{count or 'no'} {noun}" if shown == count else f"the {shown} longest of {count} tracks"
    )
    return f"{tracks} in {length} frames, {seconds:.1f} seconds"
