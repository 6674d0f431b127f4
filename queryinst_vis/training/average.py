"""Exponential moving average of the weights, used for evaluation and the final weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from queryinst_vis.models.queryinst import QueryInst


class WeightAverage:
    """Exponential moving average of a model's weights.

    The decay is warmed up: after n updates it is at most ``(1 + n) / (10 + n)``, so that the
    initial weights do not dominate the average in short training runs.

    Args:
        model: being trained, already on its device.
        decay: final decay, 0 < decay < 1.
        updates: number of updates so far, for a resumed run.
        state: the saved average of a resumed run; None to start from the current weights.

    Attributes:
        model: a model with the averaged weights; its buffers are the latest ones.
    """

    def __init__(
        self,
        model: QueryInst,
        decay: float,
        updates: int = 0,
        state: dict[str, Tensor] | None = None,
    ) -> None:
        self.model = copy.deepcopy(model)
        self._decay, self._updates = decay, updates
        if state is not None:
            self.model.load_state_dict(state)

    @torch.no_grad()
    def update(self, model: QueryInst) -> None:
        """Update the average after a training step."""
        n = self._updates
        share = 1 - min(self._decay, (1 + n) / (10 + n)) if n else 1.0
        for average, value in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(value, share)
        for buffer, newest in zip(self.model.buffers(), model.buffers(), strict=True):
            buffer.copy_(newest)
        self._updates += 1
