"""Crash test: kills processes of `queryinst-vis batch` and checks that all tables are identical.

Short synthetic clips are tracked with the weights ``shapes``. The reference is a run with one
worker and one stream. It is compared with runs with more streams and workers, in random order and
on Ray, and with runs whose processes are killed by SIGKILL and SIGTERM, and which are restarted
with different settings whenever their driver has ended. Targets are the driver, workers and
decoders, and on Ray also the raylet, its server (GCS) and the actor that hands out the videos
(dispatcher). Every video must be tracked exactly once, with identical bytes, and no process,
shared memory or temporary file may be left behind::

    nice python -m benchmarks.batch_kills work/kills        # 100 clips, 20 kills per engine
    nice python -m benchmarks.batch_kills work/kills --clips 10 --kills 4 --engines local

With Ray, a run on a local cluster of two nodes also loses one node half-way. The exit status is 1
if anything differs. Needs psutil and pyarrow; Linux.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.batch_runs import (
    WEIGHTS,
    ClipSettings,
    differences,
    processes_of,
    rows_of,
    start_command,
    tables_of,
    write_clips,
    write_manifest,
)

TARGETS = {
    "local": ("driver", "worker", "decoder"),
    "ray": ("driver", "worker", "raylet", "decoder", "dispatcher", "gcs_server"),
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
STREAMS = (1, 2, 4, 8)
HANG_TIMEOUT = 300.0  # seconds without a completed video after which a run counts as hung
EXIT_TIMEOUT = 180.0  # seconds; agents of a killed raylet take over a minute to exit

_POLL_INTERVAL = 0.01  # seconds
_SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Settings:
    """Settings of a run."""

    engine: str
    workers: int = 1
    streams: int = 1
    is_shuffled: bool = False

    def __str__(self) -> str:
        order = ", shuffled" if self.is_shuffled else ""
        return f"{self.engine}, workers {self.workers}, streams {self.streams}{order}"


class Bench:
    """Runs `batch` on synthetic clips.

    Args:
        folder: for clips, data sets, logs and temporary files.
        clips: number of clips.
        seed: for the order of videos, and for the times and targets of kills.
    """

    def __init__(self, folder: Path, clips: int, seed: int) -> None:
        self._folder = folder
        self._clips = write_clips(folder / "clips", clips, ClipSettings())
        self._random = random.Random(seed)
        self._numbers = itertools.count()

    def track(self, settings: Settings) -> Path:
        """The data set of an undisturbed run."""
        out = self._fresh()
        self._start(settings, out).wait()
        return out

    def track_with_kills(self, engine: str, kills: int) -> tuple[Path, Counter[str], int]:
        """A data set, the number of kills by target and signal, and the number of runs.

        The kills are spread evenly over the videos and cycle through the kinds of processes.
        """
        out = self._fresh()
        killed: Counter[str] = Counter()
        targets = itertools.cycle(itertools.product(SIGNALS, TARGETS[engine]))
        marks = [round((each + 0.5) * len(self._clips) / kills) for each in range(kills)]
        runs = 0
        while runs == 0 or not _is_complete(out, len(self._clips)):
            run = self._start(self._any_settings(engine), out)
            runs += 1
            for done in _watch(run, out):
                if marks and done >= marks[0]:
                    time.sleep(self._random.uniform(0, 0.5))
                    number, target = next(targets)
                    if _kill(run, target, number, self._random):
                        killed[f"{target} {number.name}"] += 1
                        marks.pop(0)
        return out, killed, runs

    def track_on_two_nodes(self) -> tuple[Path, int]:
        """The data set and the exit status of a run that loses one of two nodes."""
        from ray.cluster_utils import Cluster  # importing it starts processes

        out = self._fresh()
        nodes = Cluster()
        try:
            nodes.add_node(num_cpus=0)  # the driver's, without workers
            doomed = nodes.add_node(num_cpus=1)
            nodes.add_node(num_cpus=1)
            settings = Settings("ray", 2, 2)
            run = self._start(settings, out, "--address", nodes.address)
            for done in _watch(run, out, ends_with_run=False):
                if doomed is not None and done >= len(self._clips) // 3:
                    nodes.remove_node(doomed, allow_graceful=False)
                    doomed = None
        finally:
            nodes.shutdown()
        if doomed is not None:
            raise RuntimeError("the run ended before a node could be killed")
        return out, run.returncode

    def left_behind(self) -> list[str]:
        """Temporary files of the runs so far; libraries leave empty folders when killed."""
        folder = self._folder / "temporary"
        logs = folder / "ray"  # which Ray keeps
        paths = (path for path in folder.rglob("*") if logs not in path.parents)
        return [str(path) for path in paths if path.is_file() and path.stat().st_size]

    def _fresh(self) -> Path:
        out = self._folder / f"out{next(self._numbers)}"
        shutil.rmtree(out, ignore_errors=True)
        return out

    def _any_settings(self, engine: str) -> Settings:
        return Settings(engine, self._random.choice((1, 2)), self._random.choice(STREAMS), True)

    def _start(self, settings: Settings, out: Path, *more: str) -> psutil.Popen:
        """Start a run with enough attempts per video for all kills."""
        videos = list(self._clips)
        if settings.is_shuffled:
            self._random.shuffle(videos)
        manifest = write_manifest(self._folder / "order.csv", videos)
        options = {
            "--out": out,
            "--engine": settings.engine,
            "--workers": settings.workers,
            "--streams": settings.streams,
            "--attempts": 99,
        }
        words = [str(word) for pair in options.items() for word in pair]
        temporary = self._folder / "temporary"
        temporary.mkdir(exist_ok=True)
        log = self._folder / f"{out.name}.log"
        words += [*WEIGHTS, *more]
        return start_command(["batch", manifest, *words], log, TMPDIR=str(temporary))


def _is_complete(out: Path, videos: int) -> bool:
    return _count(out) >= videos


def _count(out: Path) -> int:
    return len(list((out / "videos").glob("*.parquet")))


def _watch(run: psutil.Popen, out: Path, *, ends_with_run: bool = True) -> Iterator[int]:
    """Yield the number of videos done until the run ends; then its processes must exit."""
    seen: set[psutil.Process] = set()
    best, since = _count(out), time.monotonic()
    while run.poll() is None:
        seen.update(run.children(recursive=True))
        done = _count(out)
        if done > best:
            best, since = done, time.monotonic()
        if time.monotonic() - since > HANG_TIMEOUT:
            run.kill()
            raise RuntimeError(f"{out}: no video in {HANG_TIMEOUT:.0f} s")
        yield done
        time.sleep(_POLL_INTERVAL)
    _, alive = psutil.wait_procs(seen, EXIT_TIMEOUT)
    if alive and ends_with_run:
        names = ", ".join(" ".join(process.cmdline())[:80] for process in alive)
        raise RuntimeError(f"{out}: left behind {names}")


def _kill(run: psutil.Popen, target: str, number: signal.Signals, random_: random.Random) -> bool:
    """Send a signal to a random process of a kind; returns whether there was one."""
    try:
        found = [run] if target == "driver" else processes_of(run)[target]
        if found:
            random_.choice(found).send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return bool(found)


def _judge(out: Path, expected: Path, videos: int) -> str:
    """Describe what is wrong with a data set; an empty string if nothing is."""
    rows, failures = rows_of(out, "videos"), rows_of(out, "failures")
    if failures:
        return f"{len(failures)} failed: {failures[0]['reason']}"
    if sorted(Counter(row["video_id"] for row in rows).values()) != [1] * videos:
        return f"{len(rows)} rows for {videos} videos"
    different = differences(tables_of(out), tables_of(expected))
    return f"{len(different)} files differ, such as {different[0]}" if different else ""


def main() -> int:
    """Run all comparisons; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder for clips and data sets (a few MB)")
    parser.add_argument("--clips", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="per engine (default: %(default)s)")
    parser.add_argument("--engines", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    folder = arguments.folder.absolute()
    shared = set(_SHARED_MEMORY.iterdir())
    bench = Bench(folder, arguments.clips, arguments.seed)
    expected = bench.track(Settings("local"))
    wrong = _judge(expected, expected, arguments.clips)
    print(f"local, workers 1, streams 1: {wrong or 'complete'}", flush=True)
    faults = [wrong]

    def compare(name: str, out: Path) -> None:
        faults.append(_judge(out, expected, arguments.clips))
        print(f"{name}: {faults[-1] or 'identical'}", flush=True)

    variants = {
        "local": [Settings("local", streams=streams) for streams in STREAMS[1:]]
        + [Settings("local", 2, 2, True)],
        "ray": [Settings("ray"), Settings("ray", 2, 4, True)],
    }
    for engine in arguments.engines:
        for settings in variants[engine]:
            compare(str(settings), bench.track(settings))
        if arguments.kills:
            out, killed, runs = bench.track_with_kills(engine, arguments.kills)
            kinds = ", ".join(f"{count} x {kind}" for kind, count in sorted(killed.items()))
            compare(f"{engine}, killed {killed.total()} times in {runs} runs ({kinds})", out)
    if "ray" in arguments.engines:
        out, status = bench.track_on_two_nodes()
        compare(f"two nodes, one of them killed (exit status {status})", out)
    # memory of Ray itself stays until its session ends
    left = [str(path) for path in set(_SHARED_MEMORY.iterdir()) - shared if "psm" in path.name]
    left += bench.left_behind()
    print(f"left behind: {', '.join(left) or 'nothing'}")
    return int(any(faults) or bool(left))


if __name__ == "__main__":
    sys.exit(main())
