"""The state of a training run, for exact resuming.

A state consists of plain tensors, numbers and strings, and is read with ``weights_only=True``. It
contains no random state: random numbers depend only on the seed and the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from queryinst_vis.config import Config, config_from_dict, config_to_dict
from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import atomic_path
from queryinst_vis.utils.tensor_files import check_tensors, read_torch_file

FORMAT = "queryinst_vis-training/2"
ZIP_MAGIC = b"PK"  # torch.save writes zip archives

Moments = dict[str, dict[str, Tensor]]
"""The optimiser's state of every parameter, by the parameter's name."""


@dataclass
class TrainingState:
    """A training run after ``step`` updates.

    Attributes:
        step: number of completed updates.
        best: the best evaluation score so far (0..1), or None before the first evaluation.
        config: the run's config.
        model: the model's state dict.
        moments: the optimiser state of every parameter, by name.
        average: the moving average of the weights, if enabled.
        stale: evaluations since the best one.
        evaluated: step of the last evaluation, or None before the first.
    """

    step: int
    best: float | None
    config: Config
    model: dict[str, Tensor]
    moments: Moments
    average: dict[str, Tensor] | None = None
    stale: int = 0
    evaluated: int | None = None

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights to evaluate and save."""
        return self.model if self.average is None else self.average


def save_training_state(path: str | Path, state: TrainingState) -> None:
    """Write the state, atomically.

    Raises:
        InputError: the file cannot be written.
    """
    values = {**vars(state), "format": FORMAT, "config": config_to_dict(state.config)}
    # an open file, unlike a path, reports a full disk
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(values, file)


def is_training_state(path: str | Path) -> bool:
    """Whether the file looks like an archive of ``torch.save``."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    except OSError:
        return False


def load_training_state(path: str | Path) -> TrainingState:
    """Read a state onto the CPU.

    Raises:
        InputError: the file is missing, damaged, written by another program, or has non-finite
            weights.
    """
    where = f"checkpoint {path}"
    values = read_torch_file(path, "checkpoint")
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(
            f"{where}: not written by queryinst_vis; convert the checkpoints of other projects "
            "with 'queryinst-vis convert-checkpoint'"
        )
    values = {"average": None, "stale": 0, "evaluated": None, **values}  # missing in older files
    for key, is_valid in _CONTENT.items():
        if key not in values or not is_valid(values[key]):
            fault = "of the wrong type" if key in values else "missing"
            raise InputError(f"{where}: damaged: '{key}' is {fault}; use another copy")
    state = TrainingState(
        step=values["step"],
        best=values["best"],
        config=config_from_dict(values["config"], where),
        model=values["model"],
        moments=values["moments"],
        average=values["average"],
        stale=values["stale"],
        evaluated=values["evaluated"],
    )
    check_tensors(state.model, where)
    check_tensors(state.average or {}, where)
    for parameter, moments in state.moments.items():
        check_tensors({f"{parameter}.{name}": value for name, value in moments.items()}, where)
    return state


def _is_step(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_score(value: object) -> bool:
    return value is None or (isinstance(value, float | int) and math.isfinite(value))


def _are_tensors(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    )


def _are_moments(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and _are_tensors(moments) for name, moments in value.items()
    )


_CONTENT: dict[str, Callable[[object], bool]] = {
    "step": _is_step,
    "best": _is_score,
    "config": lambda value: isinstance(value, dict),
    "model": _are_tensors,
    "moments": _are_moments,
    "average": lambda value: value is None or _are_tensors(value),
    "stale": _is_step,
    "evaluated": lambda value: value is None or _is_step(value),
}
"""The fields of a state and their types."""
