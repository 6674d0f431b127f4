"""Attempts persist across runs: a video that kills the driver comes last, and finally fails."""

import pytest

from queryinst_vis.batch.dispatcher import Outcome, Pending
from queryinst_vis.batch.options import RunOptions, VideoOptions
from queryinst_vis.batch.run import execute, plan_run
from queryinst_vis.batch.status import STATUS
from queryinst_vis.errors import InputError
from tests.batch_support import find, inline_engine, use_tiny_model, write_clip

parquet = pytest.importorskip("pyarrow.parquet", reason="the tables are Parquet: extra 'batch'")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    use_tiny_model(monkeypatch)


@pytest.fixture
def run(tmp_path):
    return RunOptions(str(tmp_path / "out"), device="cpu", attempts=2)


@pytest.fixture
def videos(tmp_path):
    for number in range(3):
        write_clip(tmp_path / "clips" / f"{number}.mp4", 2)
    return find([tmp_path / "clips"], VideoOptions())


def names(plan):
    return [video.name for video in plan.todo.values()]


class StoppedError(BaseException):
    pass


def stop_with(run, plan, pending):
    """A run that is stopped with these pending videos."""

    def engine(dispatcher):
        yield pending
        raise StoppedError

    with pytest.raises(StoppedError):
        execute(plan, run, engine)


def kill_with(run, plan, in_progress, folder):
    """A run whose driver is killed with these videos in progress, and writes nothing after that."""
    seen = []

    def engine(dispatcher):
        yield Pending(in_progress, dispatcher.pending().attempts)
        seen.append((folder / "out" / STATUS).read_bytes())
        raise StoppedError

    with pytest.raises(StoppedError):
        execute(plan, run, engine)
    (folder / "out" / STATUS).write_bytes(seen[0])


def test_a_video_that_was_alone_in_two_kills_of_the_driver_fails(tmp_path, run, videos):
    for _ in range(2):
        kill_with(run, plan_run(videos, run), (videos[0],), tmp_path)
        assert names(plan_run(videos, run)) == ["1", "2", "0"]
    summary = execute(plan_run(videos, run), run, inline_engine(run))
    assert summary.done == 2 and [each.video.name for each in summary.failures] == ["0"]
    [row] = parquet.read_table(tmp_path / "out" / "failures").to_pylist()
    assert (row["kind"], row["attempts"]) == ("driver", 2) and "driver was killed" in row["reason"]
    again = plan_run(videos, run, retry_failed=True)
    assert execute(again, run, inline_engine(run)).done == 1


def test_several_videos_in_progress_come_last_without_counting_an_attempt(tmp_path, run, videos):
    for _ in range(3):
        kill_with(run, plan_run(videos, run), tuple(videos[:2]), tmp_path)
    assert names(plan_run(videos, run)) == ["2", "0", "1"]
    assert execute(plan_run(videos, run), run, inline_engine(run)).done == 3


def test_stopping_a_run_counts_no_attempt(tmp_path, run, videos):
    for _ in range(2):
        stop_with(run, plan_run(videos, run), Pending((videos[0],)))
    plan = plan_run(videos, run)
    assert names(plan) == ["0", "1", "2"] and not plan.unfinished.interrupted
    assert execute(plan, run, inline_engine(run)).done == 3


def test_attempts_of_earlier_runs_count(tmp_path, run, videos):
    stop_with(run, plan_run(videos, run), Pending((), {videos[1]: 1}))

    def engine(dispatcher):
        while (video := dispatcher.take(0)) is not None:
            dispatcher.finished(0, Outcome(video, "input" if video == videos[1] else None))
        yield from dispatcher.final

    summary = execute(plan_run(videos, run), run, engine)
    assert [each.video.name for each in summary.failures] == ["1"]
    [row] = parquet.read_table(tmp_path / "out" / "failures").to_pylist()
    assert row["attempts"] == 2


def test_a_damaged_status_is_rejected(tmp_path, run, videos):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / STATUS).write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        plan_run(videos, run)
