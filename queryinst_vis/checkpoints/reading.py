"""Reading checkpoints of other projects without executing code in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from queryinst_vis.errors import InputError
from queryinst_vis.utils.tensor_files import (
    check_tensors,
    is_safetensors,
    read_safetensors,
    read_torch_file,
)


class Placeholder:
    """Placeholder for objects in a checkpoint other than tensors."""

    def __init__(self, *arguments: Any) -> None:
        """Accept and ignore the arguments of the original."""

    def __setstate__(self, state: Any) -> None:
        """Accept and ignore the state of the original."""


# Objects that mmengine, mmcv and their loggers store in training checkpoints. These are names in
# the file; nothing is imported.
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

WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "ema", "ema_state_dict", "model_ema"),
    *("teacher", "module", "net", "network", "student"),
)
"""Keys that may contain the state dict, or prefix its names; the first one present is used."""

MAX_DEPTH = 8  # maximum nesting


@dataclass
class Checkpoint:
    """The content of a checkpoint.

    Attributes:
        state_dict: the tensors.
        classes: class names, if in its metadata.
    """

    state_dict: dict[str, Tensor]
    classes: list[str] | None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of torch, mmcv or mmengine, or a safetensors file, onto the CPU.

    The file type is detected from the content. Only tensors, plain values and the
    placeholders of ``ALLOWED_GLOBALS`` are created; no code in the file is executed. The state
    dict may be nested in ``WRAPPERS``, and its keys may be prefixed with them (``module.``).

    Raises:
        InputError: the file is missing or truncated, contains other objects, no tensors, or
            non-finite tensors.
    """
    where = f"checkpoint {path}"
    if not path.is_file():
        raise InputError(f"{where}: no such file")
    content: Any
    if is_safetensors(path):
        content = read_safetensors(path, "checkpoint")[1]
    else:
        content = read_torch_file(path, "checkpoint", ALLOWED_GLOBALS)
    state_dict = _without_prefixes(_find_state_dict(content, where))
    check_tensors(state_dict, where)
    return Checkpoint(state_dict, _find_class_names(content))


def _find_state_dict(content: Any, where: str) -> dict[str, Tensor]:
    for _ in range(MAX_DEPTH):
        inner = content if isinstance(content, dict) else {}
        key = next((key for key in WRAPPERS if isinstance(inner.get(key), dict)), None)
        if key is None:
            break
        content = inner[key]
    if not isinstance(content, dict) or not content:
        raise InputError(f"{where}: contains no state_dict")
    for key, value in content.items():
        if not isinstance(key, str):
            raise InputError(f"{where}: its key {str(key)[:80]!r} is not text")
        if not isinstance(value, Tensor):
            raise InputError(f"{where}: '{key}' in it is not a tensor")
    return content


def _without_prefixes(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with their names in the model; if there are several copies, of the first."""
    for _ in range(MAX_DEPTH):
        heads = {key.partition(".")[0] for key in state_dict if "." in key}
        if not heads or not heads <= set(WRAPPERS):
            break
        prefix = next(name for name in WRAPPERS if name in heads) + "."
        state_dict = {
            key.removeprefix(prefix): value
            for key, value in state_dict.items()
            if key.startswith(prefix)
        }
    return state_dict


def _find_class_names(content: Any) -> list[str] | None:
    """Class names from ``meta`` at the top level or inside a wrapper."""
    for _ in range(MAX_DEPTH):
        if not isinstance(content, dict):
            return None
        if "meta" in content:
            return _class_names(content["meta"])
        content = next((content[key] for key in WRAPPERS if key in content), None)
    return None


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
