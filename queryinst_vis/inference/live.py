"""Tracking a live source with the least delay."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from queryinst_vis.drawing import DEFAULT_STYLE, NOTHING_HIDDEN, DrawingStyle, Redaction
from queryinst_vis.inference.any_detector import AnyDetector
from queryinst_vis.inference.outputs import DEFAULT_SAVE, OUTPUTS, OutputKind, OutputPlan
from queryinst_vis.inference.outputs.writing import TrackSummary, write_outputs
from queryinst_vis.inference.result import FrameResult
from queryinst_vis.inference.side_by_side import Lane
from queryinst_vis.inference.track import load_tracker, settings_of
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.inference.video_runs import VideoRun, run_side_by_side
from queryinst_vis.utils.interrupt import StopRequest
from queryinst_vis.utils.prefetch import Polled
from queryinst_vis.utils.stage_times import StageTimes
from queryinst_vis.video.encoders import X264
from queryinst_vis.video.frames import Selection
from queryinst_vis.video.source import LiveSource


@dataclass(frozen=True)
class LiveSummary:
    """What came out of a live source.

    Attributes:
        tracked: summary of the processed frames.
        dropped: number of frames that arrived while another was being processed.
        median, percentile_95: milliseconds from a frame's arrival to its detections.
        fault: why the source broke off, or None.
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
            lines.append(f"the source broke off: {self.fault}")
        return "\n".join(lines)


class Latencies:
    """Latencies of any number of frames, to the millisecond, in constant memory."""

    def __init__(self) -> None:
        self._counts = np.zeros(60_001, dtype=np.int64)  # by milliseconds

    def add(self, seconds: float) -> None:
        """Take one into account; what is above a minute counts as a minute."""
        self._counts[min(round(seconds * 1000), 60_000)] += 1

    def percentile(self, share: float) -> int:
        """Milliseconds that at least this share, 0..1, of the latencies do not exceed.

        Raises:
            ValueError: there are none.
        """
        up_to = self._counts.cumsum()
        if not up_to[-1]:
            raise ValueError("there are no latencies yet")
        return int(np.searchsorted(up_to, max(share * up_to[-1], 1)))


def track_live(
    source: str | Path | LiveSource,
    out_dir: str | Path | None = None,
    weights: AnyDetector = "people",
    *,
    save: Sequence[str] = DEFAULT_SAVE,
    kinds: Mapping[str, OutputKind] = OUTPUTS,
    style: DrawingStyle = DEFAULT_STYLE,
    encoder: str = X264,
    redaction: Redaction = NOTHING_HIDDEN,
    score_threshold: float | None = None,
    classes: Sequence[str | int] | None = None,
    iou: float | None = None,
    max_frames: int | None = None,
    max_size: int | None = None,
    device: str = "auto",
    overrides: list[str] | None = None,
    overwrite: bool = False,
) -> LiveSummary:
    """Follow the instances of a live source with the least delay, until it ends or Ctrl-C.

    The tracker always goes on with the newest frame; what came while it was busy is dropped. The
    files are those of ``track_video``, with the frames that were looked at: in the annotated
    video each is shown from the moment at which it came until the next one, so the video runs in
    real time, and the masks in ``results.json`` are those of its frames. Memory does not grow.

    The first Ctrl-C (or SIGTERM), and a source that breaks off, end the recording and finish the
    files; a second Ctrl-C leaves nothing.

    Args:
        source: what ``LiveReader`` reads, or an open source that is live.
        out_dir: folder for the results; made where missing. None: ``out/NAME-OF-SOURCE``.
        weights, save, kinds, style, encoder, redaction, score_threshold, classes, iou,
            max_size, device, overrides: as for ``track_video``.
        max_frames: stop after this many frames that were looked at; None: never.
        overwrite: replace another source's results in ``out_dir`` instead of refusing.

    Raises:
        InputError: the source, the weights or the overrides cannot be used, or the folder not be
            written.
        KeyboardInterrupt: stopped before the first frame came.
    """
    if not isinstance(source, LiveSource):
        source = LiveSource(source, Selection(max_frames=max_frames))
    [summary] = track_lives(
        [source],
        [out_dir or Path("out") / source.name],
        weights,
        save=save,
        kinds=kinds,
        style=style,
        encoder=encoder,
        redaction=redaction,
        score_threshold=score_threshold,
        classes=classes,
        iou=iou,
        max_frames=max_frames,
        max_size=max_size,
        device=device,
        overrides=overrides,
        overwrite=overwrite,
    )
    return summary


def track_lives(
    sources: Sequence[LiveSource],
    folders: Sequence[str | Path],
    weights: AnyDetector = "people",
    *,
    save: Sequence[str] = DEFAULT_SAVE,
    kinds: Mapping[str, OutputKind] = OUTPUTS,
    style: DrawingStyle = DEFAULT_STYLE,
    encoder: str = X264,
    redaction: Redaction = NOTHING_HIDDEN,
    score_threshold: float | None = None,
    classes: Sequence[str | int] | None = None,
    iou: float | None = None,
    max_frames: int | None = None,
    max_size: int | None = None,
    device: str = "auto",
    overrides: list[str] | None = None,
    overwrite: bool = False,
) -> Iterator[LiveSummary]:
    """Follow several live sources at a time, as ``track_live`` does one.

    Frames of one network input size that are there at the same time share a batch; no camera waits
    for another.

    Args:
        sources: open sources.
        folders: where the files of each go.
        weights, save, kinds, style, encoder, redaction, score_threshold, classes, iou,
            max_frames, max_size, device, overrides, overwrite: as for ``track_live``.

    Returns:
        What came out of each, as soon as its files are there.

    Raises:
        InputError, KeyboardInterrupt: as for ``track_live``.
    """
    selection = Selection(max_frames=max_frames)
    run = settings_of(weights, score_threshold, classes, iou, max_size, overrides, selection)
    plans = [
        OutputPlan(
            folder,
            source,
            save,
            overwrite=overwrite,
            run=run,
            style=style,
            encoder=encoder,
            redaction=redaction,
            kinds=kinds,
        )
        for source, folder in zip(sources, folders, strict=True)
    ]
    tracker = load_tracker(weights, score_threshold, max_size, device, overrides)
    return _follow_all(tracker, list(zip(sources, plans, strict=True)), classes, iou)


def _follow_all(
    tracker: VideoTracker,
    videos: list[tuple[LiveSource, OutputPlan]],
    classes: Sequence[str | int] | None,
    iou: float | None,
) -> Iterator[LiveSummary]:
    with StopRequest() as stop:
        for source, _ in videos:
            source.until = lambda: stop.requested
        if len(videos) == 1:
            [(source, plan)] = videos
            tracker.reset()
            found = tracker.follow_video(source.frames(), classes=classes, iou=iou)
            yield _write(found, tracker, source, plan)
            return
        runs = (_begin(VideoTracker(tracker.detector), *video, classes, iou) for video in videos)
        count = len(videos)
        side_by_side = run_side_by_side(lambda: next(runs, None), count, count, patience=0)
        with closing(side_by_side) as done:
            for run in done:
                yield run.outcome.result()


def _begin(
    tracker: VideoTracker,
    source: LiveSource,
    plan: OutputPlan,
    classes: Sequence[str | int] | None,
    iou: float | None,
) -> VideoRun[LiveSummary]:
    lane = Lane(tracker, Polled(source.frames(), 1), classes=classes, iou=iou)
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
    timed = _timed(found, latencies)
    tracked = write_outputs(plan, tracker, timed, source, StageTimes(), progress=progress)
    return LiveSummary(
        tracked,
        source.dropped,
        latencies.percentile(0.5),
        latencies.percentile(0.95),
        source.fault,
    )


def _timed(
    results: Generator[FrameResult, None, None], latencies: Latencies
) -> Generator[FrameResult, None, None]:
    """Every frame that was looked at, with its time since the first one."""
    first: float | None = None
    with closing(results):
        for found in results:
            assert found.seconds is not None
            latencies.add(time.perf_counter() - found.seconds)
            first = found.seconds if first is None else first
            yield replace(found, seconds=found.seconds - first)
    if first is None:  # only after Ctrl-C: a source that ends so has raised an InputError
        raise KeyboardInterrupt
