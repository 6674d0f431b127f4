"""Description of the machine and the code version of a result."""

from __future__ import annotations

import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_ROOT = Path(__file__).resolve().parents[2]


def device_name(device: torch.device) -> str:
    """Name of the hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    name = cpu_capabilities().get("cpu_name")
    return name or platform.processor() or platform.machine()


def cpu_capabilities() -> dict[str, Any]:
    """``cpu_name``, and the instruction sets of this CPU: ``{"amx_bf16": True, ...}``.

    Empty in older versions of PyTorch, which do not tell.
    """
    find = getattr(torch.cpu, "get_capabilities", None)
    return find() if find else {}


def system_name() -> str:
    """Operating system, processor architecture and version of Python."""
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"


def code_version() -> str:
    """The commit of the code, marked if files are modified; otherwise the package version."""
    if (_ROOT / ".git").exists():
        words = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        with suppress(OSError, subprocess.CalledProcessError):
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            return done.stdout.strip()
    with suppress(PackageNotFoundError):
        return f"version {version('queryinst-vis')}"
    return "unknown"
