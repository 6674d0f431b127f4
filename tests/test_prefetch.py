"""Overlapping pipeline stages: order, bounds, errors, and no thread left running."""

import threading
from functools import partial

import pytest

from queryinst_vis.utils.prefetch import Latest, OrderedWorkers, PolledLatest, finishing, prefetch

PATIENCE = 120.0  # seconds until a test gives up; nothing is measured by it


def test_order_is_kept():
    assert list(prefetch(range(100))) == list(range(100))
    assert list(prefetch(prefetch(prefetch(range(20), 1), 3))) == list(range(20))
    assert list(prefetch([])) == []


@pytest.mark.parametrize("ahead", [1, 4])
def test_prefetching_is_bounded(ahead):
    made, read, lead = threading.Semaphore(0), [], []

    def items():
        for number in range(20):
            lead.append(number - len(read))
            made.release()
            yield number

    stage = prefetch(items(), ahead)
    read.append(next(stage))
    for _ in range(1 + ahead + 1):  # one read, those queued, and one waiting for a place
        assert made.acquire(timeout=PATIENCE)
    read.extend(stage)
    assert read == list(range(20))
    assert max(lead) <= ahead + 1


def test_stages_run_concurrently():
    """The producer makes an item while the consumer processes another."""
    meanwhile = threading.Event()

    def items():
        yield "first"
        meanwhile.set()
        yield "second"

    stage = prefetch(items())
    assert next(stage) == "first"
    assert meanwhile.wait(timeout=PATIENCE)
    assert list(stage) == ["second"]


def test_an_error_is_raised_after_the_items_before_it():
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


def test_a_prefetch_size_of_0_is_refused_immediately():
    with pytest.raises(ValueError, match=r"ahead .* got 0"):
        prefetch([], 0)


# The last stage


def test_work_is_in_order_and_complete_when_the_block_ends():
    done = []
    with finishing(done.append, behind=3) as finish:
        for item in range(100):
            finish(item)
    assert done == list(range(100))


@pytest.mark.parametrize("behind", [1, 3])
def test_pending_work_is_bounded(behind):
    allowed, done = threading.Semaphore(0), []

    def work(item):
        assert allowed.acquire(timeout=PATIENCE)
        done.append(item)

    with finishing(work, behind) as finish:
        for item in range(behind):
            finish(item)  # returns at once
        assert done == []
        caller = threading.Thread(target=finish, args=(behind,))
        caller.start()
        caller.join(timeout=0.1)
        assert caller.is_alive(), "one more has to wait"
        allowed.release()
        caller.join(timeout=PATIENCE)
        assert done == [0] and not caller.is_alive()
        allowed.release(behind)


def test_an_error_in_the_work_is_raised_in_the_caller():
    done = []

    def work(item):
        if item == 2:
            raise RuntimeError("disk full")
        done.append(item)

    with pytest.raises(RuntimeError, match="disk full"), finishing(work, behind=1) as finish:
        for item in range(100):
            finish(item)
    assert done == [0, 1]


def test_an_error_in_the_last_item_is_not_lost():
    def work(item):
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"), finishing(work) as finish:
        finish(0)


def test_an_error_in_the_caller_leaves_no_thread_or_pending_work():
    begun, allowed, done = threading.Event(), threading.Event(), []

    def work(item):
        begun.set()
        allowed.wait(timeout=PATIENCE)
        done.append(item)

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), finishing(work, behind=5) as finish:
        for item in range(5):
            finish(item)
        assert begun.wait(timeout=PATIENCE)
        allowed.set()
        raise KeyboardInterrupt
    assert done[0] == 0 and threading.active_count() == threads


def test_a_last_stage_of_size_0_is_refused():
    with pytest.raises(ValueError, match=r"behind .* got 0"), finishing(print, 0):
        pass


# Always the newest


class Source:
    """A source whose items the test releases."""

    def __init__(self):
        self.allowed = threading.Semaphore(0)
        self.changed = threading.Condition()
        self.given = self.taken = 0
        self.closed = False

    def give(self, count):
        """Let that many more items come."""
        self.given += count
        self.allowed.release(count)

    def wait_until_taken(self):
        """Until all items that were given lie in the slot, or did."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.taken == self.given, timeout=PATIENCE)

    def __iter__(self):
        try:
            while True:
                if self.allowed.acquire(timeout=0.01):
                    yield self.taken
                    with self.changed:
                        self.taken += 1
                        self.changed.notify()
                elif self.closed:
                    return
        finally:
            self.closed = True


def test_a_fast_consumer_gets_every_item():
    source = Source()
    latest = Latest(source)
    stage = iter(latest)
    seen = []
    for _ in range(5):
        source.give(1)
        seen.append(next(stage))
    assert seen == [0, 1, 2, 3, 4] and latest.dropped == 0
    source.closed = True
    assert list(stage) == []


def test_a_slow_consumer_gets_the_newest_item_and_the_number_dropped():
    source = Source()
    latest = Latest(source)
    stage = iter(latest)
    source.give(1)
    assert next(stage) == 0
    source.give(7)  # 1 to 7 come while the reader is busy
    source.wait_until_taken()
    assert next(stage) == 7
    assert latest.dropped == 6
    source.closed = True
    assert list(stage) == []


def test_a_live_source_is_closed_when_its_reader_stops():
    source = Source()
    stage = iter(Latest(source))
    source.give(2)
    assert next(stage) in (0, 1)
    source.give(100)
    stage.close()
    assert source.closed


def test_the_last_item_is_never_dropped():
    latest = Latest(range(1000))
    seen = list(latest)
    assert seen[-1] == 999 and seen == sorted(seen)
    assert len(seen) + latest.dropped == 1000
    assert list(Latest([])) == []


def test_an_error_of_a_live_source_comes_after_its_last_item():
    def items():
        yield 1
        raise RuntimeError("unplugged")

    stage = iter(Latest(items()))
    assert next(stage) == 1
    with pytest.raises(RuntimeError, match="unplugged"):
        next(stage)


def test_waiting_for_a_silent_source_can_be_interrupted():
    silent, stop = threading.Event(), threading.Event()

    def items():
        yield 1
        silent.wait()
        yield 2

    threading.Timer(0.2, stop.set).start()
    assert list(Latest(items(), stop.is_set)) == [1]
    silent.set()


def test_a_poll_gives_the_newest_item_at_that_time():
    source = Source()
    feed = PolledLatest(source)
    assert feed.poll() is None
    source.give(1)
    source.wait_until_taken()
    assert feed.poll() == 0
    source.give(7)  # 1 to 7 come while the consumer is busy
    source.wait_until_taken()
    assert feed.poll() == 7 and feed.dropped == 6
    assert feed.poll() is None and not feed.ended
    feed.close()
    assert feed.ended and feed.poll() is None


# Ordered workers


def test_results_of_several_workers_come_in_submission_order():
    taken, meanwhile = [], threading.Event()
    workers = OrderedWorkers(taken.append, 3)

    def slow():
        assert meanwhile.wait(PATIENCE)
        return "first"

    workers.submit(slow)
    workers.submit(lambda: "second")
    workers.submit(lambda: meanwhile.set() or "third")  # the others run at the same time
    workers.drain()
    assert taken == ["first", "second", "third"]
    workers.close()


def test_pending_results_are_bounded_by_the_number_of_workers():
    taken, allowed, begun = [], threading.Semaphore(0), []
    workers = OrderedWorkers(taken.append, 2)

    def work(number):
        begun.append(number)
        assert allowed.acquire(timeout=PATIENCE)
        return number

    def give():
        for number in range(6):
            workers.submit(partial(work, number))
        workers.drain()

    giver = threading.Thread(target=give)
    giver.start()
    for _ in range(6):
        giver.join(0.02)
        assert max(begun, default=0) <= len(taken) + 2
        assert taken == sorted(taken)
        allowed.release()
    giver.join(PATIENCE)
    assert taken == list(range(6))
    workers.close()


def test_an_error_of_a_worker_is_raised_in_its_turn_and_closing_leaves_no_thread():
    threads, taken = threading.active_count(), []
    workers = OrderedWorkers(taken.append, 2)
    workers.submit(lambda: "good")
    with pytest.raises(ZeroDivisionError):
        workers.submit(lambda: 1 / 0)
        workers.submit(lambda: "never taken")
        workers.drain()
    assert taken == ["good"]
    workers.close()
    assert threading.active_count() == threads
