"""The metrics of a run: means over steps, and files."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from queryinst_vis.training.launch import reduce
from queryinst_vis.utils.files import atomic_path

HEADER = ["step", "name", "value"]


class MetricsLog:
    """Metrics of a run as ``metrics.csv`` (one value a row) and TensorBoard events.

    Args:
        folder: the run's folder.
        step: the step from which the run continues; later metrics of an interrupted run are
            dropped.
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
        """Flush the TensorBoard events."""
        self._events.close()

    def _keep_until(self, step: int) -> None:
        rows: list[list[str]] = []
        if self._csv.exists():
            with self._csv.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if len(row) == len(HEADER)][1:]
        with atomic_path(self._csv) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *(row for row in rows if int(row[0]) <= step)])


class StepMeans:
    """Means of losses, gradient norm and time over the steps since it was last closed."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps, self._seconds = 0, 0.0

    def add(self, losses: dict[str, Tensor], norm: Tensor, seconds: float) -> None:
        """Add a step; nothing is copied from the device yet."""
        values = {f"loss/{name}": value for name, value in losses.items()} | {"grad_norm": norm}
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()
        self._steps += 1
        self._seconds += seconds

    def close(self, fabric: Fabric) -> dict[str, float]:
        """The means, over steps and processes, and the seconds that a step took."""
        sums = torch.stack(list(self._sums.values()))
        means = reduce(fabric, sums / self._steps, "mean").tolist()
        metrics = dict(zip(self._sums, means, strict=True))
        total = sum(value for name, value in metrics.items() if name.startswith("loss/"))
        seconds = self._seconds / self._steps
        self._reset()
        return {"loss": total, **metrics, "seconds_per_step": seconds}
