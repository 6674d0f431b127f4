"""Concurrent stages of a pipeline, with bounded queues between them."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Generic, TypeAlias, TypeVar

Item = TypeVar("Item")

_POLL = 0.1  # seconds between checks whether the other side has stopped
_JOIN_TIMEOUT = 1.0  # seconds to wait for the thread of a live source to end


@dataclass(frozen=True)
class _End:
    """Marks the end of a queue, with the error that ended the items, if any."""

    error: BaseException | None = None


_Entry: TypeAlias = tuple[Item] | _End
_Put: TypeAlias = Callable[["Queue[_Entry[Item]]", "_Entry[Item]", threading.Event], bool]


def prefetch(items: Iterable[Item], ahead: int = 2) -> Generator[Item, None, None]:
    """Iterate over ``items`` in a separate thread, at most ``ahead`` items before the consumer.

    The order is kept. An error of ``items`` is raised after the preceding items. If the consumer
    stops early (``break``, an error, ``close()``), the thread stops, too. If the work releases the
    GIL, as decoding does, the stages overlap::

        for frame, detections in tracker.follow(prefetch(reader)):
            ...

    Run networks in the main thread instead: PyTorch starts a thread pool for every thread that
    calls it, and with more threads than cores, they sleep between operators (a frame took a third
    longer with an R50).

    Raises:
        ValueError: ``ahead`` is below 1.
    """
    if ahead < 1:
        raise ValueError(f"ahead must be 1 or more, got {ahead}")
    return _read_in_thread(items, Queue(ahead), _put)


@contextmanager
def finishing(work: Callable[[Item], object], behind: int = 1) -> Iterator[Callable[[Item], None]]:
    """Run the last stage of a pipeline in a separate thread::

        with finishing(write) as finish:
            for frame in tracker.follow(frames):
                finish(frame)  # waits only if more than ``behind`` items are unfinished

    The order is kept, and all work is finished when the block ends. An error of ``work`` is raised
    by a later call, at the latest when the block ends. After an error of ``work`` or of the block,
    pending items are skipped.

    Raises:
        ValueError: ``behind`` is below 1.
    """
    if behind < 1:
        raise ValueError(f"behind must be 1 or more, got {behind}")
    pending: deque[Future[object]] = deque()
    pool = ThreadPoolExecutor(max_workers=1)

    def finish(item: Item) -> None:
        while len(pending) >= behind:
            pending.popleft().result()
        pending.append(pool.submit(work, item))

    try:
        yield finish
        while pending:
            pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Feed(Generic[Item]):
    """Items that a thread puts into a queue, for a consumer that never waits.

    Attributes:
        ended: all items have been read, or their error has been raised.
    """

    def __init__(self, items: Iterable[Item], queue: Queue[_Entry[Item]], put: _Put[Item]) -> None:
        self.ended = False
        self._queue = queue
        self._stopped = threading.Event()
        arguments = queue, items, self._stopped, put
        self._thread = threading.Thread(target=_fill, args=arguments, daemon=True)
        self._thread.start()

    def poll(self) -> Item | None:
        """The next item; None if none is ready, or none is left (``ended``).

        Raises:
            BaseException: the error that ended the items, if any.
        """
        if self.ended:
            return None
        try:
            entry = self._queue.get_nowait()
        except Empty:
            return None
        if not isinstance(entry, _End):
            return entry[0]
        self.ended = True
        if entry.error is not None:
            raise entry.error
        return None

    def close(self) -> None:
        """Stop reading; waits up to a second for the thread."""
        self.ended = True
        self._stopped.set()
        self._thread.join(_JOIN_TIMEOUT)


class Polled(_Feed[Item]):
    """Iterates over ``items`` in a separate thread, for a consumer that never waits.

    Args:
        items: read in order.
        ahead: maximum number of queued items; the thread requests another only below it.

    Raises:
        ValueError: ``ahead`` is below 1.
    """

    def __init__(self, items: Iterable[Item], ahead: int = 2) -> None:
        if ahead < 1:
            raise ValueError(f"ahead must be 1 or more, got {ahead}")
        self._room = threading.Semaphore(ahead)
        super().__init__(self._on_demand(items), Queue(), _put)

    def poll(self) -> Item | None:
        """The next item; None if none is ready, or none is left (``ended``).

        Raises:
            BaseException: the error that ended the items, if any.
        """
        item = super().poll()
        if item is not None:
            self._room.release()
        return item

    def _on_demand(self, items: Iterable[Item]) -> Generator[Item, None, None]:
        iterator = iter(items)
        try:
            while self._wait_for_room():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                yield item
        finally:
            if isinstance(iterator, Generator):
                iterator.close()

    def _wait_for_room(self) -> bool:
        while not self._stopped.is_set():
            if self._room.acquire(timeout=_POLL):
                return True
        return False


class PolledLatest(_Feed[Item]):
    """The newest of ``items`` at the time of each poll, as for ``Latest``.

    Args:
        items: items that arrive in real time.

    Attributes:
        dropped: number of dropped items so far.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._slot: _Slot[Item] = _Slot()
        super().__init__(items, Queue(1), self._slot.put)

    @property
    def dropped(self) -> int:
        """Number of dropped items so far."""
        return self._slot.dropped


class OrderedWorkers(Generic[Item]):
    """Runs tasks in several threads, and handles the results in the order of submission.

    Args:
        take: called with each result, in the thread that submits the tasks.
        workers: number of threads, and maximum number of results that wait for an earlier one.

    Example::

        workers = OrderedWorkers(encoder.write, available_cores())
        for frame in frames:
            workers.submit(partial(draw, frame))  # waits if all threads are busy
        workers.drain()
        workers.close()
    """

    def __init__(self, take: Callable[[Item], object], workers: int) -> None:
        self._take = take
        self._limit = workers
        self._pool = ThreadPoolExecutor(workers)
        self._pending: deque[Future[Item]] = deque()

    def submit(self, work: Callable[[], Item]) -> None:
        """Submit a task, and handle available results; raises errors of earlier tasks."""
        self._pending.append(self._pool.submit(work))
        while self._pending and (len(self._pending) > self._limit or self._pending[0].done()):
            self._take(self._pending.popleft().result())

    def drain(self) -> None:
        """Handle all remaining results; raises errors of their tasks."""
        while self._pending:
            self._take(self._pending.popleft().result())

    def close(self) -> None:
        """Stop; tasks that have not started are cancelled."""
        self._pool.shutdown(cancel_futures=True)


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Latest(Generic[Item]):
    """Iterates over the newest of ``items``; older ones are dropped.

    A separate thread reads them into a slot for one item, which is overwritten by newer items. The
    last item before the end or an error is kept. Unlike ``prefetch``, it never blocks ``items``,
    which may be a camera. Can be iterated once.

    Args:
        items: items that arrive in real time.
        until: called before every item and while waiting for one; True ends the iteration, even
            if ``items`` are stalled.

    Attributes:
        dropped: number of dropped items so far.
    """

    def __init__(self, items: Iterable[Item], until: Callable[[], bool] = lambda: False) -> None:
        self._items = items
        self._until = until
        self._slot: _Slot[Item] = _Slot()

    @property
    def dropped(self) -> int:
        """Number of dropped items so far."""
        return self._slot.dropped

    def __iter__(self) -> Iterator[Item]:
        # with a timeout, since the thread may be blocked by a stalled pipe
        return _read_in_thread(self._items, Queue(1), self._slot.put, self._until, _JOIN_TIMEOUT)


class _Slot(Generic[Item]):
    """Overwrites the only entry of a queue, and counts the ``dropped`` ones."""

    def __init__(self) -> None:
        self.dropped = 0

    def put(
        self, queue: Queue[_Entry[Item]], entry: _Entry[Item], stopped: threading.Event
    ) -> bool:
        """Put the newest entry; False if the consumer has stopped."""
        with suppress(Empty):
            queue.get_nowait()
            self.dropped += 1
        queue.put_nowait(entry)  # the slot is empty, as this is the only producer
        return not stopped.is_set()


def _read_in_thread(
    items: Iterable[Item],
    queue: Queue[_Entry[Item]],
    put: _Put[Item],
    until: Callable[[], bool] = lambda: False,
    patience: float | None = None,
) -> Generator[Item, None, None]:
    """Yield the items that a thread ``put`` into the queue, until they end or ``until()`` is true.

    Then the thread is stopped and joined, with a timeout of ``patience`` seconds.
    """
    stopped = threading.Event()
    thread = threading.Thread(target=_fill, args=(queue, items, stopped, put), daemon=True)
    thread.start()
    try:
        while not until():
            try:
                entry = queue.get(timeout=_POLL)
            except Empty:
                continue
            if isinstance(entry, _End):
                if entry.error is not None:
                    raise entry.error
                return
            yield entry[0]
    finally:
        stopped.set()
        thread.join(patience)


def _fill(
    queue: Queue[_Entry[Item]],
    items: Iterable[Item],
    stopped: threading.Event,
    put: _Put[Item],
) -> None:
    """Put the items and their end into the queue, until the consumer has stopped."""
    iterator = iter(items)
    try:
        for item in iterator:
            if not put(queue, (item,), stopped):
                return
        _put(queue, _End(), stopped)
    except BaseException as error:  # raised in the consumer's thread
        _put(queue, _End(error), stopped)
    finally:
        if isinstance(iterator, Generator):  # stops preceding stages, too
            iterator.close()


def _put(queue: Queue[_Entry[Item]], entry: _Entry[Item], stopped: threading.Event) -> bool:
    """Put an entry into the queue, waiting for room; False if the consumer has stopped."""
    while not stopped.is_set():
        try:
            queue.put(entry, timeout=_POLL)
        except Full:
            continue
        return True
    return False
