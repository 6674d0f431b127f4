"""How long the stages of a pipeline take, each in a thread of its own."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


class StageTimes:
    """Adds up the wall-clock seconds of every stage by name; a stage belongs to one thread."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def __getitem__(self, stage: str) -> float:
        """Seconds so far."""
        return self._seconds[stage]

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Count the time of a block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[stage] += time.perf_counter() - start

    def over(self, items: Iterable[Item], stage: str) -> Generator[Item, None, None]:
        """Pass items on and count the time until each is there; closes what it iterates over."""
        iterator = iter(items)
        try:
            while True:
                with self.of(stage):
                    try:
                        item = next(iterator)
                    except StopIteration:
                        return
                yield item
        finally:
            if isinstance(iterator, Generator):
                iterator.close()
