"""Reading tensors from untrusted files without executing code, with validation."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from queryinst_vis.errors import InputError, first_line

_REFUSED = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_HEADER_SIZE = 8  # bytes before the JSON header of a safetensors file

AllowedGlobals = Sequence[Callable[..., Any] | tuple[Callable[..., Any], str]]


def is_safetensors(path: str | Path) -> bool:
    """Whether a file starts like a safetensors file, regardless of its name.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(_HEADER_SIZE + 1)[_HEADER_SIZE:] == b"{"
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def check_readable(path: str | Path, what: str) -> None:
    """Raise an InputError if a file is missing or not readable.

    Libraries report such files as invalid or missing.
    """
    try:
        with Path(path).open("rb"):
            return
    except FileNotFoundError as error:
        raise InputError(f"{what} {path}: no such file") from error
    except OSError as error:
        raise InputError(f"{what} {path}: cannot be read ({error.strerror})") from error


def read_safetensors(path: str | Path, what: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a safetensors file, on the CPU.

    Args:
        path: the file.
        what: its role, for error messages.

    Raises:
        InputError: the file is missing, truncated or of another format.
    """
    check_readable(path, what)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, tensors
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError) as error:
        reason = first_line(error)
        raise InputError(
            f"{what} {path}: truncated or not a safetensors file ({reason})"
        ) from error


def read_torch_file(path: str | Path, what: str, allowed: AllowedGlobals = ()) -> Any:
    """Read a file of ``torch.save`` onto the CPU: only tensors and plain values.

    Args:
        path: the file.
        what: its role, for error messages.
        allowed: other objects that may be created, as for ``torch.serialization.safe_globals``.

    Raises:
        InputError: the file is missing, damaged or contains other objects.
    """
    check_readable(path, what)
    try:
        _check_unpacked_size(path)
        # an open file, since PyTorch chooses formats by name
        with torch.serialization.safe_globals(list(allowed)), Path(path).open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{what} {path}: {_why_refused(str(error))}") from error
    except MemoryError as error:
        raise InputError(f"{what} {path}: does not fit into memory") from error
    except Exception as error:  # damaged data can raise any error in the unpickler
        reason = first_line(error)
        raise InputError(f"{what} {path}: truncated or not a checkpoint ({reason})") from error


def check_tensors(tensors: Mapping[str, Tensor], where: str) -> None:
    """Check that weights are dense, real and finite in float32.

    Args:
        tensors: on the CPU, with floating-point or integer elements.
        where: names the file in error messages.

    Raises:
        InputError: another type or layout, a tensor with more elements than are stored, or a value
            that is infinite, NaN or too large for float32.
    """
    for name, value in tensors.items():
        if value.layout != torch.strided:
            raise InputError(f"{where}: '{name}' is sparse; weights are dense tensors")
        if value.dtype == torch.bool or not (
            value.dtype in _FLOATS or (not value.is_complex() and not value.is_floating_point())
        ):
            kind = str(value.dtype).removeprefix("torch.")
            raise InputError(
                f"{where}: '{name}' is of type {kind}; save the weights in float32, float16 or "
                "bfloat16"
            )
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise InputError(
                f"{where}: '{name}' repeats its elements ({shape_text(value)} from "
                f"{value.untyped_storage().nbytes()} bytes); save a contiguous copy"
            )
        if value.is_floating_point() and not value.float().isfinite().all():
            raise InputError(
                f"{where}: '{name}' has values that are not finite in float32; did the training "
                "diverge?"
            )


def shape_text(value: Tensor) -> str:
    """``80x256`` for a tensor of shape ``(80, 256)``."""
    return "x".join(map(str, value.shape)) or "a scalar"


def _check_unpacked_size(path: str | Path) -> None:
    """Reject compressed archives, which may unpack to any size; ``torch.save`` writes none."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > Path(path).stat().st_size:
        raise ValueError(f"its archive unpacks to {size} bytes")


def _why_refused(message: str) -> str:
    found = _REFUSED.search(message)
    if found is None:
        return "truncated or not a checkpoint"
    return (
        f"contains '{found[1]}', which is neither a tensor nor a plain value, and is not executed; "
        "save only the state_dict with torch.save, and convert that"
    )
