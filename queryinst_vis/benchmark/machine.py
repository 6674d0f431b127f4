"""Description of the machine that runs a benchmark, and its peak performance."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from queryinst_vis.benchmark.timing import run_timed
from queryinst_vis.utils.machine import code_version, cpu_capabilities, device_name, system_name

_LIBRARIES = ("torch", "torchvision", "timm")
_BUSY = 0.25  # load average per core above which other processes affect the timing
# of x86 and ARM; any of these suffices
_INSTRUCTIONS = {
    "bfloat16": ("avx512_bf16", "amx_bf16", "bf16"),
    "float16": ("avx512_fp16", "amx_fp16", "fp16_arith"),
}
PEAK_SECONDS, PEAK_CALLS = 0.5, 3  # minimum time and number of calls per kernel


def describe_machine(
    device: torch.device, dtype: torch.dtype, load: float | None
) -> dict[str, Any]:
    """The hardware, settings and versions that times depend on.

    Args:
        device, dtype: of the network.
        load: load average before the benchmark.
    """
    return {
        "device": str(device),
        "device_name": device_name(device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
        "load_average": load,
        "system": system_name(),
        "versions": {name: version(name) for name in _LIBRARIES},
        "commit": code_version(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def load_average() -> float | None:
    """The system's load average over the last minute; None if unavailable."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def reservations(machine: dict[str, Any]) -> list[str]:
    """Reasons why the measured times may be unreliable, one line each.

    Args:
        machine: output of ``describe_machine``.
    """
    found = []
    load, cores = machine["load_average"], machine["cores"]
    if load is not None and load > _BUSY * cores:
        found.append(
            f"the machine is busy: load average {load:.2f} on {cores} cores before the benchmark"
        )
    if machine["device"] == "cpu" and _is_emulated(machine["dtype"]):
        found.append(
            f"this CPU has no instructions for {machine['dtype']} and emulates it: the times do "
            "not apply to CPUs with these instructions"
        )
    return found


def _is_emulated(dtype: str) -> bool:
    supported = cpu_capabilities()
    return dtype in _INSTRUCTIONS and not any(supported.get(name) for name in _INSTRUCTIONS[dtype])


@torch.inference_mode()
def measure_peak(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """The current peak of this machine in two compute-bound kernels, in GFLOP/s.

    ``gemm_gflop_per_s``: product of two square matrices, 2048x2048 on a CPU and 8192x8192 on an
    accelerator. ``convolution_gflop_per_s``: 3x3, 256 to 256 channels, 96x160 pixels, channels
    last, batch size 1 on a CPU and 16 on an accelerator. Each is the fastest of several calls.
    """
    side, batch = (2048, 1) if device.type == "cpu" else (8192, 16)
    matrix = torch.randn(side, side, device=device).to(dtype)
    images = torch.randn(batch, 256, 96, 160, device=device).to(dtype)
    images = images.to(memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3, device=device).to(dtype)
    weight = weight.to(memory_format=torch.channels_last)
    gemm = _best_seconds(lambda: matrix @ matrix, device)
    convolution = _best_seconds(lambda: F.conv2d(images, weight, padding=1), device)
    return {
        "gemm_gflop_per_s": 2 * side**3 / gemm / 1e9,
        "convolution_gflop_per_s": 2 * images.numel() * 256 * 9 / convolution / 1e9,
    }


def _best_seconds(call: Callable[[], object], device: torch.device) -> float:
    times: list[float] = []
    end = time.perf_counter() + PEAK_SECONDS
    while len(times) < PEAK_CALLS or time.perf_counter() < end:
        seconds, _ = run_timed(call, device)
        times.append(seconds)
    return min(times)
