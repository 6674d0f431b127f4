"""Simulates `queryinst-vis batch` with 1 to 10,000 workers: duration, efficiency and cost.

Take ``--frames-per-second`` of one worker and ``--start`` (time until a worker takes its first
video) from a measurement: the summary of `batch`, or `batch --dry-run`. Assumptions, which are
arguments as well: the distribution of lengths (log-normal, since archives have a long tail), the
fraction of videos that fail, the rate of preemption (a Poisson process), and the price per hour.
Every worker is paid for until the last video is done.

``--segment`` cuts videos as `batch --segment` does. ``batch_calibration.py`` compares the
simulation with a run on this machine.

    python benchmarks/batch_simulation.py --videos 1000 --workers 1 10 100 1000
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import simpy


@dataclass(frozen=True)
class World:
    """Parameters of the simulation.

    Attributes:
        minutes: median length of a video.
        spread: standard deviation of the logarithm of the lengths.
        rate: throughput of one worker in frames per second.
        fps: frame rate of the videos.
        overhead: seconds per video in addition to its frames.
        start: start-up time of a worker in seconds.
        fails: fraction of the videos that fail, each half-way.
        attempts: maximum number of attempts per video.
        preempted: preemptions per hour and worker; a replacement starts immediately.
        stragglers: fraction of the workers that are slower, by the factor ``slowness``.
        segment: length of segments in minutes; None: videos are not cut.
        overlap: seconds that consecutive segments have in common.
    """

    minutes: float = 10.0
    spread: float = 1.0
    rate: float = 10.0
    fps: float = 25.0
    overhead: float = 1.0
    start: float = 20.0
    fails: float = 0.01
    attempts: int = 2
    preempted: float = 0.0
    stragglers: float = 0.05
    slowness: float = 2.0
    segment: float | None = None
    overlap: float = 2.0


@dataclass
class Job:
    """A video or a segment; ``work`` is the seconds that a worker of normal speed needs."""

    work: float
    fails: bool
    attempts: int = 0


@dataclass
class Result:
    """Result of a simulation.

    Attributes:
        seconds: until the last video is done.
        useful: necessary work in seconds, summed over all workers.
        spent: seconds for which workers were allocated.
        failed: number of jobs that used up their attempts.
    """

    seconds: float = 0.0
    useful: float = 0.0
    spent: float = 0.0
    failed: int = 0


def lengths_of(videos: int, world: World, rng: random.Random) -> list[float]:
    """Random lengths of videos in seconds."""
    return [60 * world.minutes * math.exp(rng.gauss(0, world.spread)) for _ in range(videos)]


def jobs_of(lengths: list[float], world: World, rng: random.Random) -> list[Job]:
    """The videos or their segments, in order; overlaps are processed twice."""
    jobs = []
    for length in lengths:
        fails = rng.random() < world.fails
        size = length if world.segment is None else 60 * world.segment
        for index in range(max(1, math.ceil(length / size))):
            seconds = min(size, length - index * size) + (world.overlap if index else 0.0)
            work = world.overhead + seconds * world.fps / world.rate
            jobs.append(Job(work, fails and index == 0))
    return jobs


def simulate(
    jobs: list[Job],
    workers: int,
    world: World,
    rng: random.Random,
    kills: Sequence[float] = (),
) -> Result:
    """Simulate a run in which every idle worker pulls the next job.

    Args:
        jobs: in this order.
        workers: number of workers.
        world: parameters.
        rng: for stragglers and preemption.
        kills: times in seconds at which the first, second, ... worker is killed once, in addition
            to random preemption.
    """
    simulation = _Simulation(jobs, world, rng)
    for number in range(workers):
        simulation.start_worker(kills[number] if number < len(kills) else math.inf)
    return simulation.run(workers)


class _Simulation:
    """The queue of jobs, and the workers that empty it."""

    def __init__(self, jobs: list[Job], world: World, rng: random.Random) -> None:
        self._world, self._rng = world, rng
        self._environment = simpy.Environment()
        self._waiting = simpy.PriorityStore(self._environment)
        for number, job in enumerate(jobs):
            self._waiting.put(simpy.PriorityItem(number, job))
        self._jobs = self._unfinished = len(jobs)
        self._is_over = self._environment.event()
        self._result = Result(useful=sum(job.work for job in jobs if not job.fails))

    def start_worker(self, killed: float) -> None:
        """Add a worker that is killed at a time in seconds, and restarts as after preemption."""
        self._environment.process(self._worker(killed))

    def run(self, workers: int) -> Result:
        """Run until all jobs have ended."""
        self._environment.run(until=self._is_over)
        self._result.seconds = self._environment.now
        self._result.spent = workers * self._result.seconds
        return self._result

    def _worker(self, killed: float) -> Generator[Any, None, None]:
        world = self._world
        while True:
            slow = world.slowness if self._rng.random() < world.stragglers else 1.0
            hours = self._rng.expovariate(world.preempted) if world.preempted else math.inf
            yield self._environment.timeout(world.start)
            preempted_at = min(self._environment.now + 3600 * hours, killed)
            yield from self._work_until(preempted_at, slow)
            killed = math.inf

    def _work_until(self, preempted_at: float, slow: float) -> Generator[Any, None, None]:
        """Take one job after the other until the worker is preempted."""
        while True:
            job = (yield self._waiting.get()).item
            work = slow * job.work * (0.5 if job.fails else 1.0)
            now = self._environment.now
            if now + work > preempted_at:
                yield self._environment.timeout(max(0.0, preempted_at - now))
                # not an attempt, since the machine is to blame; the job comes next
                self._waiting.put(simpy.PriorityItem(-1, job))
                return
            yield self._environment.timeout(work)
            job.attempts += 1
            self._end(job)

    def _end(self, job: Job) -> None:
        """Retry a failed job, or count it as ended."""
        if job.fails and job.attempts < self._world.attempts:
            self._waiting.put(simpy.PriorityItem(self._jobs, job))
            return
        self._result.failed += job.fails
        self._unfinished -= 1
        if not self._unfinished:
            self._is_over.succeed()


def main() -> None:
    """Print one row per number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000, 10000])
    parser.add_argument(
        "--minutes", type=float, default=World.minutes, help="median length (default: %(default)g)"
    )
    parser.add_argument("--spread", type=float, default=World.spread, help="of the log lengths")
    parser.add_argument("--frames-per-second", type=float, default=World.rate, help="per worker")
    parser.add_argument("--overhead", type=float, default=World.overhead, help="seconds per video")
    parser.add_argument("--start", type=float, default=World.start, help="start-up seconds")
    parser.add_argument("--fails", type=float, default=World.fails, help="fraction of videos")
    parser.add_argument("--preempted", type=float, default=0.0, help="per hour and worker")
    parser.add_argument("--segment", type=float, help="minutes (default: do not cut)")
    parser.add_argument("--price", type=float, default=0.0, help="per worker and hour")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    world = World(
        minutes=arguments.minutes,
        spread=arguments.spread,
        rate=arguments.frames_per_second,
        overhead=arguments.overhead,
        start=arguments.start,
        fails=arguments.fails,
        preempted=arguments.preempted,
        segment=arguments.segment,
    )
    lengths = lengths_of(arguments.videos, world, random.Random(arguments.seed))
    hours = sum(lengths) / 3600
    print(f"{arguments.videos} videos, {hours:.0f} hours, the longest {max(lengths) / 3600:.1f} h")
    print("| workers | hours until the last video | efficiency | cost | per hour of video |")
    print("| --- | --- | --- | --- | --- |")
    for workers in arguments.workers:
        rng = random.Random(arguments.seed + 1)
        result = simulate(jobs_of(lengths, world, rng), workers, world, rng)
        cost = arguments.price * result.spent / 3600
        print(
            f"| {workers} | {result.seconds / 3600:.2f} | {result.useful / result.spent:.0%} | "
            f"{cost:.2f} | {cost / hours:.4f} |"
        )


if __name__ == "__main__":
    main()
