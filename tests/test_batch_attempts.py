"""Attempts outlive the driver: a video that kills it comes last, and is given up in the end."""

import pytest

from queryinst_vis.batch.dispatcher import Outcome, Standing
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


def stop_with(run, plan, standing):
    """A run that is told to stop while things stand like this."""

    def engine(dispatcher):
        yield standing
        raise StoppedError

    with pytest.raises(StoppedError):
        execute(plan, run, engine)


def kill_with(run, plan, in_progress, folder):
    """A run whose driver is killed with these videos: it writes nothing any more."""
    seen = []

    def engine(dispatcher):
        yield Standing(in_progress, dispatcher.standing().attempts)
        seen.append((folder / "out" / STATUS).read_bytes())
        raise StoppedError

    with pytest.raises(StoppedError):
        execute(plan, run, engine)
    (folder / "out" / STATUS).write_bytes(seen[0])


def test_a_video_that_was_alone_when_the_driver_was_killed_twice_is_given_up(tmp_path, run, videos):
    for _ in range(2):
        kill_with(run, plan_run(videos, run), (videos[0],), tmp_path)
        assert names(plan_run(videos, run)) == ["1", "2", "0"]
    summary = execute(plan_run(videos, run), run, inline_engine(run))
    assert summary.done == 2 and [each.video.name for each in summary.failures] == ["0"]
    [row] = parquet.read_table(tmp_path / "out" / "failures").to_pylist()
    assert (row["kind"], row["attempts"]) == ("driver", 2) and "driver was killed" in row["reason"]
    again = plan_run(videos, run, retry_failed=True)
    assert execute(again, run, inline_engine(run)).done == 1


def test_of_several_videos_in_progress_none_is_charged_and_they_come_last(tmp_path, run, videos):
    for _ in range(3):
        kill_with(run, plan_run(videos, run), tuple(videos[:2]), tmp_path)
    assert names(plan_run(videos, run)) == ["2", "0", "1"]
    assert execute(plan_run(videos, run), run, inline_engine(run)).done == 3


def test_a_run_that_is_told_to_stop_charges_nothing(tmp_path, run, videos):
    for _ in range(2):
        stop_with(run, plan_run(videos, run), Standing((videos[0],)))
    plan = plan_run(videos, run)
    assert names(plan) == ["0", "1", "2"] and not plan.unsettled.interrupted
    assert execute(plan, run, inline_engine(run)).done == 3


def test_attempts_of_earlier_runs_count(tmp_path, run, videos):
    stop_with(run, plan_run(videos, run), Standing((), {videos[1]: 1}))

    def engine(dispatcher):
        while (video := dispatcher.take(0)) is not None:
            dispatcher.finished(0, Outcome(video, "input" if video == videos[1] else None))
        yield from dispatcher.final

    summary = execute(plan_run(videos, run), run, engine)
    assert [each.video.name for each in summary.failures] == ["1"]
    [row] = parquet.read_table(tmp_path / "out" / "failures").to_pylist()
    assert row["attempts"] == 2


def test_a_damaged_status_is_refused_in_one_line(tmp_path, run, videos):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / STATUS).write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        plan_run(videos, run)
