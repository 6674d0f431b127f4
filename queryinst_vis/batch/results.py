"""Writes the results of a video or a segment to the data set."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from queryinst_vis.batch.decoder_process import DecodeWarning
from queryinst_vis.batch.decoding import DecodedVideo
from queryinst_vis.batch.dispatcher import Outcome
from queryinst_vis.batch.joined_video import JoinedVideo, merge_warnings
from queryinst_vis.batch.options import RunOptions, Video
from queryinst_vis.batch.segment_files import (
    SegmentInfo,
    SegmentRecorder,
    put_segment,
    remove_segments,
)
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
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.formats.track_tables import write_parquet
from queryinst_vis.inference.outputs import OutputContext, OutputKind, OutputPlan
from queryinst_vis.inference.outputs.from_tracks import from_tracks
from queryinst_vis.inference.outputs.writing import FoundBy, write_outputs
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.inference.video_runs import Results
from queryinst_vis.report.outputs import ALL_OUTPUTS
from queryinst_vis.utils.stage_times import StageTimes
from queryinst_vis.video.source import Source

_TABLES = "tables"  # output kind of the tables "tracks" and "detections"


class ResultWriter:
    """Writes the results of one video, first to local files, then to the data set.

    Args:
        store: the data set.
        run: settings of the run.
        video: the video, or a part of it.
        folder: for temporary files; the caller removes it.
    """

    def __init__(self, store: Store, run: RunOptions, video: Video, folder: Path) -> None:
        self._store, self._run, self._video, self._folder = store, run, video, folder
        self._key = key_of(video, run)

    def plan(self, source: Source) -> OutputPlan:
        """The output files of a whole video.

        Raises:
            InputError: as for ``OutputPlan``.
        """
        options = self._video.options
        kinds = {
            _TABLES: OutputKind(
                from_tracks(partial(_write_tables, self._key)),
                (f"{_TABLES}/tracks.parquet", f"{_TABLES}/detections.parquet"),
                "tables of the data set",
            ),
            **ALL_OUTPUTS,
        }
        return OutputPlan(
            self._folder / "out" / "files",
            source,
            replace(options, save=(_TABLES, *options.save)),
            kinds=kinds,
        )

    def write_video(
        self, plan: OutputPlan, source: DecodedVideo, tracker: VideoTracker, results: Results
    ) -> Outcome:
        """Write the results of a video that is tracked as a whole."""
        duration = _Duration()
        record = self._write_files(plan, source, tracker, duration.of(results))
        assert source.opened is not None
        decoded = {
            "bytes": source.opened.bytes,
            "sha256": source.opened.sha256,
            "seconds_decoding": round(source.seconds, 3),
        }
        stages = self._commit(plan, record, decoded, source.warnings, duration.seconds)
        return Outcome(
            self._video, frames=record["frames"], seconds=duration.seconds, stages=stages
        )

    def write_segment(
        self, source: DecodedVideo, tracker: VideoTracker, results: Results
    ) -> Outcome:
        """Store the results of a segment until all segments of the video have been tracked."""
        start, times = time.perf_counter(), StageTimes()
        segment = self._video.part.segment if self._video.part is not None else None
        assert segment is not None
        recorder = SegmentRecorder(segment, keep_embeddings=bool(self._video.options.save))
        path = self._folder / "segment.parquet"
        with closing(times.over(results, "tracking")) as timed:
            recorder.write(path, timed)
        total = time.perf_counter() - start
        spent = {
            "decoding": source.seconds,
            "tracking": times["tracking"],
            "writing": total - times["tracking"],
        }
        info = SegmentInfo(
            frames=recorder.frames,
            order=recorder.order,
            class_names=list(tracker.class_names),
            size=recorder.size,
            fps=source.fps,
            pixel_aspect=str(source.pixel_aspect),
            precision=tracker.precision,
            warnings=source.warnings,
            seconds={**spent, "total": total},
        )
        put_segment(self._store, self._key, segment, path, info)
        return Outcome(self._video, frames=recorder.frames, seconds=segment.seconds, stages=spent)

    def write_joined(self, decoded: DecodedVideo | None) -> Outcome:
        """Join the segments of a video, write its results and delete the segments.

        Args:
            decoded: the whole video, if ``--save`` outputs need its frames; else None.
        """
        part = self._video.part
        assert part is not None
        joined = JoinedVideo(self._store, self._key, self._video, part.cut, decoded)
        plan = self.plan(joined)
        duration = _Duration()
        record = self._write_files(plan, joined, joined, duration.of(joined.results()))
        joining = dict(record["seconds"])
        record["seconds"] = {
            stage: round(spent + joined.seconds[stage], 3) for stage, spent in joining.items()
        }
        source = {
            "bytes": part.cut.bytes,
            "sha256": part.cut.sha256,
            "seconds_decoding": round(joined.seconds["decoding"], 3),
        }
        self._commit(plan, record, source, joined.warnings, duration.seconds)
        remove_segments(self._store, self._key)
        return Outcome(self._video, stages={"joining": joining["total"]})

    def _write_files(
        self, plan: OutputPlan, source: Source, found_by: FoundBy, results: Results
    ) -> dict[str, Any]:
        """Write local files; returns the content of ``run.json``."""
        write_outputs(
            plan, found_by, results, source, StageTimes(), behind=self._run.batch, progress=False
        )
        return json.loads(plan.run_file.read_text())

    def _commit(
        self,
        plan: OutputPlan,
        record: Mapping[str, Any],
        source: Mapping[str, Any],
        warnings: Sequence[DecodeWarning],
        duration: float,
    ) -> dict[str, float]:
        """Copy the files to the data set, ``videos`` last; returns seconds by stage."""
        folder = plan.run_file.parent
        if self._video.options.save:
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                if file.parent.name != _TABLES:
                    name = file.relative_to(folder).as_posix()
                    self._store.put(file, f"{FILES}/{self._key}/{name}")
        for table in ("tracks", "detections"):
            self._store.put(folder / _TABLES / f"{table}.parquet", file_of(table, self._key))
        columns = {
            **source,
            "warnings": json.dumps(merge_warnings([warnings])),
            "duration": duration,
        }
        row = video_row(self._key, self._video, self._run, columns, record, time.time())
        path = self._folder / "videos.parquet"
        write_parquet(path, VIDEO_COLUMNS, iter([row]))
        self._store.put(path, file_of("videos", self._key))
        return {stage: row[f"seconds_{stage}"] for stage in ("decoding", "tracking", "writing")}


class _Duration:
    """Measures the time from the first frame to the last, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def of(self, results: Results) -> Results:
        """Yield the results unchanged."""
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
