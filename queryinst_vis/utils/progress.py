"""A progress bar for work that turns out to be long."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

Item = TypeVar("Item")


def show_progress(
    items: Iterable[Item],
    description: str,
    delay: float = 3.0,
    console: Console | None = None,
    total: int | None = None,
) -> Iterator[Item]:
    """Iterate with a bar on standard error that appears after ``delay`` seconds, if at all.

    Args:
        items: a collection, or any iterable with ``total``.
        description: stands before the bar.
        delay: in seconds.
        console: where to draw; standard error if None.
        total: how many items there are; ``len(items)`` if None.
    """
    progress = Progress(console=console or Console(stderr=True), transient=True)
    task = progress.add_task(description, total=len(items) if total is None else total)
    start, shown = time.monotonic(), False
    try:
        for item in items:
            yield item
            progress.advance(task)
            if not shown and time.monotonic() - start >= delay:
                progress.start()
                shown = True
    finally:
        if shown:
            progress.stop()
