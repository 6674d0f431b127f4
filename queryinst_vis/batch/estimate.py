"""Estimates the duration of a run before it starts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path

from queryinst_vis.batch.options import RunOptions, Video
from queryinst_vis.batch.segments import Cutting
from queryinst_vis.errors import InputError
from queryinst_vis.inference.track import load_tracker
from queryinst_vis.video.container import open_video
from queryinst_vis.video.source import open_source

_FILES = 16  # headers read concurrently
_BATCHES = 3  # timed batches, after one for warm-up


@dataclass(frozen=True)
class Length:
    """Length of a video according to its header."""

    seconds: float
    frames: float


@dataclass(frozen=True)
class Estimate:
    """The size of a run and the throughput of a worker.

    Attributes:
        videos: number of videos to track.
        known: number of videos whose length is known from their headers.
        hours: total length of the videos; unknown lengths are taken to be the mean of the others.
        frames: total number of frames.
        frames_per_second: of one worker, measured on the first video; None: not measured.
        workers: number of workers.
        segments: approximate number of segments of long videos; 0: none is cut.
        repeated: frames in overlaps, which are tracked twice; ``frames`` counts them once.
    """

    videos: int
    known: int
    hours: float
    frames: float
    frames_per_second: float | None
    workers: int
    segments: float = 0.0
    repeated: float = 0.0

    def __str__(self) -> str:
        unknown = self.videos - self.known
        note = (
            f" ({unknown} of unknown length, taken to be the mean of the others)" if unknown else ""
        )
        lines = [
            f"{self.videos} videos to track, {self.hours:.2f} hours of video, "
            f"{self.frames:.0f} frames{note}"
        ]
        if self.segments:
            lines.append(
                f"long videos in about {self.segments:.0f} segments, with {self.repeated:.0f} "
                "frames tracked twice"
            )
        if self.frames_per_second and self.known:
            tracked = self.frames + self.repeated
            spent = tracked / self.frames_per_second / self.workers
            lines.append(
                f"about {spent / 3600:.2f} hours with {self.workers} workers at "
                f"{self.frames_per_second:.1f} frames/s each, measured on the first video"
            )
        return "\n".join(lines)


def estimate(videos: list[Video], run: RunOptions, workers: int) -> Estimate:
    """Read the headers of local videos, and measure the throughput on the first of them."""
    with ThreadPoolExecutor(_FILES) as pool:
        lengths = [length for length in pool.map(_length, videos) if length is not None]
    known = len(lengths)
    scale = len(videos) / known if known else 0.0
    segments = [0 if run.cutting is None else _segments(each, run.cutting) for each in lengths]
    repeated = [
        (count - 1) * run.cutting.overlap * length.frames / length.seconds
        for count, length in zip(segments, lengths, strict=True)
        if count and run.cutting is not None
    ]
    local = (video for video in videos if "://" not in video.address)
    return Estimate(
        videos=len(videos),
        known=known,
        hours=scale * sum(length.seconds for length in lengths) / 3600,
        frames=scale * sum(length.frames for length in lengths),
        frames_per_second=_throughput(local, run),
        workers=workers,
        segments=scale * sum(segments),
        repeated=scale * sum(repeated),
    )


def _segments(length: Length, cutting: Cutting) -> int:
    """Approximate number of segments of a video; 0 if it is not cut."""
    if length.seconds <= cutting.length:
        return 0
    return 1 + ceil((length.seconds - cutting.length) / (cutting.length - cutting.overlap))


def _length(video: Video) -> Length | None:
    """The length of the selected part of a video, if known from the header."""
    if "://" in video.address or not Path(video.address).is_file():
        return None
    try:
        with open_video(Path(video.address)) as (container, stream):
            if container.duration is None:
                return None
            seconds = container.duration / 1e6
            rate = float(stream.average_rate or 25)
    except InputError:
        return None
    chosen = video.options.selection
    seconds = min(chosen.end or seconds, seconds) - (chosen.start or 0.0)
    frames = seconds * rate / chosen.stride
    if chosen.max_frames is not None:
        frames = min(frames, chosen.max_frames)
    return Length(max(0.0, seconds), max(0.0, frames))


def _throughput(videos: Iterable[Video], run: RunOptions) -> float | None:
    """Frames per second of detection and association, with the batch size of the run."""
    for video in videos:
        options = video.options
        with suppress(InputError):
            frames = list(islice(open_source(video.address).frames(), (_BATCHES + 1) * run.batch))
            tracker = load_tracker(options, run.device)
            start, count = 0.0, 0
            for count, _ in enumerate(tracker.follow_video(frames, run.batch), 1):  # noqa: B007
                start = start or time.perf_counter()  # after the first batch
            spent = time.perf_counter() - start
            return (count - run.batch) / spent if count > run.batch and spent > 0 else None
    return None
