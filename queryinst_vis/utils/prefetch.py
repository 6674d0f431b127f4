"""Stages of a pipeline that run at the same time, each at most so far ahead of the next."""

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

_POLL = 0.1  # seconds between looks at whether the other side is still there
_PATIENCE = 1.0  # seconds that a live source has for noticing that its reader has gone


@dataclass(frozen=True)
class _End:
    """Stands in a queue behind the last item: the error that ended the items, if one did."""

    error: BaseException | None = None


_Entry: TypeAlias = tuple[Item] | _End


def prefetch(items: Iterable[Item], ahead: int = 2) -> Generator[Item, None, None]:
    """Iterate over ``items`` in a thread of their own, at most ``ahead`` before the reader.

    Order is kept. An error of ``items`` is raised after the items before it. A reader that stops
    early (``break``, an error, ``close()``) stops the thread too. Where the work releases the
    interpreter's lock, as decoding does, the stages overlap::

        for frame, detections in tracker.follow(prefetch(reader)):
            ...

    A network should not run in such a thread, but in the main one: PyTorch keeps a team of
    workers for every thread that calls it, and where teams outnumber the cores their workers
    sleep between operators (a frame of an R50 took a third longer).

    Raises:
        ValueError: ``ahead`` is below 1.
    """
    if ahead < 1:
        raise ValueError(f"ahead must be 1 or more, got {ahead}")
    return _read_in_thread(items, Queue(ahead), _put)


@contextmanager
def finishing(work: Callable[[Item], object], behind: int = 1) -> Iterator[Callable[[Item], None]]:
    """Do the last stage's work in a thread of its own, while the caller goes on::

        with finishing(write) as finish:
            for frame in tracker.follow(frames):
                finish(frame)  # waits only for more than ``behind`` unfinished ones

    Order is kept, and all work is done when the block ends. An error of ``work`` is raised by a
    later call, at the latest when the block ends; what is still waiting then, or when the block
    itself raises, is left undone.

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


class Polled(Generic[Item]):
    """Iterates over ``items`` in a thread of their own, for a reader that never waits.

    The thread asks for an item only while fewer than ``ahead`` are waiting to be read, so a live
    source that gives its newest frame when it is asked stays at most ``ahead`` frames behind.

    Args:
        items: read in order.
        ahead: items that may wait for the reader.

    Attributes:
        ended: all items have been read, or an error of theirs has been raised.

    Raises:
        ValueError: ``ahead`` is below 1.
    """

    def __init__(self, items: Iterable[Item], ahead: int = 2) -> None:
        if ahead < 1:
            raise ValueError(f"ahead must be 1 or more, got {ahead}")
        self.ended = False
        self._queue: Queue[_Entry[Item]] = Queue()
        self._room = threading.Semaphore(ahead)
        self._stopped = threading.Event()
        arguments = self._queue, self._on_demand(items), self._stopped, _put
        self._thread = threading.Thread(target=_fill, args=arguments, daemon=True)
        self._thread.start()

    def poll(self) -> Item | None:
        """The next item, or None where none is ready, or there is none left (``ended``).

        Raises:
            BaseException: what ended the items, if it was an error.
        """
        if self.ended:
            return None
        try:
            entry = self._queue.get_nowait()
        except Empty:
            return None
        if not isinstance(entry, _End):
            self._room.release()
            return entry[0]
        self.ended = True
        if entry.error is not None:
            raise entry.error
        return None

    def close(self) -> None:
        """Stop reading; waits a moment for the thread."""
        self.ended = True
        self._stopped.set()
        self._thread.join(_PATIENCE)

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


class OrderedWorkers(Generic[Item]):
    """Does work in several threads, and takes the results in the order in which it was given.

    Args:
        take: receives each result, in the thread that gives the work.
        workers: threads, which is also how many results may wait for an earlier one.

    Example::

        workers = OrderedWorkers(encoder.write, available_cores())
        for frame in frames:
            workers.submit(partial(draw, frame))  # waits where all are busy
        workers.drain()
        workers.close()
    """

    def __init__(self, take: Callable[[Item], object], workers: int) -> None:
        self._take = take
        self._limit = workers
        self._pool = ThreadPoolExecutor(workers)
        self._pending: deque[Future[Item]] = deque()

    def submit(self, work: Callable[[], Item]) -> None:
        """Give work, and take the results that are there; raises an error of earlier work."""
        self._pending.append(self._pool.submit(work))
        while self._pending and (len(self._pending) > self._limit or self._pending[0].done()):
            self._take(self._pending.popleft().result())

    def drain(self) -> None:
        """Take all results that are left; raises an error of their work."""
        while self._pending:
            self._take(self._pending.popleft().result())

    def close(self) -> None:
        """Stop; what has not begun is left undone."""
        self._pool.shutdown(cancel_futures=True)


def available_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Latest(Generic[Item]):
    """Iterates over ``items`` as they come, always the newest: what waited too long is dropped.

    They are read in a thread of their own into a slot for one, where a newer item takes the
    place of one that nobody has fetched. The last one before the end, or before an error, stays.
    Unlike ``prefetch`` it never makes ``items`` wait, so they may be a camera. Iterate once.

    Args:
        items: what comes at its own pace.
        until: asked before every item and while waiting for one; True ends the iteration, also
            where ``items`` have gone silent.

    Attributes:
        dropped: items so far that were replaced before they were fetched.
    """

    def __init__(self, items: Iterable[Item], until: Callable[[], bool] = lambda: False) -> None:
        self.dropped = 0
        self._items = items
        self._until = until

    def __iter__(self) -> Iterator[Item]:
        # the thread may be waiting for a pipe that nobody fills: do not wait for its end
        return _read_in_thread(self._items, Queue(1), self._replace, self._until, _PATIENCE)

    def _replace(
        self, queue: Queue[_Entry[Item]], entry: _Entry[Item], stopped: threading.Event
    ) -> bool:
        """Fill the slot, whatever lies there; False when the reader has gone."""
        with suppress(Empty):
            queue.get_nowait()
            self.dropped += 1
        queue.put_nowait(entry)  # there is room now: nobody else fills the queue
        return not stopped.is_set()


def _read_in_thread(
    items: Iterable[Item],
    queue: Queue[_Entry[Item]],
    put: Callable[[Queue[_Entry[Item]], _Entry[Item], threading.Event], bool],
    until: Callable[[], bool] = lambda: False,
    patience: float | None = None,
) -> Generator[Item, None, None]:
    """Yield what a thread ``put`` into the queue, until the items end or ``until()`` is true.

    At the end the thread is told to stop and waited for, ``patience`` seconds at most.
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
    put: Callable[[Queue[_Entry[Item]], _Entry[Item], threading.Event], bool],
) -> None:
    """Put the items, and what ended them, into the queue until the reader has gone."""
    iterator = iter(items)
    try:
        for item in iterator:
            if not put(queue, (item,), stopped):
                return
        _put(queue, _End(), stopped)
    except BaseException as error:  # the reader's to handle, in the reader's thread
        _put(queue, _End(error), stopped)
    finally:
        if isinstance(iterator, Generator):  # so that the stages before this one stop, too
            iterator.close()


def _put(queue: Queue[_Entry[Item]], entry: _Entry[Item], stopped: threading.Event) -> bool:
    """Wait for room; False when the reader has gone."""
    while not stopped.is_set():
        try:
            queue.put(entry, timeout=_POLL)
        except Full:
            continue
        return True
    return False
