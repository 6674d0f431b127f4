"""Stages that overlap: order, bounds, errors, and nobody left running."""

import threading
import time

import pytest

from queryinst_vis.prefetch import prefetch


def counted(limit, made):
    """0, 1, ..., and a list of what was made so far."""
    for number in range(limit):
        made.append(number)
        yield number


def settle(made):
    """Wait until the producer has run as far ahead as it may."""
    for _ in range(50):
        before = len(made)
        time.sleep(0.02)
        if len(made) == before:
            return


def test_order_is_kept():
    assert list(prefetch(range(100))) == list(range(100))
    assert list(prefetch(prefetch(prefetch(range(20), 1), 3))) == list(range(20))
    assert list(prefetch([])) == []


@pytest.mark.parametrize("ahead", [1, 4])
def test_it_runs_ahead_but_only_so_far(ahead):
    made = []
    stage = prefetch(counted(100, made), ahead)
    assert next(stage) == 0
    settle(made)
    assert len(made) == 1 + ahead + 1  # the reader's, those that wait, and one that is at the door
    stage.close()


def test_stages_work_at_the_same_time():
    """The producer makes an item while the reader is busy with another."""
    meanwhile = threading.Event()

    def items():
        yield "first"
        meanwhile.set()
        yield "second"

    stage = prefetch(items())
    assert next(stage) == "first"
    assert meanwhile.wait(timeout=10)
    assert list(stage) == ["second"]


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        yield 2
        raise RuntimeError("damaged")

    stage = prefetch(items())
    assert [next(stage), next(stage)] == [1, 2]
    with pytest.raises(RuntimeError, match="damaged"):
        next(stage)


def test_a_reader_that_stops_early_stops_all_stages():
    closed = []

    def items():
        try:
            yield from range(10**9)
        finally:
            closed.append(True)

    threads = threading.active_count()
    for item in (stage := prefetch(prefetch(items()))):
        if item == 3:
            break
    stage.close()
    assert closed == [True]
    assert threading.active_count() == threads


def test_a_stage_that_cannot_run_ahead_is_refused_at_once():
    with pytest.raises(ValueError, match="ahead must be 1 or more, got 0"):
        prefetch([], 0)
