"""Outputs that need only the tracks, and are written at the end."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from queryinst_vis.errors import InputWarning
from queryinst_vis.formats.single_video import (
    write_coco_video_document,
    write_mots_video,
    write_video_results,
)
from queryinst_vis.formats.track_lines import write_track_lines
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.formats.track_tables import (
    DETECTION_COLUMNS,
    TRACK_COLUMNS,
    detection_rows,
    track_rows,
    write_csv,
    write_parquet,
)
from queryinst_vis.inference.outputs.output import OutputContext
from queryinst_vis.inference.result import FrameResult
from queryinst_vis.visualization.timeline import draw_timeline

Write = Callable[[OutputContext, TrackStore, list[Path]], None]
"""Writes files from the tracks of a video."""


class FromTracks:
    """Writes its files after the last frame."""

    def __init__(self, context: OutputContext, paths: list[Path], write: Write) -> None:
        self._context, self._paths, self._write = context, paths, write

    def write(self, found: FrameResult) -> None:
        """Ignore the frame."""

    def finish(self, tracks: TrackStore) -> None:
        """Write the files."""
        self._write(self._context, tracks, self._paths)


def from_tracks(
    write: Write, check: Callable[[], object] | None = None
) -> Callable[..., FromTracks]:
    """An ``OutputKind.open`` for an output that is written at the end.

    Args:
        write: called at the end.
        check: called at the start; raises an InputError if the files cannot be written.
    """

    def open_output(context: OutputContext, *paths: Path) -> FromTracks:
        if check is not None:
            check()
        return FromTracks(context, list(paths), write)

    return open_output


def write_youtube_vis(context: OutputContext, tracks: TrackStore, paths: list[Path]) -> None:
    """The tracks as YouTube-VIS results with ``track_id``; category id = class index + 1."""
    with_times = context.source.fps is None and not context.source.is_live
    write_video_results(paths[0], tracks, context.video, with_times)


def write_lines(context: OutputContext, tracks: TrackStore, paths: list[Path]) -> None:
    """``tracks.jsonl``, see ``formats.track_lines``."""
    write_track_lines(paths[0], tracks, context.video, context.run.about())


def write_csv_tables(context: OutputContext, tracks: TrackStore, paths: list[Path]) -> None:
    """The tables of tracks and detections as CSV."""
    write_csv(paths[0], TRACK_COLUMNS, track_rows(tracks, context.video))
    write_csv(paths[1], DETECTION_COLUMNS, detection_rows(tracks, context.video))


def write_parquet_tables(context: OutputContext, tracks: TrackStore, paths: list[Path]) -> None:
    """The tables of tracks and detections as Parquet."""
    write_parquet(paths[0], TRACK_COLUMNS, track_rows(tracks, context.video))
    write_parquet(paths[1], DETECTION_COLUMNS, detection_rows(tracks, context.video))


def write_mots(context: OutputContext, tracks: TrackStore, paths: list[Path]) -> None:
    """A MOTS text file, with a warning about what the format cannot represent."""
    losses = write_mots_video(paths[0], tracks, context.video)
    if losses:
        warnings.warn(f"MOTS: {losses}", InputWarning, stacklevel=2)


def write_coco_video(context: OutputContext, tracks: TrackStore, paths: list[Path]) -> None:
    """A COCO-video document."""
    write_coco_video_document(paths[0], tracks, context.video)


def write_timeline(context: OutputContext, tracks: TrackStore, paths: list[Path]) -> None:
    """The timeline: when each track is visible."""
    fps = context.source.fps or average_fps(tracks)
    draw_timeline(tracks, context.class_names, fps, paths[0], context.origin)


def average_fps(tracks: TrackStore) -> float:
    """Average frame rate of a video with a variable frame rate."""
    duration = tracks.duration()
    return (tracks.length - 1) / duration if duration > 0 else 1.0
