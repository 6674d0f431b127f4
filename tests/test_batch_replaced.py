"""Results that a run replaces leave no rows, even if the run was killed in between."""

import json
import os

import pytest

from queryinst_vis.batch import run as run_module
from queryinst_vis.batch.compaction import compact
from queryinst_vis.batch.options import RunOptions, VideoOptions
from queryinst_vis.batch.run import execute, plan_run
from queryinst_vis.batch.store import Store
from queryinst_vis.errors import InputError
from tests.batch_support import find, inline_engine, track_all, use_tiny_model, write_clip

parquet = pytest.importorskip("pyarrow.parquet", reason="the tables are Parquet: extra 'batch'")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    use_tiny_model(monkeypatch)


@pytest.fixture
def clips(tmp_path):
    write_clip(tmp_path / "clips" / "a.mp4", 3)
    write_clip(tmp_path / "clips" / "b.mp4", 4)
    return tmp_path / "clips"


@pytest.fixture
def run(tmp_path):
    return RunOptions(str(tmp_path / "out"), device="cpu")


def track_with(conf, clips, run, overwrite=True):
    """Track with these options; returns the number of videos that needed it."""
    plan = plan_run(find([clips], VideoOptions(conf=conf)), run, overwrite=overwrite)
    execute(plan, run, inline_engine(run))
    return len(plan.todo)


def thresholds(run):
    """The options of the rows of ``videos``, and whether all tables have the same keys."""
    tables = {
        table: parquet.read_table(os.path.join(run.out, table)).to_pylist()
        for table in ("videos", "tracks", "detections")
    }
    keys = {table: {row["key"] for row in rows} for table, rows in tables.items()}
    assert keys["tracks"] <= keys["videos"] and keys["detections"] <= keys["videos"]
    return sorted(json.loads(row["options"])["score_threshold"] for row in tables["videos"])


def test_compacted_results_are_replaced_like_others(clips, run):
    assert track_with(0.01, clips, run) == 2
    compact(Store(run.out))
    assert track_with(0.02, clips, run) == 2
    assert thresholds(run) == [0.02, 0.02]
    assert track_with(0.01, clips, run) == 2
    assert thresholds(run) == [0.01, 0.01]


def test_the_next_run_removes_what_a_killed_run_has_replaced(clips, run, monkeypatch):
    track_with(0.01, clips, run)
    with monkeypatch.context() as killed:  # after its workers have written, before it removes
        killed.setattr(run_module, "finish_video", lambda *_: None)
        killed.setattr(run_module, "remove_outdated", lambda *_: None)
        track_with(0.02, clips, run)
    assert thresholds(run) == [0.01, 0.01, 0.02, 0.02]
    assert track_with(0.02, clips, run, overwrite=False) == 0
    assert thresholds(run) == [0.02, 0.02]


def test_a_forgotten_option_deletes_nothing(clips, run, monkeypatch):
    """Also if the run that replaced the results was killed."""
    track_with(0.01, clips, run)
    compact(Store(run.out))
    with monkeypatch.context() as killed:
        killed.setattr(run_module, "remove_outdated", lambda *_: None)
        track_with(0.02, clips, run)
    before = thresholds(run)
    with pytest.raises(InputError, match="--overwrite"):
        plan_run(find([clips], VideoOptions(conf=0.01)), run)
    plan_run(find([clips], VideoOptions(conf=0.01)), run, overwrite=True)  # as for --dry-run
    assert thresholds(run) == before == [0.01, 0.01, 0.02, 0.02]
    assert track_with(0.01, clips, run) == 2
    assert thresholds(run) == [0.01, 0.01]


def test_a_repaired_video_has_no_failure_left(clips, run):
    (clips / "c.mp4").write_bytes(b"no video")
    _, summary = track_all([clips], run.out, attempts=1)
    assert len(summary.failures) == 1
    write_clip(clips / "d.mp4", 2)
    os.replace(clips / "d.mp4", clips / "c.mp4")
    _, summary = track_all([clips], run.out)
    assert summary.done == 1
    assert list(Store(run.out).list("failures")) == []
