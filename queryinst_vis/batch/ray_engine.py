"""Workers on any number of machines: Ray places them, and nothing else here knows of it.

Ray is for networks that are trusted: whoever reaches its ports can run code on its machines.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from queryinst_vis.batch.dispatcher import Dispatcher, Event, Outcome, Standing
from queryinst_vis.batch.local_engine import DEATHS, set_up_worker
from queryinst_vis.batch.options import RunOptions, Video
from queryinst_vis.batch.worker import Worker
from queryinst_vis.errors import InputError

_LOOK = 0.5  # seconds between looks at the workers
_IDLE = 0.5  # seconds that a worker waits before it asks again whether all is over


def run_ray(
    dispatcher: Dispatcher, run: RunOptions, workers: int | None, address: str | None
) -> Iterator[Event]:
    """Track with actors that pull videos; as ``local_engine.run_local``.

    Args:
        dispatcher: of the videos.
        run: what holds for all of them; ``out`` has to be reachable from every machine.
        workers: actors; None: as many as the cluster has room for.
        address: of a cluster, as for ``ray.init``; None: one of this machine alone.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
        RuntimeError: workers die before they hold a video.
    """
    ray = _start(address)
    try:
        has_gpus = run.device in ("auto", "cuda") and ray.cluster_resources().get("GPU", 0) > 0
        resources: dict[str, Any] = {"num_gpus": 1} if has_gpus else {"num_cpus": run.threads}
        if workers is None:
            total = ray.cluster_resources().get("GPU" if has_gpus else "CPU", 1)
            workers = max(1, int(total // (1 if has_gpus else run.threads)))
        # on the driver's machine, which the run cannot lose anyway
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        desk = ray.remote(_Desk).options(num_cpus=0, scheduling_strategy=here).remote(dispatcher)
        actor = ray.remote(_Actor).options(max_restarts=0, **resources)
        yield from _supervise(ray, desk, actor, run, workers)
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
        reason = str(error).partition("\n")[0]
        raise InputError(f"--address {address}: no cluster of Ray answers ({reason})") from error
    return ray


def _supervise(ray: Any, desk: Any, actor: Any, run: RunOptions, workers: int) -> Iterator[Event]:
    """Replace actors that die, until every video has been settled."""
    running: dict[Any, tuple[int, Any]] = {}
    count = deaths = 0

    def start() -> None:
        nonlocal count
        count += 1
        worker = actor.remote()
        running[worker.work.remote(run, desk, count)] = count, worker

    for _ in range(workers):
        start()
    is_over = False
    while running and not is_over:
        ended, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK)
        for work in ended:
            number, _ = running.pop(work)
            reason = _how_it_died(ray, work)
            if reason is not None:
                held = ray.get(desk.died.remote(number, reason))
                deaths = 0 if held else deaths + 1
                if deaths >= DEATHS:
                    raise RuntimeError(f"workers die at their start: {reason}")
                start()
        outcomes, standing, is_over = ray.get(desk.report.remote())
        yield from outcomes
        yield standing
    for _, worker in running.values():
        ray.kill(worker)


def _how_it_died(ray: Any, work: Any) -> str | None:
    """None where the worker ended because all is over."""
    try:
        ray.get(work)
    except ray.exceptions.RayError as error:
        kind = type(error).__name__
        return f"the worker died with this video alone ({kind}: {str(error).partition(chr(10))[0]})"
    return None


class _Desk:
    """The dispatcher, where every actor reaches it."""

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

    def report(self) -> tuple[list[tuple[Outcome, int]], Standing, bool]:
        """What has been settled since the last report, the rest, and whether all is over."""
        outcomes = list(self._dispatcher.final)
        self._dispatcher.final.clear()
        return outcomes, self._dispatcher.standing(), self._dispatcher.is_over


class _Actor:
    """A worker."""

    def work(self, run: RunOptions, desk: Any, number: int) -> None:
        """Track until all is over."""
        set_up_worker(run)
        Worker(run, _DeskDriver(desk, number)).work()


class _DeskDriver:
    """The desk, seen from an actor."""

    def __init__(self, desk: Any, number: int) -> None:
        self._desk = desk
        self._number = number

    def take(self) -> Video | None:
        return self._ask(self._desk.take.remote(self._number))

    def is_over(self) -> bool:
        is_over = self._ask(self._desk.is_over.remote())
        if not is_over:
            time.sleep(_IDLE)
        return is_over

    def finished(self, outcome: Outcome) -> None:
        self._ask(self._desk.finished.remote(self._number, outcome))

    def _ask(self, reference: Any) -> Any:
        import ray

        return ray.get(reference)
