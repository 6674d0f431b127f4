"""Fuzzing: commands must succeed or end with a one-line error on corrupted inputs and after kills.

Every input depends only on the seed, its class and its number, and can be replayed with these::

    python -m benchmarks.fuzz                              # 2,000 inputs and 100 kills
    python -m benchmarks.fuzz --inputs 300 --kills 10 --only video,kill
    python -m benchmarks.fuzz --seed 0 --replay weights/safetensors:17

Prints for each class how many inputs succeeded (exit status 0, valid outputs), were rejected with a
one-line error (2) or failed: any other status, a traceback, more than a minute or 2 GiB, leftover
or truncated files, a modified input, a connection to another machine, or silently ignored frames or
errors. The exit status is 1 if any input failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks.fuzz import annotations, answers, configs, folders, kills, media, tensors
from benchmarks.fuzz.case import Maker
from benchmarks.fuzz.commands import COMMANDS, measure
from benchmarks.fuzz.judge import FAILED, OK, REJECTED, Verdict
from benchmarks.fuzz.pool import SECONDS, Ended, run_in_forks
from benchmarks.fuzz.session import Job, clear, import_everything, read_verdict, run_job

INPUTS: dict[str, Maker] = {
    "video/track": media.track,
    "video/live": media.track_live,
    "image/alone": media.image,
    "image/set": media.image_in_set,
    "weights/safetensors": tensors.safetensors,
    "weights/training-state": tensors.training_state,
    "checkpoint/foreign": tensors.foreign,
    "config/key": configs.key_and_value,
    "config/file": configs.file,
    "annotations/file": annotations.annotations,
    "annotations/folder": folders.dataset_folder,
    "results/file": annotations.results,
    "results/zip": folders.zipped,
    "http/download": answers.download,
    "http/live": answers.live,
}
KILLS: dict[str, Maker] = {f"kill/{name}": kills.killing(name) for name in COMMANDS}
WEIGHT = {"config/key": 4}
"""Relative weights of classes with more variants."""


def main() -> int:
    """Run the fuzzer; return the exit status."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder is removed
    classes = {name: make for name, make in {**INPUTS, **KILLS}.items() if _chosen(name, arguments)}
    with _work_folder(arguments.keep) as work:
        if arguments.replay:
            jobs = _named(arguments.replay, arguments.seed)
        else:
            jobs = [*_share(classes, INPUTS, arguments.inputs, arguments)]
            jobs += _share(classes, KILLS, arguments.kills, arguments)
        import_everything()
        prepare(work, {job.name for job in jobs})
        keep = arguments.keep is not None or len(jobs) == 1
        status = _report(run_all(jobs, work, arguments, keep), arguments)
        for log in sorted(work.glob("cases/*/*.txt")) if len(jobs) == 1 else []:
            print(f"--- {log.name}\n{log.read_text(errors='replace')}")
        return status


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--inputs", type=int, default=2000, help="inputs in total (%(default)s)")
    parser.add_argument("--kills", type=int, default=100, help="kills in total (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of each class's first input")
    parser.add_argument(
        "--only", default="", help="classes or prefixes of their names, separated by commas"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--seconds",
        type=float,
        default=SECONDS,
        help="wall-clock limit per input (%(default)g); raise it on a busy machine: CPU time is "
        f"always limited to {SECONDS:g} s",
    )
    parser.add_argument(
        "--replay",
        metavar="CLASS:NUMBER,...",
        help="run these inputs; a single one with its full output",
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="new folder in which all files are kept"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all verdicts")
    return parser.parse_args()


def _chosen(name: str, arguments: argparse.Namespace) -> bool:
    return any(name.startswith(prefix) for prefix in arguments.only.split(","))


def _share(
    classes: dict[str, Maker], group: dict[str, Maker], total: int, arguments: argparse.Namespace
) -> Iterator[Job]:
    """The inputs of a group of classes, alternating, so that a partial run covers all of them."""
    names = [name for name in classes if name in group for _ in range(WEIGHT.get(name, 1))]
    numbers: dict[str, int] = defaultdict(lambda: arguments.first)
    for index in range(total if names else 0):
        name = names[index % len(names)]
        yield Job(name, classes[name], arguments.seed, numbers[name])
        numbers[name] += 1


@contextmanager
def _work_folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        yield Path(folder)


def prepare(work: Path, names: set[str]) -> None:
    """Write the samples and the reference results for kills, in forks."""
    from benchmarks.fuzz.samples import write_samples

    samples = work / "samples"
    samples.mkdir()
    _quietly("samples", partial(write_samples, samples), work)
    for name in sorted(name.partition("/")[2] for name in names if name in KILLS):
        _quietly(name, partial(measure, name, samples), work)


def _quietly(name: str, run: partial, work: Path) -> None:
    """Run a part of the preparation in a fork; its output is shown only if it fails."""
    log = work / f"{name}.log"

    def call(_: str) -> None:
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        run()

    [ended] = run_in_forks([(name, 300.0)], call, 1)
    if ended.status or ended.fault:
        raise SystemExit(f"preparing {name} failed {ended.fault}:\n{log.read_text()}")


def run_all(
    jobs: list[Job], work: Path, arguments: argparse.Namespace, keep: bool
) -> Iterator[tuple[Ended[Job], Verdict]]:
    """Run jobs and judge them; the verdict on a crashed fork is its exit status."""

    def place(job: Job) -> Path:
        return work / "cases" / f"{job.name.replace('/', '-')}-{job.number}"

    def run(job: Job) -> None:
        run_job(job, work / "samples", place(job), arguments.seconds)

    limited = ((job, arguments.seconds * (1 if job.name in INPUTS else 2)) for job in jobs)
    for ended in run_in_forks(limited, run, arguments.workers):
        folder = place(ended.job)
        verdict = read_verdict(folder)
        if verdict is None or ended.fault:
            verdict = verdict or Verdict(FAILED, note=_first_line(folder / "note.txt"))
            end = f"ended by signal {-ended.status}" if ended.status < 0 else _last_line(folder)
            verdict.kind, verdict.faults = FAILED, [ended.fault or end, *verdict.faults]
        if not keep:
            clear(folder)
        yield ended, verdict


def _first_line(path: Path) -> str:
    return path.read_text().partition("\n")[0] if path.exists() else "not created"


def _last_line(folder: Path) -> str:
    path = folder / "stderr.txt"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return f"no verdict: {lines[-1] if lines else 'nothing was written'}"


def _report(outcomes: Iterator[tuple[Ended[Job], Verdict]], arguments: argparse.Namespace) -> int:
    """Print failures as they occur, and the table."""
    begin = time.monotonic()
    rows: dict[str, list[tuple[Ended[Job], Verdict]]] = defaultdict(list)
    for ended, verdict in outcomes:
        rows[ended.job.name].append((ended, verdict))
        if verdict.kind == FAILED:
            faults = "; ".join(verdict.faults)[:300]
            print(f"FAILED {ended.job} [{verdict.note}] {faults} {verdict.place}", flush=True)
    headings = "".join(
        f"{heading:>9}"
        for heading in ("inputs", OK, REJECTED, FAILED, "noisy", "max s", "CPU s", "MiB")
    )
    print(f"\n{'class':24}{headings}")
    for name, row in sorted(rows.items()):
        kinds = [verdict.kind for _, verdict in row]
        counts = [len(row), *map(kinds.count, (OK, REJECTED, FAILED))]
        counts.append(sum(bool(verdict.noise) for _, verdict in row))
        longest = [max(e.seconds for e, _ in row), max(e.cpu_seconds for e, _ in row)]
        texts = [*(f"{n:9}" for n in counts), *(f"{seconds:9.1f}" for seconds in longest)]
        print(f"{name:24}{''.join(texts)}{max(e.mebibytes for e, _ in row):9}")
    total = [pair for row in rows.values() for pair in row]
    failed = [pair for pair in total if pair[1].kind == FAILED]
    print(f"{len(total)} inputs in {time.monotonic() - begin:.0f} s, {len(failed)} failed")
    if failed:
        print(f"replay: python -m benchmarks.fuzz --seed {arguments.seed} --replay CLASS:NUMBER")
    if arguments.json is not None:
        listed = [{"input": str(ended.job), **asdict(verdict)} for ended, verdict in total]
        arguments.json.write_text(json.dumps(listed, indent=1))
    return 1 if failed or not total else 0


def _named(text: str, seed: int) -> list[Job]:
    """The inputs given as ``CLASS:NUMBER,CLASS:NUMBER``."""
    jobs = []
    for word in text.split(","):
        name, _, number = word.rpartition(":")
        make = {**INPUTS, **KILLS}.get(name)
        if make is None or not number.isdecimal():
            classes = ", ".join([*INPUTS, *KILLS])
            raise SystemExit(f"input '{word}': must be CLASS:NUMBER; choose from {classes}")
        jobs.append(Job(name, make, seed, int(number)))
    return jobs


if __name__ == "__main__":
    sys.exit(main())
