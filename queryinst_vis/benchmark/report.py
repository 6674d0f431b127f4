"""Printing the result of a benchmark."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Column, Table

STAGES = {
    "backbone_fpn": "backbone + FPN",
    "model": "model",
    "model_postprocess": "frames to RLEs",
    "end_to_end": "end to end",
}


def print_report(result: dict[str, Any], console: Console | None = None) -> None:
    """Print the setup of a benchmark, its times, and warnings.

    Args:
        result: output of ``benchmark``.
        console: output; None: standard output.
    """
    console = console or Console()
    for line in (*_setup(result), "", _table(result), *_summary(result)):
        console.print(line, highlight=False, markup=False, soft_wrap=isinstance(line, str))


def _setup(result: dict[str, Any]) -> list[str]:
    machine, run, hashes = result["machine"], result["settings"], result["fingerprints"]
    load = machine["load_average"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return [
        f"command      {machine['command']}",
        f"model        {result['name']}, config {hashes['config']}, weights {hashes['weights']}",
        f"frames       {run['frames']} of {run['frame_width']}x{run['frame_height']}, batch size "
        f"{run['batch']}, network input {run['input_width']}x{run['input_height']}, "
        f"{run['instances_per_frame']:g} instances per frame",
        f"machine      {machine['device_name']} ({machine['device']}, "
        f"{machine['cpu_capability']}), {machine['threads']} threads on {machine['cores']} cores, "
        f"{machine['dtype']}" + ("" if load is None else f", load average {load:.2f}"),
        f"software     {versions}, {machine['system']}, commit {machine['commit']}",
    ]


def _table(result: dict[str, Any]) -> Table:
    numbers = ("fps", "GFLOP", "GFLOP/s", "of peak")
    table = Table(
        Column("per frame", no_wrap=True),
        Column("median ms", justify="right"),
        Column("10-90 %", justify="right", min_width=9),
        *(Column(name, justify="right") for name in numbers),
    )
    for key, row in result["rows"].items():
        median, low, high = (_digits(row[name]) for name in ("median_ms", "p10_ms", "p90_ms"))
        cells = [median, f"{low}-{high}", _digits(row["frames_per_s"])]
        if "of_peak" in row:
            cells += [_digits(row["gflop_per_frame"]), _digits(row["gflop_per_s"])]
            cells.append(f"{100 * row['of_peak']:.0f} %")
        table.add_row(STAGES[key], *cells)
    return table


def _digits(value: float) -> str:
    """The value with three significant digits, or rounded to an integer from 100 on."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def _summary(result: dict[str, Any]) -> list[str]:
    peak = result["peak"]
    kernels = {"gemm": "matrix product", "convolution": "3x3 convolution"}
    reached = ", ".join(
        "{} {before:.1f} before and {after:.1f} after".format(label, **peak[f"{name}_gflop_per_s"])
        for name, label in kernels.items()
    )
    return [
        f"end to end takes {result['end_to_end_over_model']:.2f} times the model alone",
        f"peak {peak['gflop_per_s']:.1f} GFLOP/s: {reached}",
        *(f"warning: {line}" for line in result["reservations"]),
    ]
