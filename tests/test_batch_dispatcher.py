"""Assigning videos to workers, counting attempts, and estimating the remaining time."""

from dataclasses import replace

import pytest

from queryinst_vis.batch.dispatcher import MAX_LOSSES, Dispatcher, Outcome
from queryinst_vis.batch.options import Video
from queryinst_vis.batch.segments import Cut, Part, Segment
from queryinst_vis.batch.status import format_status
from queryinst_vis.batch.summary import Workload

# Workers that die


def held(dispatcher, worker, count):
    return [dispatcher.take(worker) for _ in range(count)]


def some_videos(count):
    return [Video(f"v{number}", "", f"v{number}", "") for number in range(count)]


def test_each_of_several_videos_of_a_dead_worker_is_retried_in_isolation():
    dispatcher = Dispatcher(some_videos(3), 1)
    held(dispatcher, "first", 2)
    assert dispatcher.died("first", "killed") == 2
    last = dispatcher.take("second")
    assert last is not None and last.name == "v0"
    assert dispatcher.take("second") is None  # isolated, although v2 is waiting
    dispatcher.finished("second", Outcome(last))
    assert not dispatcher.is_over and len(dispatcher.final) == 1


def test_the_death_of_a_worker_with_one_video_counts_as_an_attempt():
    dispatcher = Dispatcher(some_videos(1), 2)
    held(dispatcher, 1, 1)
    assert dispatcher.died(1, "killed") == 1 and not dispatcher.is_over
    held(dispatcher, 2, 1)
    dispatcher.died(2, "killed by SIGKILL")
    assert dispatcher.is_over
    [(outcome, attempts)] = dispatcher.final
    assert (outcome.kind, outcome.reason, attempts) == ("worker", "killed by SIGKILL", 2)


def test_lost_machines_count_as_attempts_only_if_a_video_loses_too_many():
    dispatcher = Dispatcher(some_videos(3), 1)
    for _ in range(MAX_LOSSES):
        first, second = held(dispatcher, "worker", 2)
        assert (first.name, second.name) == ("v0", "v1")
        assert dispatcher.lost("worker", "gone") == 2
    held(dispatcher, "worker", 2)
    dispatcher.lost("worker", "gone")
    alone = dispatcher.take("next")
    assert alone is not None and dispatcher.take("next") is None
    dispatcher.lost("next", "gone")
    [(outcome, attempts)] = dispatcher.final
    assert (outcome.video, outcome.kind, attempts) == (alone, "worker", 1)


# Remaining time


def sized(name, size):
    return Video(name, "", name, "", size)


def test_the_work_done_is_measured_in_bytes():
    videos = [sized("short", 100), sized("long", 800), sized("unknown", None)]
    workload = Workload(videos)
    assert workload.done == 0
    workload.add(Outcome(videos[0]))
    assert workload.done == pytest.approx(100 / 1350)  # an unknown size counts as the average
    workload.add(Outcome(videos[2], "input", "damaged"))
    assert workload.done == pytest.approx(550 / 1350)
    workload.add(Outcome(videos[1]))
    assert workload.done == 1


def test_segments_count_by_duration_without_those_of_earlier_runs():
    video = sized("long", 800)
    cut = Cut(
        tuple(Segment(i, 0, 0, 1, 1, seconds) for i, seconds in enumerate((2, 2, 4))), 800, ""
    )
    workload = Workload([video])
    workload.add(Outcome(video, cut=cut, tracked=frozenset({0})))
    assert workload.done == 0
    workload.add(Outcome(replace(video, part=Part(cut, 1))))
    assert workload.done == pytest.approx(1 / 3)


def test_the_status_estimates_the_remaining_time():
    status = dict.fromkeys(("done", "done_before", "failed", "failed_before", "hours"), 0)
    status |= {"videos": 2, "to_track": 2, "frames": 90, "elapsed": 60.0, "at": 0, "is_over": False}
    assert "minutes left" not in format_status(status | {"fraction": 0.0}, 1)
    assert format_status(status | {"fraction": 0.25}, 1).endswith("about 3 minutes left")
