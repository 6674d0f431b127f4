"""Plans and executes a run, which tracks the videos that the data set does not contain yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import queryinst_vis
from queryinst_vis.batch.compaction import finish_compaction, outdated_keys, remove_outdated
from queryinst_vis.batch.dispatcher import Dispatcher, Event, Outcome, Pending
from queryinst_vis.batch.options import RunOptions, Video
from queryinst_vis.batch.segment_files import remove_stale_segments
from queryinst_vis.batch.status import Unfinished, read_unfinished, write_status
from queryinst_vis.batch.store import Store
from queryinst_vis.batch.summary import RunSummary, Workload
from queryinst_vis.batch.tables import (
    FAILURE_COLUMNS,
    done_keys,
    failed_keys,
    failure_row,
    file_of,
    id_of_key,
    key_of,
    remove_video,
    table_files,
)
from queryinst_vis.errors import InputError
from queryinst_vis.formats.track_tables import write_parquet
from queryinst_vis.inference.filters import check_classes
from queryinst_vis.inference.outputs.plan import check_outputs
from queryinst_vis.inference.track import load_tracker
from queryinst_vis.report.outputs import ALL_OUTPUTS
from queryinst_vis.utils.files import temporary_folder
from queryinst_vis.utils.progress import ProgressBar

Engine = Callable[[Dispatcher], Iterator[Event]]
"""Runs workers that track the videos of a dispatcher; yields their outcomes."""

_STATUS_INTERVAL = 2.0  # seconds between updates of the status file


@dataclass(frozen=True)
class RunPlan:
    """What a run will do.

    Attributes:
        store: the data set.
        todo: videos to track, by key. Those that were in progress when the driver was killed
            come last, as they may crash the machine again.
        done: number of videos that earlier runs completed.
        failed: number of videos that failed in earlier runs and are not retried.
        unfinished: attempts and interrupted videos of earlier runs.
    """

    store: Store
    todo: Mapping[str, Video]
    done: int
    failed: int
    unfinished: Unfinished

    def __str__(self) -> str:
        total = len(self.todo) + self.done + self.failed
        parts = [f"{total} videos: {len(self.todo)} to track"]
        if self.done:
            parts.append(f"{self.done} done before")
        if self.failed:
            parts.append(f"{self.failed} failed before (retry with --retry-failed)")
        return ", ".join(parts)


def plan_run(
    videos: Sequence[Video],
    run: RunOptions,
    *,
    retry_failed: bool = False,
    overwrite: bool = False,
) -> RunPlan:
    """Determine which videos the data set does not contain yet.

    Args:
        videos: all videos that the data set is to contain.
        run: settings of the run.
        retry_failed: retry videos that failed in earlier runs.
        overwrite: replace results that were computed with other settings.

    Raises:
        InputError: the data set cannot be read, or contains results of other settings.
    """
    store = Store(run.out)
    unfinished = read_unfinished(store)
    finish_compaction(store)
    keys = {key_of(video, run): video for video in videos}
    done = done_keys(store)
    done -= outdated_keys(store, done)
    remove_stale_segments(store, done)
    _check_settings(keys, done, store, overwrite)
    failed = failed_keys(store)
    skipped = set() if retry_failed else failed - done
    left = [key for key in keys if key not in done | skipped]
    left.sort(key=lambda key: key in unfinished.interrupted)
    return RunPlan(
        store,
        {key: keys[key] for key in left},
        sum(key in done for key in keys),
        sum(key in skipped for key in keys),
        unfinished,
    )


def _check_settings(
    keys: Mapping[str, Video],
    done: set[str],
    store: Store,
    overwrite: bool,
) -> None:
    """Refuse to replace existing results because of a forgotten option."""
    versions = {id_of_key(key): video.version for key, video in keys.items()}
    outdated = [key for key in done - set(keys) if id_of_key(key) in versions]
    if not outdated or overwrite:
        return
    recorded = {
        id_of_key(key): version for key, version in _versions(store).items() if key in outdated
    }
    changed = [each for each, version in recorded.items() if version == versions[each]]
    if changed:
        raise InputError(
            f"{store.name}: contains {len(changed)} of these videos, tracked with other weights or "
            "options, or by another version of this package; choose another --out, or replace them "
            "with --overwrite"
        )


def _versions(store: Store) -> dict[str, str]:
    """The content version of every completed video, by key."""
    found = {}
    for name in table_files(store, "videos"):
        table = store.open_parquet(f"videos/{name}").read(columns=["key", "version"])
        found.update({row["key"]: row["version"] for row in table.to_pylist()})
    return found


def check_options(videos: Sequence[Video], run: RunOptions) -> None:
    """Validate the options by loading each detector once, before workers are started.

    Raises:
        InputError: weights, a configuration override, a class or an output is invalid.
    """
    class_names: dict[Hashable, list[str]] = {}
    for options in {video.options for video in videos}:
        check_outputs(options.save, ALL_OUTPUTS)
        key = options.detector_key
        if key not in class_names:
            class_names[key] = list(load_tracker(options, run.device).class_names)
        if class_names[key]:
            check_classes(options.classes, class_names[key])
        blurred = [name for name in options.redaction.blur if isinstance(name, str)]
        if run.cutting is not None and blurred:
            raise InputError(
                f"--blur {blurred[0]}: segments keep only tracked instances, so others would stay "
                "visible; leave out --segment, or --blur"
            )


def execute(plan: RunPlan, run: RunOptions, engine: Engine) -> RunSummary:
    """Track the videos of a plan; each ends as a row in ``videos`` or in ``failures``.

    Args:
        plan: the videos.
        run: settings of the run.
        engine: runs the workers.

    Raises:
        InputError: the data set cannot be written.
    """
    keys = {video: key for key, video in plan.todo.items()}
    summary = RunSummary(Workload(keys))
    counts = plan.unfinished.attempts
    earlier = {video: counts[key] for video, key in keys.items() if counts.get(key)}
    remove_outdated(plan.store)
    done = done_keys(plan.store)
    failed = failed_keys(plan.store)
    remove_stale_segments(plan.store, done, set(plan.todo))
    pending = Pending(attempts=earlier)
    status = _StatusWriter(plan, summary, keys)
    start, progress = time.monotonic(), 0
    with ProgressBar("tracked, %", 100, "steps") as bar:
        try:
            for event in _events(plan, run, engine, keys, earlier):
                summary.elapsed = time.monotonic() - start
                if isinstance(event, Pending):
                    pending = event
                else:
                    outcome, attempts = event
                    summary.add(outcome)
                    if outcome.is_last:
                        key = keys[outcome.video.whole]
                        finish_video(plan.store, key, outcome, attempts, done, failed)
                    percent = int(100 * summary.workload.done)
                    bar.advance(percent - progress, summary.progress())
                    progress = percent
                status.update(pending)
        except BaseException:  # the driver was stopped, not killed by a video
            status.write(Pending(attempts=pending.attempts))
            raise
    summary.elapsed = time.monotonic() - start
    remove_outdated(plan.store)
    status.write(Pending(), is_over=True)
    return summary


def _events(
    plan: RunPlan,
    run: RunOptions,
    engine: Engine,
    keys: Mapping[Video, str],
    earlier_attempts: Mapping[Video, int],
) -> Iterator[Event]:
    """Failures of videos that killed the driver too often, then the events of the engine."""
    left = []
    for video, key in keys.items():
        attempts = earlier_attempts.get(video, 0)
        if key in plan.unfinished.interrupted and attempts >= run.attempts:
            reason = f"video {video.origin}: the driver was killed with this video alone"
            yield Outcome(video, "driver", reason), attempts
        else:
            left.append(video)
    if left:
        yield from engine(Dispatcher(left, run.attempts, earlier_attempts))


def finish_video(
    store: Store, key: str, outcome: Outcome, attempts: int, done: set[str], failed: set[str]
) -> None:
    """Write a failure; after a success delete superseded failures and results.

    Args:
        store: the data set.
        key: of the video.
        outcome: of the whole video.
        attempts: used for the video.
        done: keys of the videos that earlier runs completed.
        failed: keys of failures in earlier runs.
    """
    if outcome.kind is not None:
        now = time.time()
        row = failure_row(key, outcome.video, outcome.kind, outcome.reason, attempts, now)
        with temporary_folder() as folder:
            write_parquet(folder / "failure.parquet", FAILURE_COLUMNS, iter([row]))
            store.put(folder / "failure.parquet", file_of("failures", key))
        return
    identity = id_of_key(key)
    for other in {key} | {each for each in failed if id_of_key(each) == identity}:
        store.delete(file_of("failures", other))
    for other in {each for each in done if id_of_key(each) == identity} - {key}:
        remove_video(store, other)


class _StatusWriter:
    """Writes ``status.json`` during a run."""

    def __init__(self, plan: RunPlan, summary: RunSummary, keys: Mapping[Video, str]) -> None:
        self._plan, self._summary, self._keys = plan, summary, keys
        self._last = -_STATUS_INTERVAL  # monotonic seconds

    def update(self, pending: Pending) -> None:
        """Write, unless the last update was less than ``_STATUS_INTERVAL`` ago."""
        now = time.monotonic()
        if now - self._last > _STATUS_INTERVAL:
            self._last = now
            self.write(pending)

    def write(self, pending: Pending, *, is_over: bool = False) -> None:
        """Write the status."""
        plan, summary, keys = self._plan, self._summary, self._keys
        status = {
            "package": queryinst_vis.__version__,
            "at": time.time(),
            "is_over": is_over,
            "videos": len(plan.todo) + plan.done + plan.failed,
            "to_track": len(plan.todo),
            "done": summary.done,
            "done_before": plan.done,
            "failed": len(summary.failures),
            "failed_before": plan.failed,
            "segments": summary.segments,
            "segments_tracked": summary.segments_tracked,
            "frames": summary.frames,
            "hours": round(summary.seconds / 3600, 4),
            "elapsed": round(summary.elapsed, 1),
            "fraction": round(summary.workload.done, 6),
            "stages": {name: round(value, 1) for name, value in summary.stages.items()},
            "in_progress": [keys[video] for video in pending.in_progress],
            "attempts": {keys[video]: count for video, count in pending.attempts.items()},
        }
        write_status(plan.store, status)
