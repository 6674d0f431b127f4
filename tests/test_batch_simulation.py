"""The simulation agrees with runs that can be worked out by hand."""

import random

import pytest

pytest.importorskip("simpy", reason="the simulation needs SimPy")

from benchmarks.batch_simulation import Job, World, jobs_of, simulate

IDEAL = World(rate=25, overhead=0, start=0, fails=0, stragglers=0)


def run(jobs, workers, world=IDEAL):
    return simulate(jobs, workers, world, random.Random(0))


def test_equal_videos_are_shared_evenly():
    result = run([Job(10.0, False) for _ in range(6)], 3)
    assert (result.seconds, result.useful, result.spent) == (20.0, 60.0, 60.0)


def test_the_longest_video_bounds_the_duration_unless_it_is_cut():
    lengths = [600.0, 60.0]
    whole = run(jobs_of(lengths, IDEAL, random.Random(0)), 10)
    cut = World(**{**vars(IDEAL), "segment": 1.0})
    segments = run(jobs_of(lengths, cut, random.Random(0)), 11, cut)
    assert whole.seconds == 600 and segments.seconds == 62  # a minute and the overlap


def test_failing_jobs_use_up_their_attempts_and_preemption_loses_no_job():
    failing = run([Job(10.0, True)], 1)
    assert (failing.seconds, failing.failed, failing.useful) == (10.0, 1, 0)
    often = World(**{**vars(IDEAL), "preempted": 60.0})
    result = run([Job(10.0, False) for _ in range(50)], 2, often)
    assert result.failed == 0 and result.seconds > 250


def test_a_killed_worker_restarts_and_its_job_comes_next():
    jobs = [Job(10.0, False) for _ in range(4)]
    world = World(**{**vars(IDEAL), "start": 5.0})
    result = simulate(jobs, 2, world, random.Random(0), kills=[12.0])
    # killed at 12 s of 15; from 17 s on it repeats the job, while the other one does the rest
    assert result.seconds == 35.0 and result.useful == 40.0
