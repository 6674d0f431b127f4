"""Running a case in a fork: from its seed to its verdict."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.fuzz.case import Case, Context, Maker
from benchmarks.fuzz.judge import ERROR, FAILED, Verdict, judge_end, judge_files, list_files

ROOT = Path(__file__).parents[2]
SAMPLE = 40
"""One of this many inputs of a class runs in a new interpreter."""

ENTRY = "import sys; from queryinst_vis.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Job:
    """An input, fully determined by ``make``, seed and number."""

    name: str
    make: Maker
    seed: int
    number: int

    def __str__(self) -> str:
        return f"{self.name}:{self.number}"


def import_everything() -> None:
    """Import the package and its lazy imports once, instead of in every fork."""
    import queryinst_vis

    for module in pkgutil.walk_packages(queryinst_vis.__path__, "queryinst_vis."):
        with suppress(ImportError, ValueError):  # an InputError where mmdetection is missing
            importlib.import_module(module.name)
    for name in ("torch.utils.tensorboard", "matplotlib.figure", "scipy.optimize", "yaml"):
        importlib.import_module(name)


def run_job(job: Job, samples: Path, work: Path, seconds: float) -> None:
    """Make the case, run it, and write the verdict to ``work / verdict.json``."""
    folder = work / "case"
    folder.mkdir(parents=True)
    _isolate(folder, work)
    rng = random.Random(f"{job.seed}/{job.name}/{job.number}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        case = job.make(Context(rng, job.seed, job.number, samples, folder, seconds))
    (work / "note.txt").write_text(_describe(case))
    before = list_files(folder)
    os.environ["MPLCONFIGDIR"] = str(samples)  # building its font cache takes seconds
    status = run_case(case, new_interpreter=job.number % SAMPLE == SAMPLE - 1)
    sys.stdout.flush()
    sys.stderr.flush()
    printed, errors = (
        (work / name).read_text(errors="replace") for name in ("stdout.txt", "stderr.txt")
    )
    verdict = judge_end(status, errors)
    verdict.note = case.note
    verdict.faults += judge_files(before, folder, status, case)
    verdict.faults += [f"left {name} in the temporary folder" for name in _leftovers(work / "tmp")]
    elsewhere = [host for host in _contacted if host not in case.reaches]
    verdict.faults += [f"tried to contact {host}" for host in elsewhere]
    warned = "queryinst-vis: warning: " in errors or "ended unexpectedly" in printed
    if status == 0 and case.must_reject and not warned:
        verdict.faults.append(f"silently accepted: {case.must_reject}")
    elif status == 0 and case.check and (fault := case.check()):
        verdict.faults.append(fault)
    verdict.faults += _threads()
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak = max(usage.ru_maxrss for usage in usages) // 1024
    if case.memory and peak > case.memory:
        verdict.faults.append(f"used {peak} MiB of memory for a small file")
    if verdict.faults:
        verdict.kind = FAILED
    (work / "verdict.json").write_text(json.dumps(asdict(verdict)))


def read_verdict(work: Path) -> Verdict | None:
    """The verdict of a case, or None if its fork has not written one."""
    try:
        return Verdict(**json.loads((work / "verdict.json").read_text()))
    except (OSError, ValueError):
        return None


def run_case(case: Case, new_interpreter: bool) -> int:
    """Run a case, a command possibly in a new interpreter; return the exit status."""
    if not isinstance(case.run, list):
        return _call(case.run)
    if not new_interpreter:
        return run_main([*case.run, "--debug"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ENTRY, *case.run]
    return subprocess.run(command, env=environment, check=False).returncode


def run_main(words: list[str]) -> int:
    """The command line in this process."""
    from queryinst_vis.cli import main

    try:
        return main(words)
    except SystemExit as stop:  # --help, and trainings that were stopped
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return 1
        return stop.code or 0
    except BaseException:
        traceback.print_exc()
        return 1


def _call(run: Callable[[], Any]) -> int:
    """Call a library function; its exceptions are reported as by a command."""
    from queryinst_vis.errors import InputError

    try:
        status = run()
    except InputError as error:
        traceback.print_exc()
        print(f"{ERROR}{error}", file=sys.stderr)
        return 2
    except Exception as error:
        traceback.print_exc()
        print(f"{ERROR}unexpected {type(error).__name__}: {error}"[:500], file=sys.stderr)
        return 1
    return status if isinstance(status, int) else 0


def _describe(case: Case) -> str:
    command = " ".join(map(str, case.run)) if isinstance(case.run, list) else "a call"
    return f"{case.note}\n{command}\n"


def _isolate(folder: Path, work: Path) -> None:
    """Redirect streams to files, use a private temporary folder and home, and restore Ctrl-C."""
    for number, name in ((1, "stdout.txt"), (2, "stderr.txt")):
        handle = os.open(work / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, number)
        os.close(handle)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    (work / "tmp").mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(work / "tmp")
    os.environ["QUERYINST_VIS_CACHE"] = str(folder)
    os.environ["HOME"] = str(work)
    os.environ.pop("QUERYINST_VIS_DATA", None)
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        signal.signal(number, handler)
    socket.getaddrinfo = _resolve_local
    os.chdir(folder)


_look_up = socket.getaddrinfo
_contacted: list[str] = []
"""Other hosts that the case has tried to contact."""


def _resolve_local(host: Any, *arguments: Any, **options: Any) -> Any:
    """``getaddrinfo`` for this machine only; other hosts are recorded and blocked."""
    if str(host) not in ("127.0.0.1", "localhost", "::1", "None"):
        _contacted.append(str(host))
        raise OSError(f"{host} is blocked")
    return _look_up(host, *arguments, **options)


def _leftovers(temporary: Path) -> list[str]:
    names = [path.name for path in temporary.iterdir()]
    return sorted(
        {name.rstrip("0123456789")[:12] for name in names if not name.startswith("torch")}
    )


def _threads() -> list[str]:
    """Threads that would prevent the interpreter from exiting."""
    deadline = time.monotonic() + 5

    def left() -> list[threading.Thread]:
        others = [thread for thread in threading.enumerate() if not thread.daemon]
        return [thread for thread in others if thread is not threading.main_thread()]

    while left() and time.monotonic() < deadline:
        time.sleep(0.05)
    return [f"left a thread behind: {thread.name}" for thread in left()]


def clear(work: Path) -> None:
    """Remove the files of a case, whatever their permissions."""
    shutil.rmtree(work, ignore_errors=True)
