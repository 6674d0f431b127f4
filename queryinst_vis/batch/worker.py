"""A worker: loads weights once, tracks several videos concurrently, writes to the data set."""

from __future__ import annotations

import time
from collections.abc import Hashable
from contextlib import ExitStack
from functools import partial

from queryinst_vis.batch.decoding import DecodedVideo, FailureKind, VideoFailedError
from queryinst_vis.batch.dispatcher import Driver, Outcome
from queryinst_vis.batch.options import RunOptions, Video, VideoOptions
from queryinst_vis.batch.results import ResultWriter
from queryinst_vis.batch.segment_files import tracked_segments
from queryinst_vis.batch.segments import Cut
from queryinst_vis.batch.store import Store
from queryinst_vis.batch.tables import key_of
from queryinst_vis.errors import InputError
from queryinst_vis.inference.detector import FrameDetector
from queryinst_vis.inference.side_by_side import Lane
from queryinst_vis.inference.track import load_tracker
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.inference.video_runs import VideoRun, run_side_by_side
from queryinst_vis.utils.files import temporary_folder
from queryinst_vis.video.frames import Frame

_POLL_INTERVAL = 0.01  # seconds between checks whether a video has been opened
_REQUEST_INTERVAL = 0.2  # seconds until the next request after the driver had no video
_MAX_DETECTORS = 4  # kept in memory if videos need different weights or settings


class Worker:
    """Tracks the videos that a driver hands out.

    Args:
        run: settings of the run.
        driver: hands out the videos.
        imports: as for ``DecodedVideo``.
    """

    def __init__(self, run: RunOptions, driver: Driver, imports: tuple[str, ...] = ()) -> None:
        self._run = run
        self._imports = imports
        self._driver = driver
        self._store = Store(run.out)
        self._next_request = 0.0  # monotonic seconds
        self._opening: list[_Job] = []
        self._running: dict[VideoRun[Outcome], _Job] = {}
        self._detectors: dict[Hashable, FrameDetector] = {}

    def work(self) -> None:
        """Track until the driver reports the end of the run."""
        try:
            while self._opening or not self._driver.is_over():
                streams, batch = self._run.streams, self._run.batch
                for run in run_side_by_side(self._next_run, streams, batch):
                    job = self._running.pop(run)
                    job.close()
                    self._driver.finished(_outcome(job.video, run))
                time.sleep(_POLL_INTERVAL)
        finally:
            for job in [*self._opening, *self._running.values()]:
                job.close()

    def _next_run(self) -> VideoRun[Outcome] | None:
        """Start tracking a video that has been opened; None if there is none at present."""
        self._request_video()
        for job in list(self._opening):
            try:
                if not job.is_ready():
                    continue
                started = self._start(job) if job.cut is None else self._found_segments(job)
            except InputError as error:
                started = _failure(job.video, error, "input")
            self._opening.remove(job)
            if isinstance(started, VideoRun):
                self._running[started] = job
                return started
            job.close()
            self._driver.finished(started)
        return None

    def _request_video(self) -> None:
        """Start to open another video, unless enough are being opened."""
        now = time.monotonic()
        if len(self._opening) >= self._run.streams or now < self._next_request:
            return
        video = self._driver.take()
        if video is None:
            self._next_request = now + _REQUEST_INTERVAL
        else:
            self._opening.append(_Job(video, self._run, self._imports))

    def _found_segments(self, job: _Job) -> Outcome:
        """The segments of a long video, which the driver hands out one by one."""
        cut = job.cut
        assert cut is not None
        tracked = tracked_segments(self._store, key_of(job.video, self._run), cut)
        return Outcome(job.video, cut=cut, tracked=tracked)

    def _start(self, job: _Job) -> VideoRun[Outcome]:
        video, options, source = job.video, job.video.options, job.source
        writer = ResultWriter(self._store, self._run, video, job.folder)
        tracker = VideoTracker(self._detector(options))
        if video.part is not None and video.part.segment is None:
            # nothing to detect: joining runs in the writer's thread while other videos are tracked
            lane = Lane(tracker, _NoFrames())
            return VideoRun(lane, lambda _: writer.write_joined(source))
        assert source is not None
        lane = Lane(tracker, source, classes=options.classes, iou=options.iou)
        if video.part is not None:
            return VideoRun(lane, partial(writer.write_segment, source, tracker))
        return VideoRun(lane, partial(writer.write_video, writer.plan(source), source, tracker))

    def _detector(self, options: VideoOptions) -> FrameDetector:
        """The detector for these options; videos with the same weights and settings share it."""
        key = options.detector_key
        if key not in self._detectors:
            while len(self._detectors) >= _MAX_DETECTORS:
                del self._detectors[next(iter(self._detectors))]
            self._detectors[key] = load_tracker(options, self._run.device).detector
        return self._detectors[key]


class _Job:
    """A video that this worker has taken: its decoder and a folder for temporary files.

    Attributes:
        source: the video; None if its segments are joined and no output needs its frames.
    """

    def __init__(self, video: Video, run: RunOptions, imports: tuple[str, ...]) -> None:
        self.video = video
        self._stack = ExitStack()
        self.folder = self._stack.enter_context(temporary_folder())
        self.source: DecodedVideo | None = None
        if video.part is None or video.part.segment is not None or video.options.save:
            cutting = run.cutting if video.part is None else None
            self.source = DecodedVideo(video, self.folder, run, cutting, imports)
            self._stack.callback(self.source.close)

    @property
    def cut(self) -> Cut | None:
        """The segments of a long video, once it is ready; None for short videos and for parts."""
        return None if self.source is None else self.source.cut

    def is_ready(self) -> bool:
        """Whether it can start, without waiting; raises what ``DecodedVideo.is_open`` raises."""
        return self.source is None or self.source.is_open()

    def close(self) -> None:
        """Stop decoding and delete the folder."""
        self._stack.close()


class _NoFrames:
    """An empty feed."""

    ended = True

    def poll(self) -> Frame | None:
        """No frame."""
        return None

    def close(self) -> None:
        """Do nothing."""


def _outcome(video: Video, run: VideoRun[Outcome]) -> Outcome:
    error = run.outcome.exception()
    return run.outcome.result() if error is None else _failure(video, error, "output")


def _failure(video: Video, error: BaseException, kind: FailureKind) -> Outcome:
    """The outcome of a failed video; ``kind`` is that of an ``InputError`` without its own."""
    where = "" if video.part is None else f"{video.part}: "
    if isinstance(error, VideoFailedError):
        return Outcome(video, error.kind, f"{where}{error}")
    if isinstance(error, InputError):
        return Outcome(video, kind, f"{where}{error}")
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Outcome(video, "error", f"{where}{reason}")
