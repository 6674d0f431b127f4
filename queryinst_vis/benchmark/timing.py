"""Timing of calls, and statistics of times."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypedDict, TypeVar

import numpy as np
import torch

Result = TypeVar("Result")


class Spread(TypedDict):
    """Statistics of a list of times, in milliseconds."""

    median_ms: float
    p10_ms: float
    p90_ms: float


def run_timed(call: Callable[[], Result], device: torch.device) -> tuple[float, Result]:
    """Wall-clock seconds of a call, including its work on the device, and its result."""
    _synchronise(device)
    start = time.perf_counter()
    result = call()
    _synchronise(device)
    return time.perf_counter() - start, result


def _synchronise(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def spread_of(seconds: list[float]) -> Spread:
    """Median, 10th and 90th percentile."""
    low, median, high = (1000 * float(value) for value in np.percentile(seconds, (10, 50, 90)))
    return {"median_ms": median, "p10_ms": low, "p90_ms": high}
