"""Workers on a Ray cluster; no other module depends on Ray.

Use Ray on trusted networks only: anyone with access to its ports can run code on its machines.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from queryinst_vis.batch.dispatcher import Dispatcher, Event, Outcome, Pending
from queryinst_vis.batch.local_engine import MAX_START_FAILURES, set_up_worker
from queryinst_vis.batch.options import ANY_GPU, RunOptions, Video, is_single_device
from queryinst_vis.batch.worker import Worker
from queryinst_vis.errors import InputError, first_line

_POLL_INTERVAL = 0.5  # seconds between checks of the workers
_IDLE_INTERVAL = 0.5  # seconds between an idle worker's queries whether the run is over
_NODE_TIMEOUT = 30.0  # seconds until Ray has detected the death of a node


def run_ray(
    dispatcher: Dispatcher, run: RunOptions, workers: int | None, address: str | None
) -> Iterator[Event]:
    """Track in Ray actors; otherwise like ``local_engine.run_local``.

    Args:
        dispatcher: hands out the videos.
        run: settings of the run; ``out`` has to be accessible from every machine.
        workers: number of actors; None: as many as the cluster has resources for.
        address: of the cluster, as for ``ray.init``; None: starts Ray on this machine.

    Raises:
        InputError: Ray is not installed, the cluster cannot be reached or fails, or
            ``MAX_START_FAILURES`` consecutive workers died before taking a video.
    """
    if is_single_device(run.device):
        raise InputError(
            f"--device {run.device}: Ray assigns a GPU to each worker; choose auto, cuda or cpu"
        )
    ray = _start(address)
    try:
        has_gpus = run.device in ANY_GPU and ray.cluster_resources().get("GPU", 0) > 0
        resources: dict[str, Any] = {"num_gpus": 1} if has_gpus else {"num_cpus": run.threads}
        if workers is None:
            total = ray.cluster_resources().get("GPU" if has_gpus else "CPU", 1)
            workers = max(1, int(total // (1 if has_gpus else run.threads)))
        # on the driver's node, whose loss ends the run anyway
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        shared = ray.remote(_SharedDispatcher).options(num_cpus=0, scheduling_strategy=here)
        actor = ray.remote(_Actor).options(max_restarts=0, **resources)
        yield from _supervise(ray, shared.remote(dispatcher), actor, run, workers)
    except ray.exceptions.RayError as error:
        raise InputError(
            f"--engine ray: the cluster failed ({first_line(error)}); run the command again to "
            "track the remaining videos"
        ) from error
    finally:
        ray.shutdown()


def _start(address: str | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.util.scheduling_strategies
    except ModuleNotFoundError as error:
        raise InputError(
            "--engine ray needs Ray, which is not installed: pip install 'queryinst-vis[ray]'"
        ) from error
    try:
        ray.init(
            address=address, log_to_driver=False, include_dashboard=False if not address else None
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"--address {address}" if address else "--engine ray"
        raise InputError(f"{where}: Ray cannot be reached ({first_line(error)})") from error
    return ray


def _supervise(
    ray: Any, dispatcher: Any, actor: Any, run: RunOptions, workers: int
) -> Iterator[Event]:
    """Replace actors that die, until every video is done or has failed."""
    running: dict[Any, tuple[int, Any, Any]] = {}
    count = start_failures = 0

    def start() -> None:
        nonlocal count
        count += 1
        worker = actor.remote()
        node = worker.node.remote()
        running[worker.work.remote(run, dispatcher, count)] = count, worker, node

    for _ in range(workers):
        start()
    is_over = False
    while running and not is_over:
        ended, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_INTERVAL)
        for work in ended:
            number, _, node = running.pop(work)
            reason = _cause_of_death(ray, work)
            if reason is not None:
                record = dispatcher.lost if _is_node_dead(ray, node) else dispatcher.died
                held = ray.get(record.remote(number, reason))
                start_failures = 0 if held else start_failures + 1
                if start_failures >= MAX_START_FAILURES:
                    raise InputError(f"workers die on startup, try fewer --workers: {reason}")
                start()
        outcomes, pending, is_over = ray.get(dispatcher.report.remote())
        yield from outcomes
        yield pending
    for _, worker, _ in running.values():
        ray.kill(worker)


def _cause_of_death(ray: Any, work: Any) -> str | None:
    """Why a worker died; None if it ended normally."""
    try:
        ray.get(work)
    except ray.exceptions.RayError as error:
        return f"the worker died with this video alone ({first_line(error)})"
    return None


def _is_node_dead(ray: Any, node: Any) -> bool:
    """Whether a worker died because its node did."""
    try:
        where = ray.get(node, timeout=0)
    except (ray.exceptions.RayError, TimeoutError):
        return False  # it died on startup
    if where == ray.get_runtime_context().get_node_id():
        return False  # the driver's own machine
    deadline = time.monotonic() + _NODE_TIMEOUT
    while time.monotonic() < deadline:
        if not any(each["Alive"] for each in ray.nodes() if each["NodeID"] == where):
            return True
        time.sleep(_POLL_INTERVAL)
    return False


class _SharedDispatcher:
    """An actor that makes the dispatcher accessible to all workers."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def take(self, worker: int) -> Video | None:
        return self._dispatcher.take(worker)

    def is_over(self) -> bool:
        return self._dispatcher.is_over

    def finished(self, worker: int, outcome: Outcome) -> None:
        self._dispatcher.finished(worker, outcome)

    def died(self, worker: int, reason: str) -> int:
        return self._dispatcher.died(worker, reason)

    def lost(self, worker: int, reason: str) -> int:
        return self._dispatcher.lost(worker, reason)

    def report(self) -> tuple[list[tuple[Outcome, int]], Pending, bool]:
        """Outcomes since the last report, the videos pending, and whether the run is over."""
        outcomes = list(self._dispatcher.final)
        self._dispatcher.final.clear()
        return outcomes, self._dispatcher.pending(), self._dispatcher.is_over


class _Actor:
    """A worker."""

    def node(self) -> str:
        import ray

        return ray.get_runtime_context().get_node_id()

    def work(self, run: RunOptions, dispatcher: Any, number: int) -> None:
        """Track until the run is over."""
        set_up_worker(run)
        Worker(run, _RemoteDriver(dispatcher, number), imports=("ray",)).work()


class _RemoteDriver:
    """A worker's connection to the dispatcher."""

    def __init__(self, dispatcher: Any, number: int) -> None:
        self._dispatcher = dispatcher
        self._number = number

    def take(self) -> Video | None:
        return self._ask(self._dispatcher.take.remote(self._number))

    def is_over(self) -> bool:
        is_over = self._ask(self._dispatcher.is_over.remote())
        if not is_over:
            time.sleep(_IDLE_INTERVAL)
        return is_over

    def finished(self, outcome: Outcome) -> None:
        self._ask(self._dispatcher.finished.remote(self._number, outcome))

    def _ask(self, reference: Any) -> Any:
        import ray

        return ray.get(reference)
