"""Run each job in a fork of a process with all imports, with limits on time and memory.

Importing takes seconds, a fork milliseconds; crashes, hangs and allocations are confined to it.
"""

from __future__ import annotations

import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

SECONDS = 60.0
"""Limit of wall-clock and of CPU time of a job, in seconds."""

MEMORY = 2048
"""Memory limit of a job in MiB; libraries take a third of it."""

ADDRESS_SPACE = 8 << 30
"""Address space limit in bytes beyond that of the parent, to protect the machine."""

_POLL = 0.01  # seconds

J = TypeVar("J")


@dataclass
class Ended(Generic[J]):
    """How the fork of a job ended.

    Attributes:
        job: the job.
        status: exit status, or the negative signal number.
        seconds: wall-clock time.
        cpu_seconds: CPU time in seconds, including awaited child processes.
        mebibytes: peak memory.
        fault: the limit that was exceeded, empty if none.
    """

    job: J
    status: int
    seconds: float
    cpu_seconds: float
    mebibytes: int
    fault: str = ""


@dataclass
class _Running(Generic[J]):
    job: J
    begin: float
    limit: float
    fault: str = ""


def run_in_forks(
    jobs: Iterable[tuple[J, float]], run: Callable[[J], None], workers: int
) -> Iterator[Ended[J]]:
    """Run jobs, ``workers`` at a time, and yield each as it ends.

    Args:
        jobs: jobs with their time limits in seconds, consumed as workers become free.
        run: called in a fork, in a new session; returns on success.
        workers: number of concurrent forks.
    """
    running: dict[int, _Running[J]] = {}
    try:
        yield from _run(iter(jobs), run, workers, running)
    finally:
        for process in running:  # of an aborted run
            os.kill(process, signal.SIGKILL)
            _kill_group(process)
            os.waitpid(process, 0)


def _run(
    jobs: Iterator[tuple[J, float]],
    run: Callable[[J], None],
    workers: int,
    running: dict[int, _Running[J]],
) -> Iterator[Ended[J]]:
    exhausted = False
    while running or not exhausted:
        while not exhausted and len(running) < workers:
            job, limit = next(jobs, (None, 0.0))
            exhausted = job is None
            if job is not None:
                running[_fork(run, job)] = _Running(job, time.monotonic(), limit)
        time.sleep(_POLL)
        for process, one in list(running.items()):
            ended, status, usage = os.wait4(process, os.WNOHANG)
            if ended:
                del running[process]
                _kill_group(process)  # child processes that it has left
                peak = usage.ru_maxrss // 1024
                seconds = time.monotonic() - one.begin
                code = os.waitstatus_to_exitcode(status)
                cpu_seconds = usage.ru_utime + usage.ru_stime
                fault = one.fault or _memory_fault(peak) or _time_fault(cpu_seconds)
                yield Ended(one.job, code, seconds, cpu_seconds, peak, fault)
            elif not one.fault:
                one.fault = _exceeded_limit(process, one)
                if one.fault:
                    _kill_group(process)


def _fork(run: Callable[[J], None], job: J) -> int:
    process = os.fork()
    if process:
        return process
    try:
        os.setsid()
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        run(job)
    except BaseException:
        traceback.print_exc()
        os._exit(70)
    os._exit(0)


def _exceeded_limit(process: int, one: _Running[J]) -> str:
    if time.monotonic() - one.begin > one.limit:
        return f"ran for more than {one.limit:.0f} s"
    return _memory_fault(_resident(process))


def _memory_fault(mebibytes: int) -> str:
    return f"used {mebibytes} MiB of memory" if mebibytes > MEMORY else ""


def _time_fault(cpu_seconds: float) -> str:
    return f"took {cpu_seconds:.0f} s of CPU time" if cpu_seconds > SECONDS else ""


def _resident(process: int) -> int:
    """MiB of memory that a process holds; 0 if it is gone."""
    with suppress(OSError):
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return pages * resource.getpagesize() // 2**20
    return 0


def _kill_group(process: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
