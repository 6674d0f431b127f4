"""Validates `batch_simulation.py` against a real run on this machine.

One worker tracks short synthetic clips of different lengths; a linear fit of the time per clip
over its number of frames gives the throughput and the overhead per video. Then two workers track
a long-tailed mix in which some videos are broken, and one worker is killed by SIGKILL in the
middle. The simulation predicts that run from the fit and the time of the kill. Prints the measured
and the predicted seconds from the start of the workers to the last video as JSON. Run it on an
idle machine::

    python -m benchmarks.batch_calibration work/calibration
    python -m benchmarks.batch_calibration work/calibration --clips 20 --mix 30

The weights are ``shapes``. Needs psutil, pyarrow and simpy; Linux.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.batch_runs import (
    WEIGHTS,
    ClipSettings,
    processes_of,
    rows_of,
    start_command,
    write_clip,
)
from benchmarks.batch_simulation import Job, World, simulate
from queryinst_vis.batch.status import STATUS
from queryinst_vis.errors import run_script

MAX_FRAMES = 600
_POLL_INTERVAL = 0.02  # seconds


@dataclass(frozen=True)
class Run:
    """Timing of a run.

    Attributes:
        began: Unix time at which its workers were started.
        killed: seconds from then until a worker was killed; None: none was.
        rows: of ``videos``, in order of completion.
    """

    began: float
    killed: float | None
    rows: list[dict[str, Any]]

    @property
    def seconds(self) -> float:
        """Time from the start of the workers to the last video."""
        return self.rows[-1]["finished_at"] - self.began


def track(videos: list[Path], out: Path, workers: int, kill_after: int | None = None) -> Run:
    """Track videos; a worker is killed once ``kill_after`` of them are done."""
    shutil.rmtree(out, ignore_errors=True)
    words = ["batch", *videos, "--out", out, "--workers", str(workers), "--attempts", "2"]
    run = start_command([*words, *WEIGHTS], out.with_suffix(".log"))
    began = killed = None
    while run.poll() is None:
        if began is None and (out / STATUS).exists():
            began = time.time()
        done = len(list((out / "videos").glob("*.parquet")))
        if killed is None and kill_after is not None and began and done >= kill_after:
            processes_of(run)["worker"][0].kill()
            killed = time.time() - began
        time.sleep(_POLL_INTERVAL)
    assert began is not None, f"the run did not start; see {out.with_suffix('.log')}"
    rows = sorted(rows_of(out, "videos"), key=lambda row: row["finished_at"])
    return Run(began, killed, rows)


def calibrate(run: Run) -> World:
    """Throughput, overhead per video and start-up time from a run of one worker."""
    ends = np.array([row["finished_at"] for row in run.rows])
    frames = np.array([row["frames"] for row in run.rows])
    per_frame, overhead = np.polyfit(frames[1:], np.diff(ends), 1)
    start = ends[0] - run.began - overhead - per_frame * frames[0]
    return World(
        rate=1 / per_frame, overhead=max(0.0, overhead), start=max(0.0, start), stragglers=0
    )


def predict(
    lengths: list[int], broken: set[int], world: World, workers: int, killed: float
) -> float:
    """Seconds from the start of the workers to the last video; broken videos fail immediately."""
    jobs = [
        Job(2 * world.overhead, True)  # a job fails half-way
        if number in broken
        else Job(world.overhead + frames / world.rate, False)
        for number, frames in enumerate(lengths)
    ]
    return simulate(jobs, workers, world, random.Random(0), kills=[killed]).seconds


def write_calibration_clips(folder: Path, count: int) -> list[Path]:
    """Write clips of 5 to 34 frames."""
    paths = [folder / f"{number}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        write_clip(path, number, 5 + 30 * number // count, ClipSettings())
    return paths


def write_mix(folder: Path, lengths: list[int], broken: set[int]) -> list[Path]:
    """Write clips of given lengths in frames; broken ones are truncated to 200 bytes."""
    paths = [folder / f"{number:04d}.mp4" for number in range(len(lengths))]
    for number, (path, frames) in enumerate(zip(paths, lengths, strict=True)):
        write_clip(path, number, frames, ClipSettings())
        if number in broken:
            path.write_bytes(path.read_bytes()[:200])
    return paths


def main() -> None:
    """Measure, predict, and print both."""
    arguments = parse_arguments()
    folder = arguments.folder.absolute()
    clips = write_calibration_clips(folder / "clips", arguments.clips)
    world = calibrate(track(clips, folder / "one", workers=1))

    rng = np.random.default_rng(0)
    lengths = np.exp(rng.normal(np.log(20), arguments.spread, arguments.mix))
    lengths = [min(MAX_FRAMES, max(2, round(each))) for each in lengths]
    broken = set(range(3, arguments.mix, max(1, round(1 / arguments.broken))))
    mix = write_mix(folder / "mix", lengths, broken)
    run = track(mix, folder / "two", workers=2, kill_after=arguments.mix // 3)
    assert run.killed is not None, "the run ended before a worker could be killed"
    predicted = predict(lengths, broken, world, 2, run.killed)
    results = {
        "frames_per_second": round(world.rate, 2),
        "overhead": round(world.overhead, 3),
        "start": round(world.start, 2),
        "videos": len(lengths),
        "frames": sum(lengths),
        "longest": max(lengths),
        "done": len(run.rows),
        "broken": len(broken),
        "killed_at": round(run.killed, 2),
        "measured": round(run.seconds, 2),
        "predicted": round(predicted, 2),
        "error": round(predicted / run.seconds - 1, 3),
    }
    print(json.dumps(results, indent=1))


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder for clips and data sets")
    parser.add_argument(
        "--clips", type=int, default=40, help="number of clips for the fit (default: %(default)s)"
    )
    parser.add_argument(
        "--mix", type=int, default=60, help="number of videos in the mix (default: %(default)s)"
    )
    parser.add_argument(
        "--broken",
        type=float,
        default=0.1,
        help="fraction of them that is broken (default: %(default)s)",
    )
    parser.add_argument(
        "--spread",
        type=float,
        default=1.0,
        help="standard deviation of their log-normal lengths (default: %(default)s)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_script(main)
