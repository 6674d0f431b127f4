"""The state of a training run, from which it resumes exactly.

A state consists of plain tensors, numbers and strings, and is read with ``weights_only=True``. It
holds no state of random generators: the random choices of a step follow from the seed and the
number of the step.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from queryinst_vis.config import Config, config_from_dict, config_to_dict
from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import atomic_path

FORMAT = "queryinst_vis-training/2"
ZIP_MAGIC = b"PK"  # torch.save writes zip archives

Moments = dict[str, dict[str, Tensor]]
"""The optimiser's state of every parameter, by the parameter's name."""


@dataclass
class TrainingState:
    """A training run after ``step`` updates.

    Attributes:
        step: number of updates done.
        best: the best evaluation score so far (0..1), or None before the first evaluation.
        config: the run's config.
        model: the model's state dict.
        moments: the optimiser's state of every parameter, by its name.
        average: the moving average of the model's weights, where the recipe asks for one.
    """

    step: int
    best: float | None
    config: Config
    model: dict[str, Tensor]
    moments: Moments
    average: dict[str, Tensor] | None = None

    @property
    def weights(self) -> dict[str, Tensor]:
        """What the run would publish now."""
        return self.model if self.average is None else self.average


def save_training_state(path: str | Path, state: TrainingState) -> None:
    """Write the state, atomically.

    Raises:
        InputError: the file cannot be written.
    """
    values = {**vars(state), "format": FORMAT, "config": config_to_dict(state.config)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:  # which tells of a full disk
        torch.save(values, file)


def is_training_state(path: str | Path) -> bool:
    """Whether the file looks like one of ``torch.save``'s archives."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    except OSError:
        return False


def load_training_state(path: str | Path) -> TrainingState:
    """Read a state onto the CPU.

    Raises:
        InputError: no such file, a truncated file, or one that another program wrote.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"checkpoint {path}: no such file") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"checkpoint {path}: broken or not a checkpoint ({reason})") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(
            f"checkpoint {path}: not written by queryinst_vis; convert the checkpoints of other "
            "projects with 'queryinst-vis convert-checkpoint'"
        )
    del values["format"]
    values["config"] = config_from_dict(values["config"], f"checkpoint {path}")
    return TrainingState(**values)
