"""Stages that work at the same time: each runs ahead of its reader, but only so far."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import Full, Queue
from typing import TypeVar

Item = TypeVar("Item")

_POLL = 0.1  # seconds between looks at whether the reader is still there


def prefetch(items: Iterable[Item], ahead: int = 2) -> Iterator[Item]:
    """Iterate over ``items`` in a thread of their own, at most ``ahead`` before the reader.

    Order is kept. An error of ``items`` is raised after the items before it. A reader that stops
    early (``break``, an error, ``close()``) stops the thread too. Where the work releases the
    interpreter's lock, as decoding, networks and encoding do, the stages overlap::

        for frame, detections in prefetch(tracker.track(prefetch(reader))):
            writer.write(frame)

    Raises:
        ValueError: ``ahead`` is below 1.
    """
    if ahead < 1:
        raise ValueError(f"ahead must be 1 or more, got {ahead}")
    return _read(items, ahead)


def _read(items: Iterable[Item], ahead: int) -> Iterator[Item]:
    queue: Queue[tuple[str, Item | BaseException | None]] = Queue(ahead)
    stopped = threading.Event()
    thread = threading.Thread(target=_fill, args=(queue, items, stopped), daemon=True)
    thread.start()
    try:
        while True:
            kind, value = queue.get()
            if kind == "item":
                yield value
            elif kind == "error":
                raise value
            else:
                return
    finally:
        stopped.set()
        thread.join()


def _fill(queue: Queue, items: Iterable[Item], stopped: threading.Event) -> None:
    """Put the items, and what ended them, into the queue until the reader has gone."""
    iterator = iter(items)
    try:
        for item in iterator:
            if not _put(queue, ("item", item), stopped):
                return
        _put(queue, ("end", None), stopped)
    except BaseException as error:  # the reader's to handle, in the reader's thread
        _put(queue, ("error", error), stopped)
    finally:
        if hasattr(iterator, "close"):  # a generator: so do the stages before this one
            iterator.close()


def _put(queue: Queue, entry: tuple[str, object], stopped: threading.Event) -> bool:
    """Wait for room; False when the reader has gone."""
    while not stopped.is_set():
        try:
            queue.put(entry, timeout=_POLL)
        except Full:
            continue
        return True
    return False
