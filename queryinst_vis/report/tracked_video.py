"""The HTML page of a tracked video: a player, a timeline, and pictures of the tracks."""

from __future__ import annotations

import heapq
import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from queryinst_vis.drawing import track_colour
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.formats.track_tables import Row, track_rows
from queryinst_vis.inference.outputs import OutputContext
from queryinst_vis.inference.outputs.crops import Crops
from queryinst_vis.inference.outputs.run_file import found_by_class
from queryinst_vis.inference.result import FrameResult
from queryinst_vis.report.excerpts import Excerpts, Instance
from queryinst_vis.report.page import SIZE_LIMIT, asset, data_uri, render_page, write_page
from queryinst_vis.utils.files import temporary_folder
from queryinst_vis.visualization.timeline import runs_of

SCRIPTS = ("masks.js", "timeline.js", "keyboard.js", "player.js", "tracked_video.js")

MOST_TRACKS = 500
"""Maximum number of tracks in a page; the longest are kept."""

_REST = 3_000_000  # bytes reserved for everything except the frames
_CROPS = 600  # maximum number of pictures of tracks; a few kB each
_CROPS_PER_TRACK = 3
_CROP_SIDE = 96  # their longer side in pixels
_KNOTS = 1000  # frames with times, in addition to those shown
_COLUMNS = 1200  # horizontal resolution of the timeline


class TrackedVideoPage:
    """``track --save report``: collects the content of the page during tracking."""

    def __init__(self, context: OutputContext, path: Path, size_limit: int = SIZE_LIMIT) -> None:
        self._context, self._path, self._size_limit = context, path, size_limit
        self._frames = Excerpts(size_limit - _REST)
        self._crops = Crops(context, context.stack.enter_context(temporary_folder()))

    def write(self, found: FrameResult) -> None:
        """Add the next frame."""
        self._crops.write(found)
        detections = found.detections
        masks = detections.rles() if detections.has_masks else [None] * len(detections)
        ids = [] if detections.track_ids is None else detections.track_ids.tolist()
        columns = (ids, detections.scores.tolist(), detections.boxes.tolist(), masks)
        instances = [Instance(*values) for values in zip(*columns, strict=True)]
        self._frames.add(found.frame, instances, detections.of_damaged_frame)

    def finish(self, tracks: TrackStore) -> None:
        """Write the page."""
        video = self._context.video
        rows = heapq.nlargest(MOST_TRACKS, track_rows(tracks, video), key=_length)
        rows.sort(key=lambda row: row["track_id"])
        clock = _Clock(tracks, video.fps)
        context = {
            "video": video.name,
            "figures": self._figures(tracks, clock),
            "rows": [row | self._pictures(row, clock, len(rows)) for row in rows],
            "note": self._note(tracks, len(rows)),
            "found": found_by_class(tracks, video.class_names),
            "stages": self._context.stages(),
            "frames": tracks.length,
            "run": self._context.run.about(),
            "player_style": Markup(asset("player.css")),
            "data": self._data(tracks, rows, clock),
        }
        html = render_page("tracked_video.html.j2", f"Tracks of {video.name}", context, SCRIPTS)
        write_page(self._path, html, self._size_limit)

    def _data(self, tracks: TrackStore, rows: list[Row], clock: _Clock) -> dict[str, Any]:
        """The data for the script of the page."""
        height, width = tracks.frame_size
        by_id = {row["track_id"]: row for row in rows}
        kept = [index for first, end in self._frames.ranges() for index in range(first, end)]
        return {
            "count": tracks.length,
            "width": width,
            "height": height,
            "aspect": float(Fraction(width, height) * self._context.source.pixel_aspect),
            "maskSize": self._frames.size,
            "excerpts": self._frames.ranges(),
            "frames": [
                [*clock.at(index), *packed]
                for index, packed in zip(kept, self._frames.packed(), strict=True)
            ],
            "knots": clock.knots(_KNOTS),
            "tracks": [
                {
                    "id": track.track_id,
                    "title": f"#{track.track_id} {by_id[track.track_id]['class_name']}",
                    "colour": track_colour(track.track_id),
                    "spans": [
                        (first, first + count - 1)
                        for first, count in runs_of(
                            track.frames(), max(1, tracks.length // _COLUMNS)
                        )
                    ],
                }
                for track in tracks
                if track.track_id in by_id
            ],
        }

    def _pictures(self, row: Row, clock: _Clock, rows: int) -> dict[str, Any]:
        """The pictures of a track with their frame indices, and its first and last frame."""
        most = max(1, min(_CROPS_PER_TRACK, _CROPS // rows))
        crops = self._crops.best().get(row["track_id"], [])[:most]
        return {
            "crops": [(clock.index_of(number), _thumbnail(path)) for number, path in crops],
            "seconds": clock.seconds_between(row["first_frame"], row["last_frame"]),
            "first": clock.index_of(row["first_frame"]),
            "last": clock.index_of(row["last_frame"]),
        }

    def _figures(self, tracks: TrackStore, clock: _Clock) -> list[tuple[str, str]]:
        height, width = tracks.frame_size
        total = self._context.stages()["total"]
        return [
            ("tracks", f"{len(tracks):,}"),
            ("frames", f"{tracks.length:,}"),
            ("of video", f"{clock.duration:.1f} s"),
            ("size", f"{width}x{height}"),
            ("frames per second, all stages", f"{tracks.length / max(total, 1e-9):.1f}"),
        ]

    def _note(self, tracks: TrackStore, named: int) -> list[str]:
        """Notes on what the page omits."""
        kept = sum(end - first for first, end in self._frames.ranges())
        height, width = tracks.frame_size
        small_height, small_width = self._frames.size
        notes = []
        if (small_height, small_width) != (height, width):
            notes.append(
                f"Pictures and masks are shown at {small_width}x{small_height} of "
                f"{width}x{height} pixels, so that the page stays below "
                f"{self._size_limit / 1e6:g} MB."
            )
        if kept < tracks.length:
            notes.append(
                f"The page contains {kept:,} of {tracks.length:,} frames, in "
                f"{len(self._frames.ranges())} evenly spaced excerpts, marked on the ruler of the "
                "timeline. The other frames are omitted."
            )
        if named < len(tracks):
            notes.append(f"Of {len(tracks):,} tracks, the {named:,} longest are shown.")
        return notes


class _Clock:
    """Frame numbers and times."""

    def __init__(self, tracks: TrackStore, fps: float | None) -> None:
        self._numbers = np.fromiter(tracks.frame_numbers(), np.int64, tracks.length)
        seconds = np.array(list(tracks.frame_times()), dtype=float)  # None becomes NaN
        if np.isnan(seconds).any():
            seconds = np.arange(tracks.length) / (fps or 25.0)
        self._seconds = seconds
        step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1 / (fps or 25.0)
        self.duration = float(seconds[-1] - seconds[0]) + step

    def at(self, index: int) -> tuple[int, float]:
        """``(number, seconds)`` of a frame."""
        return int(self._numbers[index]), round(float(self._seconds[index]), 4)

    def index_of(self, number: int) -> int:
        """The index of the frame with this number."""
        return int(np.searchsorted(self._numbers, number))

    def seconds_between(self, first: int, last: int) -> float:
        """Seconds from the start of one frame to that of another, by frame number."""
        return float(self._seconds[self.index_of(last)] - self._seconds[self.index_of(first)])

    def knots(self, most: int) -> list[tuple[int, int, float]]:
        """``(index, number, seconds)`` of evenly spaced frames, including the first and last."""
        count = len(self._numbers)
        places = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
        return [(index, *self.at(index)) for index in places.tolist()]


def _length(row: Row) -> tuple[int, int]:
    """Sort key of tracks: number of frames, then age."""
    return row["frames"], -row["track_id"]


def _thumbnail(path: Path) -> str:
    """A small picture as a data URI."""
    with Image.open(path) as picture:
        picture.thumbnail((_CROP_SIDE, _CROP_SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=75)
    return data_uri(buffer.getvalue(), "image/jpeg")
