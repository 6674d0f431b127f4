"""Progress bars on standard error."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from datetime import timedelta
from typing import Literal, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

Item = TypeVar("Item")
Unit = Literal["items", "steps", "frames", "bytes"]


class ProgressBar:
    """Shows progress and the estimated remaining time.

    In a terminal, a bar. Otherwise, ``steps`` print lines at regular intervals, and other units one
    line at the end.

    Args:
        description: text next to the bar.
        total: total amount; None if unknown.
        unit: ``"steps"``, ``"frames"`` (shown with frames per second) or
            ``"bytes"`` (shown with the transfer rate).
        done: amount done before.
        line_every: without a terminal, print a line after this many steps; None: ten lines.
        visible: False prints nothing (for all ranks except 0).

    Example::

        with ProgressBar("training", total=1000) as bar:
            for _ in range(1000):
                bar.advance(note="loss 0.5")
    """

    def __init__(
        self,
        description: str,
        total: int | None,
        unit: Unit = "steps",
        done: int = 0,
        line_every: int | None = None,
        visible: bool = True,
    ) -> None:
        self._console = Console(stderr=True)
        self._visible = visible
        self._prints_lines = visible and unit == "steps" and not self._console.is_terminal
        self._line_every = line_every or max((total or 0) // 10, 1)
        self._first, self._begin = done, time.monotonic()
        self._bar = Progress(
            *_columns(unit, total),
            console=self._console,
            disable=self._prints_lines or not visible,
        )
        self._bar.add_task(description, total=total, completed=done, note="")

    def __enter__(self) -> ProgressBar:
        self._begin = time.monotonic()
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide the bar, so that another one can be shown."""
        self._bar.stop()
        yield
        self._bar.start()

    def advance(self, amount: int = 1, note: str | None = None) -> None:
        """Advance by ``amount`` (may be 0); ``note`` replaces the text next to the bar."""
        (task,) = self._bar.tasks
        note = task.fields["note"] if note is None else note
        before = int(task.completed)
        self._bar.update(task.id, advance=amount, note=note)
        done = int(task.completed)
        is_line = done // self._line_every > before // self._line_every
        if self._prints_lines and task.total is not None and is_line:
            pace = (time.monotonic() - self._begin) / (done - self._first)
            left = timedelta(seconds=round(pace * (task.total - done)))
            self.print(f"{task.description} {done}/{int(task.total)}  {note}  {left} left")

    def print(self, line: str) -> None:
        """Print a line, above the bar."""
        if self._visible:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def show_progress(
    items: Iterable[Item],
    description: str,
    total: int | None = None,
    unit: Unit = "items",
    delay: float = 3.0,
    console: Console | None = None,
) -> Iterator[Item]:
    """Iterate with a progress bar that appears only after a delay.

    Args:
        items: what to iterate over.
        description: text before the bar.
        total: number of items; None: ``len(items)``, or unknown without a length.
        unit: what the items are.
        delay: seconds before the bar appears. It disappears at the end, except for a delay of 0.
        console: where to draw; standard error if None.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    bar = Progress(
        *_columns(unit, total), console=console or Console(stderr=True), transient=delay > 0
    )
    task = bar.add_task(description, total=total, note="")
    begin, is_shown = time.monotonic(), delay == 0
    if is_shown:
        bar.start()
    try:
        for item in items:
            if not is_shown and time.monotonic() - begin >= delay:
                bar.start()
                is_shown = True
            yield item
            bar.advance(task)
    finally:
        if is_shown:
            bar.stop()


def _columns(unit: Unit, total: int | None) -> list[ProgressColumn]:
    left = TimeElapsedColumn() if total is None else TimeRemainingColumn()
    counted: dict[Unit, list[ProgressColumn]] = {
        "items": [TaskProgressColumn(), left],
        "steps": [
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            left,
            TextColumn("{task.fields[note]}", markup=False),
        ],
        "frames": [MofNCompleteColumn(), _FrameRateColumn(), left],
        "bytes": [DownloadColumn(), TransferSpeedColumn(), left],
    }
    return [TextColumn("{task.description}", markup=False), BarColumn(), *counted[unit]]


class _FrameRateColumn(ProgressColumn):
    """Frames per second, once available."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} frames/s")
