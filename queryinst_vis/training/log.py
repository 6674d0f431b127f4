"""Training metrics: averaging over steps, and log files."""

from __future__ import annotations

import csv
import os
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import Logger, TensorBoardLogger
from torch import Tensor

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.training.launch import reduce
from queryinst_vis.utils.files import atomic_path

HEADER = ["step", "name", "value"]
LOGGERS = ("csv", "tensorboard", "wandb")


class MetricsLog:
    """The metrics log of a run.

    Args:
        folder: the run's folder.
        step: the step from which the run continues; later metrics of an interrupted run are
            dropped.
        loggers: some of ``LOGGERS``. ``csv`` writes ``metrics.csv`` (one value per row) and
            ``curves.png``, ``tensorboard`` a folder of events, ``wandb`` a Weights & Biases run
            that stays in the folder unless ``WANDB_MODE=online`` is set.

    Raises:
        InputError: wandb is requested but not installed.
    """

    def __init__(self, folder: Path, step: int = 0, loggers: Sequence[str] = LOGGERS[:2]) -> None:
        self._csv = folder / "metrics.csv" if "csv" in loggers else None
        self._curves = folder / "curves.png"
        if self._csv is not None:
            _keep_until(self._csv, step)
        self._loggers: list[Logger] = []
        if "tensorboard" in loggers:
            self._loggers.append(
                TensorBoardLogger(folder, name="tensorboard", version="", purge_step=step + 1)
            )
        if "wandb" in loggers:
            self._loggers.append(_open_wandb(folder))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Append the metrics after ``step`` updates."""
        if self._csv is not None:
            with self._csv.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows((step, name, value) for name, value in metrics.items())
        for logger in self._loggers:
            logger.log_metrics(metrics, step)

    def draw(self) -> None:
        """Update ``curves.png``; failure is only a warning."""
        if self._csv is None:
            return
        from queryinst_vis.visualization.curves import draw_curves

        try:
            draw_curves(self._csv, self._curves)
        except InputError as error:
            warnings.warn(str(error), InputWarning, stacklevel=2)

    def close(self) -> None:
        """Draw the curves and flush the loggers."""
        self.draw()
        for logger in self._loggers:
            logger.finalize("success")


def require_wandb() -> None:
    """Raise an InputError unless wandb, an optional dependency, is installed."""
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise InputError(
            "train.loggers: wandb is not installed; pip install 'queryinst-vis[wandb]'"
        ) from error


def _open_wandb(folder: Path) -> Logger:
    """A Weights & Biases run; a resumed run keeps its id."""
    require_wandb()
    from lightning.pytorch.loggers import WandbLogger

    path = folder / "wandb" / "run_id"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex)
    return WandbLogger(
        name=folder.name,
        project="queryinst-vis",
        save_dir=folder,
        id=path.read_text(),
        resume="allow",
        offline=os.environ.get("WANDB_MODE", "offline") != "online",
    )


def _keep_until(path: Path, step: int) -> None:
    rows: list[list[str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if len(row) == len(HEADER)][1:]
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *(row for row in rows if int(row[0]) <= step)])


class StepMeans:
    """Means of losses, gradient norm and time over the steps since the last ``close``."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps, self._seconds = 0, 0.0

    def add(self, losses: dict[str, Tensor], norm: Tensor, seconds: float) -> None:
        """Add a step, without transfers from the device."""
        values = {f"loss/{name}": value for name, value in losses.items()} | {"grad_norm": norm}
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()
        self._steps += 1
        self._seconds += seconds

    def close(self, fabric: Fabric) -> dict[str, float]:
        """The means over steps and processes, and the seconds per step."""
        sums = torch.stack(list(self._sums.values()))
        means = reduce(fabric, sums / self._steps, "mean").tolist()
        metrics = dict(zip(self._sums, means, strict=True))
        total = sum(value for name, value in metrics.items() if name.startswith("loss/"))
        seconds = self._seconds / self._steps
        self._reset()
        return {"loss": total, **metrics, "seconds_per_step": seconds}
