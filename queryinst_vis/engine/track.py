"""A video in; the annotated video, its tracks and their timeline out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from queryinst_vis.engine.inference import VideoTracker
from queryinst_vis.errors import InputError
from queryinst_vis.files import atomic_path
from queryinst_vis.prefetch import prefetch
from queryinst_vis.results import write_youtube_vis, youtube_vis_entries
from queryinst_vis.structures import Detections
from queryinst_vis.track_store import TrackStore
from queryinst_vis.video.reader import VideoReader
from queryinst_vis.video.writer import VideoWriter
from queryinst_vis.visualization.overlay import Overlay
from queryinst_vis.visualization.timeline import draw_timeline

_VIDEO_ID = 1  # of the one video in results.json


@dataclass(frozen=True)
class TrackSummary:
    """What came out of a video.

    Attributes:
        frames: frames that were looked at.
        tracks: identities that were found.
        seconds: wall-clock time for all of them: decoding, tracking, drawing, encoding.
        fps: frames per second of that time.
        files: the annotated video, the results and the timeline.
    """

    frames: int
    tracks: int
    seconds: float
    fps: float
    files: tuple[Path, Path, Path]

    def __str__(self) -> str:
        written = "\n".join(f"wrote {path}" for path in self.files)
        noun = "track" if self.tracks == 1 else "tracks"
        return (
            f"{self.tracks} {noun} in {self.frames} frames, {self.seconds:.1f} s "
            f"({self.fps:.1f} frames/s)\n{written}"
        )


def track_video(
    video: str | Path,
    out_dir: str | Path,
    weights: str | Path = "people",
    *,
    score_threshold: float = 0.3,
    stride: int = 1,
    max_frames: int | None = None,
    batch: int = 1,
    device: str = "auto",
    overrides: list[str] | None = None,
) -> TrackSummary:
    """Find, segment and follow the instances of a video, and show them.

    Writes three files into ``out_dir``: the annotated video (``NAME-OF-VIDEO.mp4``), the tracks
    as YouTube-VIS results (``results.json``; video id 1, category id = class index + 1) and a
    picture of who was there when (``timeline.png``). They appear together when all is done.

    Args:
        video: anything that FFmpeg reads.
        out_dir: folder for the results; made where missing.
        weights: name of shipped weights, or a checkpoint file.
        score_threshold: detections below this score, 0..1, are left out.
        stride: look at every that many frames; the annotated video keeps its speed.
        max_frames: stop after this many; None: all.
        batch: frames that the network sees at a time; more is faster where it can overlap them.
        device: ``"auto"`` takes the accelerator where there is one.
        overrides: dotlist changes of the config inside the weights, e.g.
            ``["tracking.rule=query"]``.

    Raises:
        InputError: the video, the weights or the overrides cannot be used, or the folder not be
            written.
    """
    reader = VideoReader(video, stride, max_frames)
    out_dir = Path(out_dir)
    files = (
        out_dir / f"{reader.path.stem}.mp4",
        out_dir / "results.json",
        out_dir / "timeline.png",
    )
    if reader.path.resolve() in {path.resolve() for path in files}:
        raise InputError(
            f"video {video}: the annotated video would replace it; choose another folder than "
            f"{out_dir} for the results"
        )
    threshold = f"inference.score_threshold={score_threshold}"
    tracker = VideoTracker.from_pretrained(weights, device, [threshold, *(overrides or [])])
    return run_tracker(tracker, reader, files, batch)


def run_tracker(
    tracker: VideoTracker, reader: VideoReader, files: tuple[Path, Path, Path], batch: int = 1
) -> TrackSummary:
    """What ``track_video`` does once the weights are loaded.

    Args:
        tracker: begins anew with this video.
        reader: the frames.
        files: the annotated video, the results and the timeline to write.
        batch: frames that the network sees at a time.

    Raises:
        InputError: the video turns out to be damaged, or a file cannot be written.
    """
    start = time.perf_counter()
    with TrackStore() as tracks:
        _write_results(reader, tracker, tracks, files, batch)
        seconds = time.perf_counter() - start
        return TrackSummary(tracks.length, len(tracks), seconds, tracks.length / seconds, files)


def _write_results(
    reader: VideoReader,
    tracker: VideoTracker,
    tracks: TrackStore,
    files: tuple[Path, Path, Path],
    batch: int,
) -> None:
    """Track through the video and write all three files, or none."""
    video_path, results_path, timeline_path = files
    with (
        atomic_path(video_path) as video,
        atomic_path(results_path) as results,
        atomic_path(timeline_path) as timeline,
    ):
        annotate_video(reader, tracker, tracks, video, batch)
        category_ids = range(1, len(tracker.class_names) + 1)
        write_youtube_vis(results, youtube_vis_entries(tracks, _VIDEO_ID, category_ids))
        draw_timeline(tracks, tracker.class_names, reader.fps, timeline)


def annotate_video(
    reader: VideoReader,
    tracker: VideoTracker,
    tracks: TrackStore,
    path: str | Path,
    batch: int = 1,
) -> None:
    """Track through a video and write it with its instances drawn on; memory does not grow.

    Decoding, tracking, and drawing with encoding run at the same time, frame after frame.

    Args:
        reader: the frames.
        tracker: begins anew with this video.
        tracks: where the tracks go; empty.
        path: the mp4 to write.
        batch: frames that the network sees at a time.

    Raises:
        InputError: the video turns out to be damaged, or ``path`` cannot be written.
    """
    tracker.reset()
    overlay = Overlay(tracker.class_names)
    with (
        VideoWriter(path, reader.fps) as writer,
        closing(prefetch(tracker.follow(prefetch(reader), batch))) as tracked,
    ):
        for frame, detections in _with_progress(tracked, reader):
            tracks.add(detections)
            writer.write(overlay.draw(frame, detections))


def _with_progress(
    tracked: Iterable[tuple[np.ndarray, Detections]], reader: VideoReader
) -> Iterator[tuple[np.ndarray, Detections]]:
    """Frames and detections, with a bar on standard error: how far, how fast, how much longer."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _FrameRateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(reader.path.name, total=len(reader))
        for pair in tracked:
            yield pair
            progress.advance(task)


class _FrameRateColumn(ProgressColumn):
    """Frames per second, once there is something to measure."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} frames/s")
