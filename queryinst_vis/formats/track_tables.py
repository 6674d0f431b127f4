"""Tables of tracks and detections, one row each, as CSV or Parquet."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.formats.track_store import Track, TrackStore, VideoInfo
from queryinst_vis.utils.files import atomic_path

if TYPE_CHECKING:
    import pyarrow as pa

PATH_POINTS = 100
"""Maximum number of points of a track's path."""

_CHUNK = 10_000  # rows per write to a Parquet file

Row: TypeAlias = dict[str, Any]
"""Values by column; None where unknown."""

TRACK_COLUMNS = {
    "track_id": "int64",
    "class_name": "string",
    "score": "float64",
    "frames": "int64",
    "first_frame": "int64",
    "last_frame": "int64",
    "first_seconds": "float64",
    "last_seconds": "float64",
    "mean_speed": "float64",
    "mean_area": "float64",
    "path": "string",
    "class_votes": "string",
}
"""Columns of the track table, with types. ``mean_speed`` is that of the box centre, in
pixels per second from the first to the last frame; ``mean_area`` is that of the mask, in
pixels. ``path`` is JSON, ``[[frame, x, y], ...]`` of the box centre in at most ``PATH_POINTS``
evenly spaced frames; ``class_votes`` is JSON, the number of frames by class name."""

DETECTION_COLUMNS = {
    "frame": "int64",
    "seconds": "float64",
    "track_id": "int64",
    "class_name": "string",
    "score": "float64",
    "x1": "float64",
    "y1": "float64",
    "x2": "float64",
    "y2": "float64",
    "area": "int64",
}
"""Columns of the detection table; ``area`` is that of the mask, in pixels."""


def track_rows(tracks: TrackStore, video: VideoInfo) -> Iterator[Row]:
    """One row per track, by ascending id."""
    numbers = np.fromiter(tracks.frame_numbers(), np.int64, tracks.length)
    seconds = np.fromiter(
        (math.nan if at is None else at for at in tracks.frame_times()), float, tracks.length
    )
    for track in tracks:
        yield _track_row(track, video.class_names, numbers, seconds)


def detection_rows(tracks: TrackStore, video: VideoInfo) -> Iterator[Row]:
    """One row per instance and frame, by frame and id."""
    for frame in tracks.frames():
        for track_id, seen in frame.tracks:
            yield {
                "frame": frame.number,
                "seconds": frame.seconds,
                "track_id": track_id,
                "class_name": video.class_names[seen.label],
                "score": seen.score,
                **dict(zip(("x1", "y1", "x2", "y2"), seen.box, strict=True)),
                "area": int(coco_mask.area(seen.segmentation)),
            }


def write_csv(path: str | Path, columns: Iterable[str], rows: Iterable[Row]) -> None:
    """Write rows as CSV with a header; unknown values are empty."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: str | Path, columns: dict[str, str], rows: Iterator[Row]) -> None:
    """Write rows as Parquet, in chunks.

    Args:
        path: the file; written completely or not at all.
        columns: type of each column, by pyarrow's names.
        rows: in order.

    Raises:
        InputError: pyarrow is not installed.
    """
    arrow = import_pyarrow()
    import pyarrow.parquet

    fields = [(name, arrow.type_for_alias(kind)) for name, kind in columns.items()]
    schema = arrow.schema(fields)
    with (
        atomic_path(path) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, schema) as writer,
    ):
        while chunk := list(islice(rows, _CHUNK)):
            try:
                table = arrow.Table.from_pylist(chunk, schema=schema)
            except UnicodeEncodeError:  # a file name that is not UTF-8
                table = arrow.Table.from_pylist(list(map(_as_utf8, chunk)), schema=schema)
            writer.write_table(table)


def _as_utf8(row: Row) -> Row:
    """The row with undecodable bytes of file names as escape sequences."""
    return {
        name: value.encode("utf-8", "backslashreplace").decode()
        if isinstance(value, str)
        else value
        for name, value in row.items()
    }


def import_pyarrow() -> pa:
    """The module.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise InputError(
            "Parquet files need pyarrow, which is not installed: "
            "pip install 'queryinst-vis[parquet]'"
        ) from error
    return pyarrow


def _track_row(
    track: Track, class_names: list[str], numbers: np.ndarray, seconds: np.ndarray
) -> Row:
    votes = track.votes()
    frames = sum(votes.values())
    shown = _spread(frames)
    path: list[tuple[int, float, float]] = []
    area, length = 0, 0.0
    first: int | None = None
    last, before = 0, (0.0, 0.0)
    for position, seen in enumerate(track.observations()):
        x, y = (seen.box[0] + seen.box[2]) / 2, (seen.box[1] + seen.box[3]) / 2
        if first is None:
            first, before = seen.frame, (x, y)
        length += math.dist(before, (x, y))
        area += int(coco_mask.area(seen.segmentation))
        last, before = seen.frame, (x, y)
        if position in shown:
            path.append((int(numbers[seen.frame]), round(x, 1), round(y, 1)))
    duration = seconds[last] - seconds[first or 0]  # NaN if times are unknown
    return {
        "track_id": track.track_id,
        "class_name": class_names[track.label],
        "score": track.score,
        "frames": frames,
        "first_frame": int(numbers[first or 0]),
        "last_frame": int(numbers[last]),
        "first_seconds": _known(seconds[first or 0]),
        "last_seconds": _known(seconds[last]),
        "mean_speed": float(length / duration) if duration > 0 else None,
        "mean_area": area / frames,
        "path": json.dumps(path),
        "class_votes": json.dumps({class_names[label]: count for label, count in votes.items()}),
    }


def _known(seconds: float) -> float | None:
    return None if math.isnan(seconds) else float(seconds)


def _spread(count: int) -> set[int]:
    """Indices of at most ``PATH_POINTS`` of the points, including the first and the last."""
    return set(np.linspace(0, count - 1, min(count, PATH_POINTS)).round().astype(int).tolist())
