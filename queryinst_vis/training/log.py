"""The metrics of a run, as files."""

from __future__ import annotations

import csv
from pathlib import Path

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
