"""Compares the throughput of `queryinst-vis batch` with simple alternatives on synthetic clips.

Each comparison alternates between its candidates for ``--rounds`` rounds. The JSON output has CPU
time of all processes, wall time, and the median throughput ratios over the rounds:

* ``shell``: many short clips, against a shell loop over `track` on some of them;
* ``loop``: minute-long videos with one worker, against a Python loop that loads weights once;
* ``ray``: two Ray workers against two local ones;
* ``streams``: 1, 2, 4 and 8 streams in one worker;
* ``memory``: resident memory of the worker in the second and the last quarter of a long run.

Ratios are the throughput of the first candidate divided by that of another: above 1, the first
one is faster. On a machine with other load, use CPU time::

    nice python -m benchmarks.batch_throughput work/throughput --out throughput.json
    nice python -m benchmarks.batch_throughput work/throughput --clips 1000 --alone 50 --rounds 3
    python -m benchmarks.batch_throughput work/throughput --only streams --device cuda --batch 8

The weights are ``shapes``. Needs psutil and pyarrow; Linux.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmarks.batch_runs import (
    ClipSettings,
    processes_of,
    rows_of,
    start_command,
    start_python,
    write_clips,
)
from queryinst_vis.errors import run_script
from queryinst_vis.utils.files import write_json_atomically

MINUTE = ClipSettings(frames=(600, 600))
_POLL_INTERVAL = 0.2  # seconds between samples of the memory
_EXIT_TIMEOUT = 30.0  # seconds until processes must have exited after their run
_BE_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux

_LOOP = """
import sys
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.inference.track import load_tracker, track_video
detector = load_tracker(TrackOptions("shapes"), sys.argv[2]).detector
for number, video in enumerate(sys.argv[3:]):
    track_video(video, f"{sys.argv[1]}/{number}", detector, save=["jsonl"])
"""


@dataclass(frozen=True)
class Cost:
    """CPU time of all processes of a run and its wall time, in seconds."""

    videos: int
    cpu: float
    wall: float


Candidate = Callable[[], Cost]


class Bench:
    """Measures runs.

    Args:
        folder: for clips and results.
        device: of `track` and `batch`.
        batch: batch size.
    """

    def __init__(self, folder: Path, device: str, batch: int) -> None:
        self._folder = folder
        self._device = device
        self._batch = batch
        self._numbers = itertools.count()
        self.memory: list[float] = []  # samples of the largest worker of the last run, in MiB
        folder.mkdir(parents=True, exist_ok=True)
        # orphans of a run become children of this process, so that their CPU time counts
        ctypes.CDLL(None).prctl(_BE_SUBREAPER, 1)

    def clips(self, count: int, settings: ClipSettings, name: str) -> list[Path]:
        """Synthetic clips."""
        return write_clips(self._folder / name, count, settings)

    def run_batch(
        self, videos: list[Path], engine: str = "local", workers: int = 1, streams: int = 1
    ) -> Cost:
        """Measure `batch`."""
        out = self._fresh()
        words = ["batch", *videos, "--out", out, "--weights", "shapes", "--device", self._device]
        settings = {"engine": engine, "workers": workers, "streams": streams, "batch": self._batch}
        words += [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
        cost = self._measure(lambda: start_command(words, self._log), len(videos))
        if len(rows_of(out, "videos")) != len(videos):
            raise RuntimeError(f"{out}: is incomplete; see {self._log}")
        return cost

    def run_tracks(self, videos: list[Path]) -> Cost:
        """Measure one `track` process per video."""
        costs = [self._run_track(video) for video in videos]
        return Cost(len(videos), sum(c.cpu for c in costs), sum(c.wall for c in costs))

    def _run_track(self, video: Path) -> Cost:
        words = ["track", video, "--out", self._fresh(), "--save", "jsonl"]
        words += ["--weights", "shapes", "--device", self._device]
        return self._measure(lambda: start_command(words, self._log), 1)

    def run_loop(self, videos: list[Path]) -> Cost:
        """Measure a Python loop over videos that loads the weights once."""
        words = [self._fresh(), self._device, *videos]
        return self._measure(lambda: start_python(["-c", _LOOP, *words], self._log), len(videos))

    @property
    def _log(self) -> Path:
        return self._folder / "throughput.log"

    def _fresh(self) -> Path:
        out = self._folder / f"run{next(self._numbers)}"
        shutil.rmtree(out, ignore_errors=True)
        return out

    def _measure(self, start: Callable[[], psutil.Popen], videos: int) -> Cost:
        self.memory = []
        before, began = _cpu_of_children(), time.monotonic()
        run = start()
        while run.poll() is None:
            workers = [_rss(process) for process in processes_of(run)["worker"]]
            if workers:
                self.memory.append(max(workers))
            time.sleep(_POLL_INTERVAL)
        wall = time.monotonic() - began
        _wait_for_orphans()
        if run.returncode:
            raise RuntimeError(f"exit status {run.returncode}; see {self._log}")
        return Cost(videos, _cpu_of_children() - before, wall)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _wait_for_orphans() -> None:
    deadline = time.monotonic() + _EXIT_TIMEOUT
    while time.monotonic() < deadline:
        try:
            number, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not number:
            time.sleep(_POLL_INTERVAL)


def _rss(process: psutil.Process) -> float:
    try:
        return process.memory_info().rss / 2**20
    except psutil.Error:  # it has exited
        return 0.0


def compare(candidates: Mapping[str, Candidate], rounds: int) -> dict[str, object]:
    """Measure all candidates in alternation; ratios are of the first one to each of the others."""
    costs: dict[str, list[Cost]] = {name: [] for name in candidates}
    for number in range(rounds):
        for name, measure in candidates.items():
            costs[name].append(measure())
            print(f"round {number + 1}, {name}: {costs[name][-1]}", file=sys.stderr, flush=True)
    first, *others = costs
    ratios = {
        f"{first} / {other}": {
            kind: round(statistics.median(map(_ratio(kind), costs[first], costs[other])), 3)
            for kind in ("cpu", "wall")
        }
        for other in others
    }
    return {
        "ratios": ratios,
        "costs": {name: [asdict(cost) for cost in each] for name, each in costs.items()},
    }


def _ratio(kind: str) -> Callable[[Cost, Cost], float]:
    def ratio(ours: Cost, theirs: Cost) -> float:
        return (getattr(theirs, kind) / theirs.videos) / (getattr(ours, kind) / ours.videos)

    return ratio


def main() -> None:
    """Run the selected comparisons."""
    arguments = _parse_arguments()
    bench = Bench(arguments.folder.absolute(), arguments.device, arguments.batch)
    results: dict[str, object] = {}
    for name in arguments.only:
        if name == "memory":
            bench.run_batch(_short_clips(bench, arguments))
            results[name] = _growth(bench.memory)
        else:
            results[name] = compare(_candidates(name, bench, arguments), arguments.rounds)
    print(json.dumps(results, indent=1))
    if arguments.out is not None:
        write_json_atomically(arguments.out, results)


def _short_clips(bench: Bench, arguments: argparse.Namespace) -> list[Path]:
    return bench.clips(arguments.clips, ClipSettings(), "short")


def _candidates(name: str, bench: Bench, arguments: argparse.Namespace) -> dict[str, Candidate]:
    """The candidates of a comparison."""
    if name == "loop":
        minutes = bench.clips(arguments.minutes, MINUTE, "minutes")
        return {
            "batch, 1 worker": lambda: bench.run_batch(minutes),
            "Python loop": lambda: bench.run_loop(minutes),
        }
    short = _short_clips(bench, arguments)
    if name == "shell":
        return {
            "batch, 2 workers": lambda: bench.run_batch(short, workers=2),
            "track, one by one": lambda: bench.run_tracks(short[: arguments.alone]),
        }
    some = short[: arguments.streamed]
    if name == "ray":
        return {
            "ray, 2 workers": lambda: bench.run_batch(some, "ray", 2),
            "local, 2 workers": lambda: bench.run_batch(some, "local", 2),
        }
    return {
        f"{streams} streams": partial(bench.run_batch, some, streams=streams)
        for streams in (1, 2, 4, 8)
    }


def _growth(memory: list[float]) -> dict[str, float]:
    """Median memory early and late in a run, and its peak."""
    quarter = len(memory) // 4
    return {
        "second_quarter_mib": round(statistics.median(memory[quarter : 2 * quarter]), 1),
        "last_quarter_mib": round(statistics.median(memory[-quarter:]), 1),
        "peak_mib": round(max(memory), 1),
    }


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder for clips and results")
    parser.add_argument("--clips", type=int, default=200, help="short clips (default: %(default)s)")
    parser.add_argument("--alone", type=int, default=15, help="how many to `track` one by one")
    parser.add_argument("--streamed", type=int, default=40, help="how many for ray and streams")
    parser.add_argument("--minutes", type=int, default=2, help="number of minute-long videos")
    parser.add_argument("--rounds", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    names = ("shell", "loop", "ray", "streams", "memory")
    parser.add_argument("--only", nargs="+", choices=names, default=list(names))
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    return parser.parse_args()


if __name__ == "__main__":
    run_script(main)
