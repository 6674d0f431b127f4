"""Time spent in the stages of a pipeline, each in its own thread."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


class StageTimes:
    """Accumulates wall-clock seconds by stage; each stage runs in one thread."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def __getitem__(self, stage: str) -> float:
        """Seconds so far."""
        return self._seconds[stage]

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Measure the time of a block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[stage] += time.perf_counter() - start

    def over(self, items: Iterable[Item], stage: str) -> Generator[Item, None, None]:
        """Yield items and measure the time to obtain each; closes ``items``."""
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
