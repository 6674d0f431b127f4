"""Launching processes with Lightning Fabric, for training and testing."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Literal, NoReturn, TypeGuard, TypeVar, get_args

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from queryinst_vis.errors import InputError, first_line
from queryinst_vis.utils.machine import cpu_capabilities

Precision = Literal["32-true", "bf16-mixed"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""Lightning Fabric's precisions without a loss scaler, whose state would have to be saved."""
AUTO = "auto"
NODE_TIMEOUT = timedelta(minutes=1)
"""Timeout for missing nodes; torch's default is half an hour."""

T = TypeVar("T")


class SharedError(InputError):
    """An error that ends all processes of a run; raised by rank 0, see ``end_all``."""


def launch(devices: str | int = "auto", nodes: int = 1, precision: str = "32-true") -> Fabric:
    """Start the processes and return the Fabric of this one.

    Args:
        devices: processes per node; ``"auto"``: as many as torchrun started, otherwise one per
            GPU, otherwise one on the CPU.
        nodes: number of nodes, with torchrun or SLURM.
        precision: one of ``PRECISIONS``.

    Raises:
        InputError: unavailable devices, an unknown precision, or nodes missing after a minute.
    """
    if not is_supported(precision):
        choices = ", ".join((AUTO, *PRECISIONS))
        raise InputError(f"train.precision '{precision}': choose one of {choices}")
    count = processes_per_node(devices)
    strategy = DDPStrategy(timeout=NODE_TIMEOUT) if nodes > 1 else "auto"
    try:
        fabric = Fabric(
            accelerator="auto" if torch.accelerator.is_available() else "cpu",
            devices=count,
            num_nodes=nodes,
            precision=precision,
            strategy=strategy,
        )
        fabric.launch()
    except (MisconfigurationException, ValueError) as error:
        reason = first_line(error)
        raise InputError(f"cannot run on {count} devices of {nodes} nodes: {reason}") from error
    except torch.distributed.DistError as error:
        place = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        reason = first_line(error)
        raise InputError(
            f"not all {nodes} nodes connected to {place} within {NODE_TIMEOUT.seconds} s; start "
            f"the same command on each of them, with NODE_RANK from 0 to {nodes - 1}, with "
            f"torchrun, or with SLURM ({reason})"
        ) from error
    if nodes > 1:  # other ranks may wait longer from now on, while rank 0 evaluates and saves
        c10d = torch.distributed.distributed_c10d
        c10d._set_pg_timeout(c10d.default_pg_timeout)  # public in newer releases only
    return fabric


def is_supported(precision: str) -> TypeGuard[Precision]:
    """Whether the name is one of ``PRECISIONS``."""
    return precision in PRECISIONS


def choose_precision(precision: str) -> str:
    """Resolve ``auto`` for this machine; other names are returned unchanged.

    bf16-mixed on a CPU with AMX, where a training step takes about two thirds of the time;
    otherwise float32, since other CPUs emulate bfloat16 or do not benefit from it, and the
    published recipes for GPUs use float32.
    """
    if precision != AUTO:
        return precision
    has_amx = cpu_capabilities().get("amx_bf16", False)
    return "bf16-mixed" if has_amx and not torch.accelerator.is_available() else "32-true"


def processes_per_node(devices: str | int) -> int:
    """The number of processes on each node; ``devices`` as for ``launch``.

    Raises:
        InputError: not a positive number.
    """
    if devices == "auto":
        accelerators = torch.accelerator.device_count() if torch.accelerator.is_available() else 1
        return int(os.environ.get("LOCAL_WORLD_SIZE", accelerators))
    try:
        count = int(devices)
    except ValueError as error:
        raise InputError(f"devices '{devices}': expected a number or 'auto'") from error
    if count < 1:
        raise InputError(f"--devices {devices}: must be at least 1")
    return count


def reduce(fabric: Fabric, values: Tensor, operation: Literal["mean", "sum"]) -> Tensor:
    """Mean or sum of the values over all processes, in every process."""
    reduced = fabric.all_reduce(values, reduce_op=operation)
    if not isinstance(reduced, Tensor):
        raise TypeError(f"expected a tensor, got {type(reduced).__name__}")
    return reduced


def gather(fabric: Fabric, items: list[T]) -> list[T]:
    """The items of all processes, ordered by rank, in every process."""
    if fabric.world_size == 1:
        return items
    shards: list[list[T]] = [[] for _ in range(fabric.world_size)]
    torch.distributed.all_gather_object(shards, items)
    return [item for shard in shards for item in shard]


def agree(fabric: Fabric, flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return bool(reduce(fabric, torch.tensor(float(flag), device=fabric.device), "sum") > 0)


def end_all(fabric: Fabric, reason: str) -> NoReturn:
    """End all processes; rank 0 reports the reason. Every process must call this.

    The others wait at a barrier until rank 0 has saved its state and reaches it, too, since a
    process that exits terminates all others on its machine.

    Raises:
        SharedError: in rank 0.
        SystemExit: in all others.
    """
    if fabric.is_global_zero:
        raise SharedError(reason)
    fabric.barrier()
    raise SystemExit(2)
