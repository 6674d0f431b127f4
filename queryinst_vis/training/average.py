"""A moving average of the weights during training: what is scored, kept and published."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from queryinst_vis.models.queryinst import QueryInst


class WeightAverage:
    """Exponential moving average of a model's weights.

    Young averages forget faster: after n updates the decay is at most ``(1 + n) / (10 + n)``, so
    that the average of a short training does not dwell on its start.

    Args:
        model: being trained, already on its device.
        decay: of an old average, 0 < decay < 1.
        updates: of the model so far, for a run that is resumed.
        state: the average then; None to begin from the model as it is.

    Attributes:
        model: holds the averages; its buffers are the newest, not averaged.
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
        """Take in the weights after one more step."""
        n = self._updates
        share = 1 - min(self._decay, (1 + n) / (10 + n)) if n else 1.0
        for average, value in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(value, share)
        for buffer, newest in zip(self.model.buffers(), model.buffers(), strict=True):
            buffer.copy_(newest)
        self._updates += 1
