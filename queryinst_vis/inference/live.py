"""Tracking live sources at the lowest latency."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from queryinst_vis.errors import InputWarning
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.inference.outputs import OUTPUTS, OutputKind, OutputPlan
from queryinst_vis.inference.outputs.writing import TrackSummary, write_outputs
from queryinst_vis.inference.result import FrameResult
from queryinst_vis.inference.side_by_side import Lane
from queryinst_vis.inference.track import load_tracker, plans_of
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.inference.video_runs import VideoRun, run_side_by_side
from queryinst_vis.utils.interrupt import StopRequest
from queryinst_vis.utils.stage_times import StageTimes
from queryinst_vis.video.live import Clock
from queryinst_vis.video.source import LiveSource


@dataclass(frozen=True)
class LiveSummary:
    """Summary of a live source.

    Attributes:
        tracked: summary of the processed frames.
        dropped: number of frames that arrived while another was being processed.
        median, percentile_95: milliseconds from a frame's arrival to its detections.
        fault: why the source disconnected, or None.
    """

    tracked: TrackSummary
    dropped: int
    median: int
    percentile_95: int
    fault: str | None

    def __str__(self) -> str:
        lines = [
            str(self.tracked),
            f"{self.dropped} frames dropped",
            f"latency from arrival to detections: {self.median} ms (median), "
            f"{self.percentile_95} ms (95th percentile)",
        ]
        if self.fault is not None:
            lines.append(f"the source ended unexpectedly: {self.fault}")
        return "\n".join(lines)


class Latencies:
    """Percentiles of any number of latencies, in milliseconds, in constant memory."""

    def __init__(self) -> None:
        self._counts = np.zeros(60_001, dtype=np.int64)  # histogram by milliseconds

    def add(self, seconds: float) -> None:
        """Add a latency; values above a minute count as a minute."""
        self._counts[min(round(seconds * 1000), 60_000)] += 1

    def percentile(self, share: float) -> int:
        """A percentile in milliseconds.

        Args:
            share: fraction of the latencies that do not exceed it, 0..1.

        Raises:
            ValueError: no latency has been added.
        """
        up_to = self._counts.cumsum()
        if not up_to[-1]:
            raise ValueError("there are no latencies yet")
        return int(np.searchsorted(up_to, max(share * up_to[-1], 1)))


def track_live(
    sources: Sequence[LiveSource],
    folders: Sequence[str | Path],
    options: TrackOptions,
    *,
    kinds: Mapping[str, OutputKind] = OUTPUTS,
    device: str = "auto",
    overwrite: bool = False,
) -> Iterator[LiveSummary]:
    """Track live sources at the lowest latency, until they end or Ctrl-C is pressed.

    Each source is always continued with its newest frame; frames that arrive while the tracker is
    busy are dropped. The files are those of ``track_video``, for the processed frames: in the
    annotated video each is shown from its arrival until the next one, so the video plays in real
    time. Memory does not grow with the length of the recording.

    Frames of several sources that arrive at the same time and have the same network input size
    share a batch; no source waits for another.

    The first Ctrl-C (or SIGTERM), or the end of a source, for whatever reason, stops the recording
    and finishes the files; a second Ctrl-C discards them. Of several sources, one that fails
    without a result (an ``InputWarning``) does not stop the others.

    Args:
        sources: open sources.
        folders: output folder of each source.
        options: of all sources. ``selection`` is only recorded: the sources already apply it.
        kinds: the available outputs.
        device: ``"auto"``: a GPU if available.
        overwrite: replace results of other sources in the folders.

    Returns:
        The summary of each source, as soon as its files are written.

    Raises:
        InputError: the weights or a folder cannot be used, or a source turned out to be unreadable;
            of several sources, when all have ended.
        KeyboardInterrupt: stopped before the first frame of a source arrived; likewise.
    """
    plans = plans_of(sources, folders, options, kinds, overwrite)
    tracker = load_tracker(options, device)
    return _follow_all(tracker, list(zip(sources, plans, strict=True)), options)


def _follow_all(
    tracker: VideoTracker,
    videos: list[tuple[LiveSource, OutputPlan]],
    options: TrackOptions,
) -> Iterator[LiveSummary]:
    with StopRequest() as stop:
        for source, _ in videos:
            source.until = lambda: stop.requested
        if len(videos) == 1:
            [(source, plan)] = videos
            tracker.reset()
            found = tracker.follow_video(source.frames(), classes=options.classes, iou=options.iou)
            yield _write(found, tracker, source, plan)
            return
        runs = (_begin(VideoTracker(tracker.detector), *video) for video in videos)
        count = len(videos)
        side_by_side = run_side_by_side(lambda: next(runs, None), count, count, patience=0)
        with closing(side_by_side) as done:
            yield from _successful(done)


def _successful(runs: Iterable[VideoRun[LiveSummary]]) -> Iterator[LiveSummary]:
    """The summaries of the sources; the first error is raised when all of them have ended."""
    first_error: BaseException | None = None
    for run in runs:
        error = run.outcome.exception()
        if error is None:
            yield run.outcome.result()
            continue
        if isinstance(error, Exception):
            message = f"{error}; the other sources are not affected"
            warnings.warn(message, InputWarning, stacklevel=2)
        first_error = first_error or error
    if first_error is not None:
        raise first_error


def _begin(tracker: VideoTracker, source: LiveSource, plan: OutputPlan) -> VideoRun[LiveSummary]:
    options = plan.options
    lane = Lane(tracker, source.feed(), classes=options.classes, iou=options.iou)
    return VideoRun(lane, lambda results: _write(results, tracker, source, plan, progress=False))


def _write(
    found: Generator[FrameResult, None, None],
    tracker: VideoTracker,
    source: LiveSource,
    plan: OutputPlan,
    *,
    progress: bool = True,
) -> LiveSummary:
    latencies = Latencies()
    timed = _timed(found, latencies, source.clock)
    tracked = write_outputs(plan, tracker, timed, source, StageTimes(), progress=progress)
    return LiveSummary(
        tracked,
        source.dropped,
        latencies.percentile(0.5),
        latencies.percentile(0.95),
        source.fault,
    )


def _timed(
    results: Generator[FrameResult, None, None], latencies: Latencies, clock: Clock
) -> Generator[FrameResult, None, None]:
    """Measure latencies; the times of results become relative to the first frame."""
    first: float | None = None
    with closing(results):
        for found in results:
            assert found.seconds is not None
            latencies.add(clock.now() - found.seconds)
            first = found.seconds if first is None else first
            yield replace(found, seconds=found.seconds - first)
    if first is None:  # only after Ctrl-C; a source without frames raises an InputError
        raise KeyboardInterrupt
