"""One worker: weights loaded once, several videos side by side, results in the data set."""

from __future__ import annotations

import json
import time
from collections.abc import Hashable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from queryinst_vis.batch.decoding import DecodedVideo, VideoFailedError
from queryinst_vis.batch.dispatcher import Driver, Outcome
from queryinst_vis.batch.options import RunOptions, Video, VideoOptions
from queryinst_vis.batch.store import Store
from queryinst_vis.batch.tables import (
    DETECTION_TABLE,
    FILES,
    TRACK_TABLE,
    VIDEO_COLUMNS,
    detections_table,
    file_of,
    key_of,
    tracks_table,
    video_row,
)
from queryinst_vis.errors import InputError
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.formats.track_tables import write_parquet
from queryinst_vis.inference.detector import FrameDetector
from queryinst_vis.inference.outputs import OutputContext, OutputKind, OutputPlan
from queryinst_vis.inference.outputs.from_tracks import from_tracks
from queryinst_vis.inference.outputs.writing import write_outputs
from queryinst_vis.inference.side_by_side import Lane
from queryinst_vis.inference.track import load_tracker
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.inference.video_runs import Results, VideoRun, run_side_by_side
from queryinst_vis.report.outputs import ALL_OUTPUTS
from queryinst_vis.utils.files import temporary_folder
from queryinst_vis.utils.stage_times import StageTimes

_IDLE = 0.01  # seconds between looks at whether a video is open
_PAUSE = 0.2  # seconds after which a driver that had no video is asked again
_DETECTORS = 4  # that a worker keeps, where videos ask for different weights or settings
_TABLES = "tables"  # the two tables of a video, as an output of tracking


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
                if not begun.source.is_open():
                    continue
                run = self._begin(begun)
            except InputError as error:
                self._opening.remove(begun)
                begun.close()
                self._driver.finished(_failure(begun.video, error))
                continue
            self._opening.remove(begun)
            self._running[run] = begun
            return run
        return None

    def _begin(self, begun: _Begun) -> VideoRun[Outcome]:
        video, options = begun.video, begun.video.options
        key = key_of(video, self._run)
        folder = begun.folder / "out"
        kinds = {
            _TABLES: OutputKind(
                from_tracks(partial(_write_tables, key)),
                (f"{_TABLES}/tracks.parquet", f"{_TABLES}/detections.parquet"),
                "tables of the data set",
            ),
            **ALL_OUTPUTS,
        }
        plan = OutputPlan(
            folder / "files",
            begun.source,
            replace(options, save=(_TABLES, *options.save)),
            kinds=kinds,
        )
        tracker = VideoTracker(self._detector(options))
        lane = Lane(tracker, begun.source, classes=options.classes, iou=options.iou)
        return VideoRun(lane, partial(self._write, begun, key, plan, tracker))

    def _write(
        self,
        begun: _Begun,
        key: str,
        plan: OutputPlan,
        tracker: VideoTracker,
        results: Results,
    ) -> Outcome:
        """Write the files on this machine, then copy them to the data set: ``videos`` last."""
        length = _Length()
        summary = write_outputs(
            plan,
            tracker,
            length.over(results),
            begun.source,
            StageTimes(),
            behind=self._run.batch,
            progress=False,
        )
        record = json.loads(plan.run_file.read_text())
        folder = plan.run_file.parent
        if begun.video.options.save:
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                if file.parent.name != _TABLES:
                    name = file.relative_to(folder).as_posix()
                    self._store.put(file, f"{FILES}/{key}/{name}")
        for table in ("tracks", "detections"):
            self._store.put(folder / _TABLES / f"{table}.parquet", file_of(table, key))
        opened = begun.source.opened
        assert opened is not None
        known = {
            "bytes": opened.bytes,
            "sha256": opened.sha256,
            "warnings": json.dumps(begun.source.warnings),
            "duration": length.seconds,
            "seconds_decoding": round(begun.source.seconds, 3),
        }
        row = video_row(key, begun.video, self._run, known, record, time.time())
        path = begun.folder / "videos.parquet"
        write_parquet(path, VIDEO_COLUMNS, iter([row]))
        self._store.put(path, file_of("videos", key))
        stages = {
            "decoding": row["seconds_decoding"],
            "tracking": row["seconds_tracking"],
            "writing": row["seconds_writing"],
        }
        return Outcome(begun.video, frames=summary.frames, seconds=length.seconds, stages=stages)

    def _detector(self, options: VideoOptions) -> FrameDetector:
        """The detector of these options, shared by all videos that need it."""
        key = options.detector_key
        if key not in self._detectors:
            while len(self._detectors) >= _DETECTORS:
                del self._detectors[next(iter(self._detectors))]
            self._detectors[key] = load_tracker(options, self._run.device).detector
        return self._detectors[key]


class _Begun:
    """A video that is being decoded, and its folder for temporary files."""

    def __init__(self, video: Video, run: RunOptions) -> None:
        self.video = video
        self._stack = ExitStack()
        self.folder = self._stack.enter_context(temporary_folder())
        self.source = DecodedVideo(video, self.folder, run)
        self._stack.callback(self.source.close)

    def close(self) -> None:
        """End the decoding and remove the folder."""
        self._stack.close()


class _Length:
    """Seconds from the first frame to the last."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, results: Results) -> Results:
        """Pass results on."""
        first: float | None = None
        for result in results:
            if result.seconds is not None:
                first = result.seconds if first is None else first
                self.seconds = result.seconds - first
            yield result


def _write_tables(key: str, context: OutputContext, tracks: TrackStore, paths: list[Path]) -> None:
    video = context.video
    write_parquet(paths[0], TRACK_TABLE, tracks_table(key, tracks, video))
    write_parquet(paths[1], DETECTION_TABLE, detections_table(key, tracks, video))


def _outcome(video: Video, run: VideoRun[Outcome]) -> Outcome:
    error = run.outcome.exception()
    return run.outcome.result() if error is None else _failure(video, error)


def _failure(video: Video, error: BaseException) -> Outcome:
    if isinstance(error, VideoFailedError):
        return Outcome(video, error.kind, str(error))
    if isinstance(error, InputError):
        return Outcome(video, "input", str(error))
    return Outcome(video, "error", f"{type(error).__name__}: {' '.join(str(error).split())}")
