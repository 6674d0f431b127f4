"""Choosing the device to compute on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from queryinst_vis.errors import InputError


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """A usable device; ``"auto"`` prefers the accelerator over the CPU.

    Raises:
        InputError: an unknown device, or one that this machine lacks.
    """
    if device == "auto":
        available = torch.accelerator.is_available()
        found = torch.accelerator.current_accelerator() if available else None
        return found or torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen).tolist()  # the meta device has no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InputError(
            f"device '{device}' cannot be used here ({reason}); try 'cpu' or 'auto'"
        ) from error
    return chosen


@contextmanager
def plain_defaults() -> Iterator[None]:
    """Make new tensors in float32 on the CPU, whatever PyTorch's defaults are in this program.

    Around code that makes tensors without naming their type and device; also a decorator.
    """
    dtype = torch.get_default_dtype()
    if dtype != torch.float32:
        torch.set_default_dtype(torch.float32)
    is_cpu = torch.get_default_device().type == "cpu"
    try:
        with nullcontext() if is_cpu else torch.device("cpu"):
            yield
    finally:
        if dtype != torch.float32:
            torch.set_default_dtype(dtype)
