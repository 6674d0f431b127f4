"""One training step: from the batches of a process to updated weights."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from queryinst_vis.checkpoints.training_state import Moments
from queryinst_vis.config import Config, TrainConfig
from queryinst_vis.losses.criterion import Criterion
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.structures import Batch
from queryinst_vis.training.launch import end_all
from queryinst_vis.training.schedule import (
    build_optimizer,
    load_moments,
    moments_by_name,
    set_learning_rate,
)
from queryinst_vis.training.step import TrainingStep, zero_of_unused


class UpdateResult(NamedTuple):
    """Statistics of a step.

    Attributes:
        losses: mean of each loss over the batches, scalar.
        norm: gradient norm before clipping, scalar.
        rate: the learning rate.
    """

    losses: dict[str, Tensor]
    norm: Tensor
    rate: float


class Updater:
    """Updates the weights with the clipped gradients of ``accumulate`` batches.

    Args:
        fabric: launched.
        model: the model, on any device; Fabric moves it.
        config: of the run.
        recipe: ``config.train`` with its schedule resolved.
        moments: optimizer state by parameter name, to resume from.

    Attributes:
        is_consistent: False while the weights are updated, and after a failed update.
    """

    def __init__(
        self,
        fabric: Fabric,
        model: QueryInst,
        config: Config,
        recipe: TrainConfig,
        moments: Moments | None = None,
    ) -> None:
        criterion = Criterion(config.losses, config.model.mask.parallel)
        module = TrainingStep(model, criterion, config.losses.track, recipe.both_ways)
        self._fabric = fabric
        self._model = model
        self._recipe = recipe
        self._seed = config.seed
        self._module, self._optimizer = fabric.setup(module, build_optimizer(model, recipe))
        if moments is not None:  # after the setup, which moves the parameters to their device
            load_moments(self._optimizer, model, moments)
        self._buffers: list[Tensor] = []  # copies from before the current step
        self.is_consistent = True

    def set_training_mode(self) -> None:
        """Switch the model to training mode."""
        self._module.train()

    def moments(self) -> Moments:
        """The optimizer state by parameter name."""
        return moments_by_name(self._optimizer, self._model)

    def update(self, batches: list[Batch], step: int) -> UpdateResult:
        """Run one step.

        Args:
            batches: of this process.
            step: number of steps before this one.

        Raises:
            SharedError, SystemExit: the gradients or the updated weights are not finite, see
                ``end_all``.
        """
        self._buffers = [buffer.clone() for buffer in self._model.buffers()]
        torch.manual_seed(self._step_seed(step))
        rate = set_learning_rate(self._optimizer, step, self._recipe)
        losses = self._add_gradients(batches)
        clipped = self._fabric.clip_gradients(
            self._module,
            self._optimizer,
            max_norm=self._recipe.clip_norm,
            error_if_nonfinite=False,  # checked below, with a better message
        )
        norm = torch.as_tensor(clipped)  # Fabric returns None only for clip_val
        self._check({"the gradient norm": norm}, losses, step)
        self.is_consistent = False
        self._optimizer.step()
        self._optimizer.zero_grad()
        weights = torch.stack(torch._foreach_norm(list(self._model.parameters()))).sum()
        self._check({"the norm of the updated weights": weights.detach()}, {}, step)
        return UpdateResult(losses, norm, rate)

    def complete(self) -> None:
        """Mark the step as complete, after updating everything that depends on it."""
        self._buffers = []
        self.is_consistent = True

    def restore_buffers(self) -> None:
        """Undo changes of the running statistics by an incomplete step, if there is one."""
        for buffer, before in zip(self._model.buffers(), self._buffers, strict=False):
            buffer.copy_(before)

    def _step_seed(self, step: int) -> int:
        """Random seed of a step in this process, e.g. for dropout."""
        sequence = np.random.SeedSequence([self._seed, step, self._fabric.global_rank])
        return int(sequence.generate_state(1)[0])

    def _add_gradients(self, batches: list[Batch]) -> dict[str, Tensor]:
        """Run the backward passes of one step; returns its mean losses."""
        device, parts = self._fabric.device, len(batches)
        means: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=device))
        for part, batch in enumerate(batches):
            with self._fabric.no_backward_sync(self._module, enabled=part < parts - 1):
                losses = self._module(batch.to(device))
                loss = sum(losses.values(), torch.zeros((), device=device))
                if self._fabric.world_size > 1:
                    loss = loss + zero_of_unused(loss, self._model)
                self._fabric.backward(loss / parts)
            for name, value in losses.items():
                means[name] = means[name] + value.detach() / parts
        return means

    def _check(self, norm: dict[str, Tensor], losses: dict[str, Tensor], step: int) -> None:
        """End the run if a norm, which is the same in every process, is not finite.

        Args:
            norm: the norm, by its name.
            losses: named instead, if one of them is the cause.
            step: of this update.
        """
        if all(value.isfinite() for value in norm.values()):
            return
        reason = next(
            f"{name} is {value.item()}"
            for name, value in (losses | norm).items()
            if not value.isfinite()
        )
        end_all(
            self._fabric,
            f"training diverged at step {step}: {reason}; lower train.lr or train.clip_norm, "
            "or lengthen train.warmup_steps",
        )
