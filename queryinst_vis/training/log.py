"""What a run says: progress for the person who waits, metrics for later."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.utils.tensorboard import SummaryWriter

from queryinst_vis.utils.files import atomic_path

HEADER = ["step", "name", "value"]


class MetricsLog:
    """Metrics of a run as ``metrics.csv`` (one value a row) and TensorBoard events.

    Args:
        folder: the run's folder.
        step: the step that the run goes on from; what an interrupted run logged beyond it
            is dropped.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        self._csv = folder / "metrics.csv"
        self._keep_until(step)
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Append the metrics after ``step`` updates."""
        with self._csv.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows((step, name, value) for name, value in metrics.items())
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what TensorBoard still holds back."""
        self._events.close()

    def _keep_until(self, step: int) -> None:
        rows: list[list[str]] = []
        if self._csv.exists():
            with self._csv.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if len(row) == len(HEADER)][1:]
        with atomic_path(self._csv) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *(row for row in rows if int(row[0]) <= step)])


class ProgressDisplay:
    """A bar with the time left in a terminal, plain lines elsewhere; both on stderr.

    Args:
        description: what is being done.
        total: number of steps.
        done: steps done before.
        line_every: without a terminal, a line is printed after that many steps; default: ten
            lines in all.
        visible: False silences it (every process but the first).
    """

    def __init__(
        self,
        description: str,
        total: int,
        done: int = 0,
        line_every: int | None = None,
        visible: bool = True,
    ) -> None:
        self._console = Console(stderr=True)
        self._visible = visible
        self._line_every = line_every or max(total // 10, 1)
        self._first, self._begin = done, time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not (visible and self._console.is_terminal),
        )
        self._bar.add_task(description, total=total, completed=done, note="")

    def __enter__(self) -> ProgressDisplay:
        self._begin = time.monotonic()
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to another display for a while."""
        self._bar.stop()
        yield
        self._bar.start()

    def advance(self, note: str | None = None) -> None:
        """One step is done; ``note`` replaces the text beside the bar."""
        (task,) = self._bar.tasks
        note = task.fields["note"] if note is None else note
        self._bar.update(task.id, advance=1, note=note)
        done = int(task.completed)
        if not self._console.is_terminal and done % self._line_every == 0:
            pace = (time.monotonic() - self._begin) / (done - self._first)
            left = timedelta(seconds=round(pace * (task.total - done)))
            self.say(f"{task.description} {done}/{int(task.total)}  {note}  {left} left")

    def say(self, line: str) -> None:
        """Print a line, above the bar."""
        if self._visible:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
