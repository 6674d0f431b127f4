"""Choosing the device to compute on."""

from __future__ import annotations

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
        raise InputError(f"device '{device}' cannot be used here; try 'cpu' or 'auto'") from error
    return chosen
