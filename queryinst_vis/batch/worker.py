"""One worker: weights loaded once, several videos side by side, results in the data set."""

from __future__ import annotations

import time
from collections.abc import Hashable
from contextlib import ExitStack
from functools import partial

from queryinst_vis.batch.decoding import DecodedVideo, Kind, VideoFailedError
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

_IDLE = 0.01  # seconds between looks at whether a video is open
_PAUSE = 0.2  # seconds after which a driver that had no video is asked again
_DETECTORS = 4  # that a worker keeps, where videos ask for different weights or settings


class Worker:
    """Tracks the videos that a driver hands out.

    Args:
        run: what holds for all of them.
        driver: hands them out.
    """

    def __init__(self, run: RunOptions, driver: Driver) -> None:
        self._run = run
        self._driver = driver
        self._store = Store(run.out)
        self._ask_again = 0.0  # monotonic seconds
        self._opening: list[_Begun] = []
        self._running: dict[VideoRun[Outcome], _Begun] = {}
        self._detectors: dict[Hashable, FrameDetector] = {}

    def work(self) -> None:
        """Track until the driver says that it is over."""
        try:
            while self._opening or not self._driver.is_over():
                streams, batch = self._run.streams, self._run.batch
                for finished in run_side_by_side(self._next_run, streams, batch):
                    begun = self._running.pop(finished)
                    begun.close()
                    self._driver.finished(_outcome(begun.video, finished))
                time.sleep(_IDLE)
        finally:
            for begun in [*self._opening, *self._running.values()]:
                begun.close()

    def _next_run(self) -> VideoRun[Outcome] | None:
        """Begin the next video that is open; see to it that others are being opened."""
        now = time.monotonic()
        if len(self._opening) < self._run.streams and now >= self._ask_again:
            video = self._driver.take()
            if video is None:
                self._ask_again = now + _PAUSE
            else:
                self._opening.append(_Begun(video, self._run))
        for begun in list(self._opening):
            try:
                if not begun.is_ready():
                    continue
                begin = self._begin if begun.cut is None else self._report_segments
                started = begin(begun)
            except InputError as error:
                started = _failure(begun.video, error, "input")
            self._opening.remove(begun)
            if isinstance(started, VideoRun):
                self._running[started] = begun
                return started
            begun.close()
            self._driver.finished(started)
        return None

    def _report_segments(self, begun: _Begun) -> Outcome:
        """What any worker may track of a long video."""
        cut = begun.cut
        assert cut is not None
        tracked = tracked_segments(self._store, key_of(begun.video, self._run), cut)
        return Outcome(begun.video, cut=cut, tracked=tracked)

    def _begin(self, begun: _Begun) -> VideoRun[Outcome]:
        video, options = begun.video, begun.video.options
        writer = ResultWriter(self._store, self._run, video, begun.folder)
        tracker = VideoTracker(self._detector(options))
        if video.part is not None and video.part.segment is None:
            # its frames have been tracked: all that is left runs beside other videos' tracking
            lane = Lane(tracker, _NoFrames())
            return VideoRun(lane, lambda _: writer.write_joined(begun.source))
        source = begun.source
        assert source is not None
        lane = Lane(tracker, source, classes=options.classes, iou=options.iou)
        if video.part is not None:
            return VideoRun(lane, partial(writer.write_segment, source, tracker))
        return VideoRun(lane, partial(writer.write_video, writer.plan(source), source, tracker))

    def _detector(self, options: VideoOptions) -> FrameDetector:
        """The detector of these options, shared by all videos that need it."""
        key = options.detector_key
        if key not in self._detectors:
            while len(self._detectors) >= _DETECTORS:
                del self._detectors[next(iter(self._detectors))]
            self._detectors[key] = load_tracker(options, self._run.device).detector
        return self._detectors[key]


class _Begun:
    """A video that is being decoded, and its folder for temporary files.

    Attributes:
        source: the video; None: its segments are to be joined, and no file needs its frames.
    """

    def __init__(self, video: Video, run: RunOptions) -> None:
        self.video = video
        self._stack = ExitStack()
        self.folder = self._stack.enter_context(temporary_folder())
        self.source: DecodedVideo | None = None
        if video.part is None or video.part.segment is not None or video.options.save:
            cutting = run.cutting if video.part is None else None
            self.source = DecodedVideo(video, self.folder, run, cutting)
            self._stack.callback(self.source.close)

    @property
    def cut(self) -> Cut | None:
        """The segments of a long video, once it is ready; None: it is short, or a part itself."""
        return None if self.source is None else self.source.cut

    def is_ready(self) -> bool:
        """Whether the video is open, without waiting; raises what ``DecodedVideo.is_open`` does."""
        return self.source is None or self.source.is_open()

    def close(self) -> None:
        """End the decoding and remove the folder."""
        self._stack.close()


class _NoFrames:
    """The feed of a video that is only to be written."""

    ended = True

    def poll(self) -> Frame | None:
        """Nothing."""
        return None

    def close(self) -> None:
        """Nothing is open."""


def _outcome(video: Video, run: VideoRun[Outcome]) -> Outcome:
    error = run.outcome.exception()
    return run.outcome.result() if error is None else _failure(video, error, "output")


def _failure(video: Video, error: BaseException, kind: Kind) -> Outcome:
    """What became of a video; ``kind``: of an error that does not say so and is not a bug."""
    where = "" if video.part is None else f"{video.part}: "
    if isinstance(error, VideoFailedError):
        return Outcome(video, error.kind, f"{where}{error}")
    if isinstance(error, InputError):
        return Outcome(video, kind, f"{where}{error}")
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Outcome(video, "error", f"{where}{reason}")
