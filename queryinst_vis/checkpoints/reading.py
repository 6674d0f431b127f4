"""Reading foreign checkpoints without executing anything in them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from queryinst_vis.errors import InputError


class Placeholder:
    """Replaces the objects that a checkpoint holds besides its tensors."""

    def __init__(self, *arguments: Any) -> None:
        """Accept and ignore the arguments of the original."""

    def __setstate__(self, state: Any) -> None:
        """Accept and ignore the state of the original."""


# What mmengine, mmcv and their loggers put into training checkpoints. These are names in the
# file; nothing of that name is imported.
ALLOWED_GLOBALS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (Placeholder, name)
    for name in (
        "mmengine.logging.history_buffer.HistoryBuffer",
        "mmengine.config.config.ConfigDict",
        "numpy.ndarray",
        "numpy.dtype",
        *(
            f"{module}.{name}"
            for module in ("numpy.core.multiarray", "numpy._core.multiarray")
            for name in ("_reconstruct", "scalar")
        ),
    )
]

REFUSED = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")


@dataclass
class Checkpoint:
    """What is read from a file.

    Attributes:
        state_dict: the tensors.
        classes: class names, where its metadata has them.
    """

    state_dict: dict[str, Tensor]
    classes: list[str] | None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a ``.pth`` file of torch, mmcv or mmengine onto the CPU.

    Only tensors, plain values and the placeholders of ``ALLOWED_GLOBALS`` are created; no code
    from the file is executed.

    Raises:
        InputError: the file is missing or truncated, holds anything else, or no tensors.
    """
    if not path.is_file():
        raise InputError(f"checkpoint {path}: no such file")
    try:
        with torch.serialization.safe_globals(ALLOWED_GLOBALS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"checkpoint {path}: {_why_not(str(error))}") from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"checkpoint {path}: truncated or not a checkpoint ({reason})") from error
    meta = content.get("meta") if isinstance(content, dict) else None
    state_dict = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state_dict, dict) or not state_dict:
        raise InputError(f"checkpoint {path}: holds no state_dict")
    strays = [key for key, value in state_dict.items() if not isinstance(value, Tensor)]
    if strays:
        raise InputError(f"checkpoint {path}: '{strays[0]}' in it is not a tensor")
    return Checkpoint(state_dict, _class_names(meta))


def _why_not(message: str) -> str:
    found = REFUSED.search(message)
    if found is None:
        return "truncated or not a checkpoint"
    return (
        f"holds '{found[1]}', which is neither a tensor nor a plain value; it is not executed. "
        "Save its state_dict alone with torch.save and convert that"
    )


def _class_names(meta: Any) -> list[str] | None:
    """``meta['CLASSES']`` of mmcv or ``meta['dataset_meta']['classes']`` of mmengine."""
    if not isinstance(meta, dict):
        return None
    dataset = meta.get("dataset_meta")
    dataset = dataset if isinstance(dataset, dict) else {}
    names = meta.get("CLASSES", dataset.get("classes", dataset.get("CLASSES")))
    if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
        return list(names)
    return None
