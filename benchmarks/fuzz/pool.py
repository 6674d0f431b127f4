"""Runs each job in a fork of this warm process, within limits of time and memory.

An import of everything costs seconds and a fork some milliseconds, and whatever a job does, crash
or hang or allocate, ends with its fork.
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
"""Wall-clock seconds that a job may take, and of processor time whatever else the machine does."""

MEMORY = 2048
"""MiB that a job may hold; a third of it is libraries."""

ADDRESS_SPACE = 8 << 30
"""Bytes of address space beyond that of the parent, so that no allocation can hurt the machine."""

_POLL = 0.01  # seconds

J = TypeVar("J")


@dataclass
class Ended(Generic[J]):
    """How the fork of a job ended.

    Attributes:
        job: what was run.
        status: exit status, or minus the number of the signal.
        seconds: wall-clock time.
        busy: seconds of processor time, of the processes that it waited for, too.
        mebibytes: the most memory that it held.
        fault: which limit it broke, empty if none.
    """

    job: J
    status: int
    seconds: float
    busy: float
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
        jobs: each with its limit in seconds. Taken one by one as workers become free.
        run: called in a fork, in a session of its own; returns when all is well.
        workers: forks that run at the same time.
    """
    running: dict[int, _Running[J]] = {}
    try:
        yield from _run(iter(jobs), run, workers, running)
    finally:
        for process in running:  # of a run that is broken off
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
                _kill_group(process)  # whatever it started and left behind
                most = usage.ru_maxrss // 1024
                seconds = time.monotonic() - one.begin
                code = os.waitstatus_to_exitcode(status)
                busy = usage.ru_utime + usage.ru_stime
                fault = one.fault or _too_much(most) or _too_long(busy)
                yield Ended(one.job, code, seconds, busy, most, fault)
            elif not one.fault:
                one.fault = _broken_limit(process, one)
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


def _broken_limit(process: int, one: _Running[J]) -> str:
    if time.monotonic() - one.begin > one.limit:
        return f"ran for more than {one.limit:.0f} s"
    return _too_much(_resident(process))


def _too_much(mebibytes: int) -> str:
    return f"took {mebibytes} MiB of memory" if mebibytes > MEMORY else ""


def _too_long(busy: float) -> str:
    return f"took {busy:.0f} s of processor time" if busy > SECONDS else ""


def _resident(process: int) -> int:
    """MiB of memory that a process holds; 0 if it is gone."""
    with suppress(OSError):
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return pages * resource.getpagesize() // 2**20
    return 0


def _kill_group(process: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
