"""A running average of the weights during training: what is scored, kept and published."""

from __future__ import annotations

from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from queryinst_vis.models.queryinst import QueryInst


class WeightAverage:
    """Exponential moving average of a model's weights.

    Young averages forget faster: after n updates at least as fast as a decay of
    ``(1 + n) / (10 + n)``, so that a short training's average is not that of its start.

    Args:
        model: being trained, already on its device; buffers are its newest, not averaged.
        decay: of an old average, 0 < decay < 1.
        updates: of the model so far, for a run that is resumed.
        state: the average then; None to begin from the model as it is.
    """

    def __init__(
        self,
        model: QueryInst,
        decay: float,
        updates: int = 0,
        state: dict[str, Tensor] | None = None,
    ) -> None:
        def average(old: Tensor, new: Tensor, updates: Tensor) -> Tensor:
            n = int(updates)
            return old.lerp(new, 1 - min(decay, (1 + n) / (10 + n)))

        self._average = AveragedModel(model, avg_fn=average)
        self._average.n_averaged.fill_(updates)
        if state is not None:
            self.model.load_state_dict(state)

    @property
    def model(self) -> QueryInst:
        """The model that holds the averages."""
        return self._average.module

    def update(self, model: QueryInst) -> None:
        """Take in the weights after one more step."""
        self._average.update_parameters(model)
