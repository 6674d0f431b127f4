"""Device selection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from queryinst_vis.errors import InputError, first_line


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """A usable device; ``"auto"`` prefers a GPU over the CPU.

    Raises:
        InputError: an unknown or unavailable device.
    """
    if device == "auto":
        available = torch.accelerator.is_available()
        found = torch.accelerator.current_accelerator() if available else None
        return found or torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen).tolist()  # fails on the meta device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error).rstrip(".")
        raise InputError(
            f"device '{device}' cannot be used here ({reason}); try 'cpu' or 'auto'"
        ) from error
    return chosen


@contextmanager
def plain_defaults() -> Iterator[None]:
    """Create new tensors as float32 on the CPU, regardless of PyTorch's defaults.

    For code that creates tensors without dtype and device; also a decorator.
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
