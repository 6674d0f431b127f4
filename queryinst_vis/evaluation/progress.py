"""A progress bar for work that turns out to be long."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

Item = TypeVar("Item")


def show_progress(
    items: Collection[Item], description: str, delay: float = 3.0, console: Console | None = None
) -> Iterator[Item]:
    """Iterate with a bar on standard error that appears after ``delay`` seconds, if at all."""
    progress = Progress(console=console or Console(stderr=True), transient=True)
    task = progress.add_task(description, total=len(items))
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
