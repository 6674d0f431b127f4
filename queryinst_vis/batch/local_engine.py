"""Workers on this machine: one process per core or GPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from queryinst_vis.batch.dispatcher import Dispatcher, Event, Outcome
from queryinst_vis.batch.options import ANY_GPU, RunOptions, Video, is_single_device
from queryinst_vis.batch.processes import end_with_parent
from queryinst_vis.batch.worker import Worker
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.utils.allocator import keep_freed_memory
from queryinst_vis.utils.interrupt import raise_when_terminated
from queryinst_vis.utils.prefetch import available_cores

_IDLE_INTERVAL = 0.2  # seconds between an idle worker's checks whether the run is over
_POLL_INTERVAL = 0.5  # seconds between checks of the workers
_SHUTDOWN_TIMEOUT = 5.0  # seconds
MAX_START_FAILURES = 3
"""Consecutive workers that died without a video after which the run is aborted."""


def default_workers(threads: int, device: str) -> int:
    """One worker per GPU, or without GPUs one per ``threads`` cores; one for a single device."""
    if device in ANY_GPU and torch.cuda.is_available():
        return torch.cuda.device_count()
    if is_single_device(device):
        return 1
    return max(1, available_cores() // threads)


def run_local(dispatcher: Dispatcher, run: RunOptions, workers: int) -> Iterator[Event]:
    """Track in worker processes; yields the outcomes and, regularly, the state of the run.

    Args:
        dispatcher: hands out the videos.
        run: settings of the run.
        workers: number of processes.

    Raises:
        InputError: ``MAX_START_FAILURES`` consecutive workers died before taking a video.
    """
    processes = [_Process(number, run) for number in range(workers)]
    start_failures = 0
    try:
        while not dispatcher.is_over:
            for process in _ready(processes):
                process.answer(dispatcher)
            for process in [process for process in processes if not process.is_alive()]:
                process.answer(dispatcher)  # messages sent before it died
                reason = process.exit_reason()
                start_failures = 0 if dispatcher.died(process, reason) else start_failures + 1
                if start_failures >= MAX_START_FAILURES:
                    raise InputError(f"workers die on startup, try fewer --workers: {reason}")
                processes.remove(process)
                process.stop()
                if not dispatcher.is_over:
                    processes.append(_Process(process.number, run))
            while dispatcher.final:
                yield dispatcher.final.popleft()
            yield dispatcher.pending()
        for process in processes:
            process.wait_while_answering(dispatcher)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.stop()


class _Process:
    """The driver's handle of a worker process."""

    def __init__(self, number: int, run: RunOptions) -> None:
        self.number = number
        context = multiprocessing.get_context("spawn")
        self.connection, child = context.Pipe()
        self._process = context.Process(target=_work, args=(run, child), name=f"worker {number}")
        with worker_environment(number, run):
            self._process.start()
        child.close()

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def answer(self, dispatcher: Dispatcher) -> None:
        """Answer all pending requests."""
        with suppress(EOFError, ConnectionError):
            while self.connection.poll():
                name, value = self.connection.recv()
                if name == "take":
                    self.connection.send(dispatcher.take(self))
                elif name == "is_over":
                    self.connection.send(dispatcher.is_over)
                else:
                    dispatcher.finished(self, value)

    def wait_while_answering(self, dispatcher: Dispatcher) -> None:
        """Answer requests until the worker exits, for ``_SHUTDOWN_TIMEOUT`` at most."""
        deadline = time.monotonic() + _SHUTDOWN_TIMEOUT
        while self.is_alive() and time.monotonic() < deadline:
            wait([self.connection, self._process.sentinel], _POLL_INTERVAL)
            self.answer(dispatcher)

    def exit_reason(self) -> str:
        """The signal or exit status with which the worker ended."""
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"the worker was killed by {signal.Signals(-code).name} with this video alone"
        return f"the worker ended with exit status {code} with this video alone"

    def terminate(self) -> None:
        if self.is_alive():
            self._process.terminate()

    def stop(self) -> None:
        """Wait for the process to exit, and kill it after ``_SHUTDOWN_TIMEOUT``."""
        self._process.join(_SHUTDOWN_TIMEOUT)
        if self.is_alive():
            self._process.kill()
            self._process.join()
        self.connection.close()


def _ready(processes: list[_Process]) -> list[_Process]:
    ready = wait([process.connection for process in processes], _POLL_INTERVAL)
    return [process for process in processes if process.connection in ready]


@contextmanager
def worker_environment(number: int, run: RunOptions) -> Iterator[None]:
    """Set the environment variables that the libraries of worker ``number`` read on import."""
    changes = {"OMP_NUM_THREADS": str(run.threads), "MKL_NUM_THREADS": str(run.threads)}
    if run.device in ANY_GPU:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            visible = ",".join(map(str, range(torch.cuda.device_count())))
        devices = visible.split(",")  # workers take turns if there are more of them
        changes["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _PipeDriver:
    """A worker's connection to the driver."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def take(self) -> Video | None:
        return self._ask("take")

    def is_over(self) -> bool:
        is_over = self._ask("is_over")
        if not is_over:
            time.sleep(_IDLE_INTERVAL)
        return is_over

    def finished(self, outcome: Outcome) -> None:
        self._connection.send(("finished", outcome))

    def _ask(self, what: str) -> Any:
        self._connection.send((what, None))
        return self._connection.recv()


def _work(run: RunOptions, connection: Connection) -> None:
    """The main function of a worker process."""
    end_with_parent()
    set_up_worker(run)
    with raise_when_terminated(), suppress(KeyboardInterrupt, EOFError, ConnectionError):
        Worker(run, _PipeDriver(connection)).work()


def set_up_worker(run: RunOptions) -> None:
    """Limit the threads of a worker and silence warnings that the driver has already issued."""
    import cv2
    import torch

    torch.set_num_threads(run.threads)
    cv2.setNumThreads(run.threads)
    keep_freed_memory()
    warnings.simplefilter("ignore", InputWarning)
