"""A progress bar for frames: how far, how fast, how much longer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Item = TypeVar("Item")


def with_progress(frames: Iterable[Item], name: str, total: int | None) -> Iterator[Item]:
    """Iterate with a bar on standard error.

    Args:
        frames: one item a frame.
        name: stands before the bar.
        total: how many there are; None: nobody knows, so the time that has passed is shown.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _FrameRateColumn(),
        TimeElapsedColumn() if total is None else TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=total)
        for item in frames:
            yield item
            progress.advance(task)


class _FrameRateColumn(ProgressColumn):
    """Frames per second, once there is something to measure."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} frames/s")
