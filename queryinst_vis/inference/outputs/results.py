"""Outputs that are written at the end, from the tracks of the whole video."""

from __future__ import annotations

from pathlib import Path

from queryinst_vis.formats.results import stream_youtube_vis_entries, write_results
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.outputs.output import OutputContext
from queryinst_vis.inference.result import FrameResult
from queryinst_vis.visualization.timeline import draw_timeline

_VIDEO_ID = 1  # of the one video in results.json


class YoutubeVisResults:
    """The tracks as YouTube-VIS results; category id = class index + 1."""

    def __init__(self, context: OutputContext, path: Path) -> None:
        self._context, self._path = context, path

    def write(self, found: FrameResult) -> None:
        """Wait for the end."""

    def finish(self, tracks: TrackStore) -> None:
        """Write an entry for each track."""
        context = self._context
        category_ids = range(1, len(context.class_names) + 1)
        with_times = context.source.fps is None and not context.source.is_live
        entries = stream_youtube_vis_entries(tracks, _VIDEO_ID, category_ids, with_times)
        write_results(self._path, entries)


class Timeline:
    """A picture of who was there when."""

    def __init__(self, context: OutputContext, path: Path) -> None:
        self._context, self._path = context, path

    def write(self, found: FrameResult) -> None:
        """Wait for the end."""

    def finish(self, tracks: TrackStore) -> None:
        """Draw a row for each track."""
        context = self._context
        fps = context.source.fps or average_fps(tracks)
        draw_timeline(tracks, context.class_names, fps, self._path, context.origin)


def average_fps(tracks: TrackStore) -> float:
    """Frames per second of a video whose frames have times of their own."""
    duration = tracks.duration()
    return (tracks.length - 1) / duration if duration > 0 else 1.0
