"""Validation during training, for selecting the best weights and early stopping."""

from __future__ import annotations

from pathlib import Path

from lightning.fabric import Fabric

from queryinst_vis.checkpoints.training_state import TrainingState
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.config import Config
from queryinst_vis.errors import InputError
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.training.evaluate import evaluate, open_validation_set
from queryinst_vis.training.samples import SampleSheet


class Validation:
    """Evaluates the model on ``data.val`` and keeps the best weights.

    Args:
        fabric: launched.
        config: config of the run.
        work_dir: where rank 0 writes ``best.safetensors`` and ``samples/``.
        state: state of a resumed run, or None.

    Attributes:
        best: best score so far (0..1), None before the first evaluation.
        stale: number of evaluations since the best one.

    Raises:
        InputError: the set cannot be evaluated, or ``train.patience`` is set without a validation
            set.
    """

    def __init__(
        self, fabric: Fabric, config: Config, work_dir: Path, state: TrainingState | None
    ) -> None:
        self._fabric, self._config, self._work_dir = fabric, config, work_dir
        self.best = state.best if state else None
        self.stale = state.stale if state else 0
        self._dataset = open_validation_set(config)
        if self._dataset is None and config.train.patience:
            raise InputError(
                f"train.patience {config.train.patience}: requires a validation set; set data.val"
            )
        self._sheet: SampleSheet | None = None
        if self._dataset is not None and config.train.samples and fabric.is_global_zero:
            self._sheet = SampleSheet(config.data.val, config.train.samples)

    @property
    def patience_exhausted(self) -> bool:
        """Whether ``train.patience`` is exhausted; known to rank 0 only."""
        patience = self._config.train.patience
        return 0 < patience <= self.stale

    def run(self, model: QueryInst, step: int) -> dict[str, float]:
        """Evaluate the model, leave it in eval mode, and save it if it is the best so far.

        Returns:
            Main metrics by name, in rank 0; empty without a validation set.
        """
        if self._dataset is None:
            return {}
        score, metrics, entries = evaluate(self._fabric, model, self._config, self._dataset)
        if not self._fabric.is_global_zero:
            return {}
        if self.best is None or score > self.best:
            self.best, self.stale = score, 0
            save_weights(self._work_dir / "best.safetensors", model, self._config)
        else:
            self.stale += 1
        if self._sheet is not None:
            self._sheet.write(self._work_dir / "samples" / f"step_{step:07}.jpg", entries)
        return metrics
