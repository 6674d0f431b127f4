"""Precision of inference, and the choice of the fastest one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from queryinst_vis.config import Config
from queryinst_vis.errors import InputError
from queryinst_vis.utils.machine import cpu_capabilities

AUTO = "auto"
FLOAT32, BF16 = "32-true", "bf16-mixed"
DTYPES = {
    FLOAT32: torch.float32,
    BF16: torch.bfloat16,
    "16-mixed": torch.float16,
    AUTO: torch.float32,  # if it has not been resolved
}
"""The values of ``inference.precision``, named as in Lightning Fabric, and their matmul dtypes."""

_ROUNDS = 3
WORTHWHILE = 0.9
"""Maximum ratio of bf16 to float32 time at which bf16 is preferred despite its lower precision."""
_BF16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")


def inference_dtype(config: Config) -> torch.dtype:
    """The dtype of matrix multiplications.

    Raises:
        InputError: ``inference.precision`` is not in ``DTYPES``.
    """
    precision = config.inference.precision
    if precision not in DTYPES:
        raise InputError(f"inference.precision '{precision}': choose one of {', '.join(DTYPES)}")
    return DTYPES[precision]


def check_precision(device: torch.device, config: Config) -> None:
    """Raise an InputError for a precision that the device does not support."""
    if inference_dtype(config) == torch.float16 and device.type != "cuda":
        raise InputError(
            f"inference.precision 16-mixed: requires a CUDA device, this is '{device.type}'; "
            f"choose {FLOAT32} or {BF16}"
        )


def with_precision(config: Config, precision: str) -> Config:
    """The config with another ``inference.precision``."""
    return replace(config, inference=replace(config.inference, precision=precision))


def candidates(config: Config) -> list[str]:
    """The precisions to choose from on this CPU: several for ``auto``, otherwise the given one.

    A CPU without bf16 instructions emulates it, which is never faster.
    """
    if config.inference.precision != AUTO:
        return [config.inference.precision]
    capabilities = cpu_capabilities()
    has_bf16 = any(capabilities.get(name) for name in _BF16_INSTRUCTIONS)
    return [FLOAT32, BF16] if has_bf16 else [FLOAT32]


def fastest(functions: Mapping[str, Callable[[], object]]) -> str:
    """The name of the fastest function; ties favour the first.

    After one warm-up run each, they are timed in turn, so that other load on the machine affects
    all alike, and the minimum of each counts. A function after the first must take less than
    ``WORTHWHILE`` of the time of the first.

    Args:
        functions: functions by name; a single one is not run.
    """
    names = list(functions)
    if len(names) == 1:
        return names[0]
    times = {name: float("inf") for name in names}
    for round_ in range(_ROUNDS + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if round_ > 0:
                times[name] = min(times[name], time.perf_counter() - start)
    times[names[0]] *= WORTHWHILE
    return min(names, key=times.__getitem__)
