"""Plays `queryinst-vis batch` with 1 to 10,000 workers: how long, how well used, at what cost.

Measured, and so to be given: ``--frames-per-second`` of one worker (the summary of `batch`, or
`batch --dry-run`) and ``--start`` (until a worker takes its first video). Assumed, and arguments
likewise: every worker is held until the last video, the distribution of lengths (log-normal, as
archives have a long tail), the share of videos that fail, how often a machine is taken away (a
Poisson process), how much slower stragglers are, and the price of an hour.

`batch` does not cut videos; ``--segment`` shows what cutting would gain. ``batch_calibration.py``
compares the simulation with a run on this machine.

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
    """What a run meets.

    Attributes:
        minutes: median length of a video.
        spread: standard deviation of the logarithm of the lengths.
        rate: frames per second of one worker.
        fps: of the videos.
        overhead: seconds that a video takes besides its frames.
        start: seconds until a new worker takes its first video.
        fails: share of the videos that fail, each after half of its length.
        attempts: of each video.
        preempted: times per hour that a worker is taken away; another one starts then.
        stragglers: share of the workers that are slow, by ``slowness``.
        segment: minutes of the pieces that a video is cut into; None: it is not cut.
        overlap: seconds that two pieces have in common.
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
    """A video or a piece of one: seconds of work for a worker of usual speed."""

    work: float
    fails: bool
    tried: int = 0


@dataclass
class Result:
    """What came out.

    Attributes:
        seconds: until the last video.
        useful: seconds of work that was needed, of all workers together.
        spent: seconds that workers were held.
        failed: jobs that used up their attempts.
    """

    seconds: float = 0.0
    useful: float = 0.0
    spent: float = 0.0
    failed: int = 0


def lengths_of(videos: int, world: World, random_: random.Random) -> list[float]:
    """Seconds of each video."""
    return [60 * world.minutes * math.exp(random_.gauss(0, world.spread)) for _ in range(videos)]


def jobs_of(lengths: list[float], world: World, random_: random.Random) -> list[Job]:
    """The pieces of all videos, in order; the overlap is worked on twice."""
    jobs = []
    for length in lengths:
        fails = random_.random() < world.fails
        size = length if world.segment is None else 60 * world.segment
        pieces = max(1, math.ceil(length / size))
        for piece in range(pieces):
            part = min(size, length - piece * size) + (world.overlap if piece else 0.0)
            jobs.append(Job(world.overhead + part * world.fps / world.rate, fails and piece == 0))
    return jobs


def simulate(
    jobs: list[Job],
    workers: int,
    world: World,
    random_: random.Random,
    kills: Sequence[float] = (),
) -> Result:
    """Play a run: every worker pulls the next job when it is free.

    Args:
        jobs: what there is to do, in this order.
        workers: how many.
        world: what they meet.
        random_: decides what the world leaves to chance.
        kills: seconds after which the first, the second, ... worker is taken away once, whatever
            the world says.
    """
    environment = simpy.Environment()
    waiting = simpy.PriorityStore(environment)
    for number, job in enumerate(jobs):
        waiting.put(simpy.PriorityItem(number, job))
    result = Result(useful=sum(job.work for job in jobs if not job.fails))
    is_over = environment.event()
    left = len(jobs)

    def settle() -> None:
        nonlocal left
        left -= 1
        if not left:
            is_over.succeed()

    def worker(killed: float) -> Generator[Any, None, None]:
        while True:
            slow = world.slowness if random_.random() < world.stragglers else 1.0
            hours = random_.expovariate(world.preempted) if world.preempted else math.inf
            yield environment.timeout(world.start)
            taken_away = min(environment.now + 3600 * hours, killed)
            while True:
                job = (yield waiting.get()).item
                work = slow * job.work * (0.5 if job.fails else 1.0)
                if environment.now + work > taken_away:
                    yield environment.timeout(max(0.0, taken_away - environment.now))
                    # a death charges nothing here: the machine is to blame; who was held up is next
                    waiting.put(simpy.PriorityItem(-1, job))
                    killed = math.inf
                    break
                yield environment.timeout(work)
                job.tried += 1
                if not job.fails:
                    settle()
                elif job.tried < world.attempts:
                    waiting.put(simpy.PriorityItem(len(jobs), job))
                else:
                    result.failed += 1
                    settle()

    for number in range(workers):
        environment.process(worker(kills[number] if number < len(kills) else math.inf))
    environment.run(until=is_over)
    result.seconds = environment.now
    result.spent = workers * result.seconds
    return result


def main() -> None:
    """Print a row for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000, 10000])
    parser.add_argument("--minutes", type=float, default=World.minutes, help="median length")
    parser.add_argument("--spread", type=float, default=World.spread)
    parser.add_argument("--frames-per-second", type=float, default=World.rate, help="of a worker")
    parser.add_argument("--overhead", type=float, default=World.overhead, help="seconds a video")
    parser.add_argument("--start", type=float, default=World.start, help="seconds of a worker")
    parser.add_argument("--fails", type=float, default=World.fails, help="share of the videos")
    parser.add_argument("--preempted", type=float, default=0.0, help="times an hour and worker")
    parser.add_argument("--segment", type=float, help="minutes; default: videos are not cut")
    parser.add_argument("--price", type=float, default=0.0, help="of a worker's hour")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    world = World(
        minutes=given.minutes,
        spread=given.spread,
        rate=given.frames_per_second,
        overhead=given.overhead,
        start=given.start,
        fails=given.fails,
        preempted=given.preempted,
        segment=given.segment,
    )
    lengths = lengths_of(given.videos, world, random.Random(given.seed))
    hours = sum(lengths) / 3600
    print(f"{given.videos} videos, {hours:.0f} hours, the longest {max(lengths) / 3600:.1f} h")
    print("| workers | hours until the last video | efficiency | cost | per hour of video |")
    print("| --- | --- | --- | --- | --- |")
    for workers in given.workers:
        random_ = random.Random(given.seed + 1)
        result = simulate(jobs_of(lengths, world, random_), workers, world, random_)
        cost = given.price * result.spent / 3600
        print(
            f"| {workers} | {result.seconds / 3600:.2f} | {result.useful / result.spent:.0%} | "
            f"{cost:.2f} | {cost / hours:.4f} |"
        )


if __name__ == "__main__":
    main()
