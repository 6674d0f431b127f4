"""Commands that are killed at random moments and run again.

Their files must be complete or absent, and the next run must give the same results as an
uninterrupted one (for training, bitwise).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from benchmarks.fuzz.case import Case, Context, Maker
from benchmarks.fuzz.commands import COMMANDS, Command
from benchmarks.fuzz.judge import is_temporary, judge_end, list_files, mask_random, output_error
from benchmarks.fuzz.session import ENTRY, ROOT, run_main

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
TIMEOUT = 2 / 3  # fraction of the time limit: to end after a signal, and for the next run
IMPORTS = 1.5  # seconds for the imports of a new interpreter


def killing(name: str) -> Maker:
    """The class of kills of a command: alternating signals, every fifth in a new interpreter."""
    command = COMMANDS[name]

    def make(context: Context) -> Case:
        chosen = SIGNALS[context.number % len(SIGNALS)]
        new_interpreter = context.number % 5 == 4
        reference = context.samples / "reference" / name
        seconds = json.loads((reference / "seconds.json").read_text())
        moment = context.random.uniform(0, 1.05) * seconds + (IMPORTS if new_interpreter else 0)
        note = f"{chosen.name} after {moment:.2f} of {seconds:.2f} s"
        note += " in a new interpreter" if new_interpreter else ""
        words = command.words(context.samples)

        def run() -> None:
            timeout = TIMEOUT * context.seconds
            faults = _kill_and_repeat(
                command, words, chosen, moment, new_interpreter, reference, timeout
            )
            if faults:
                raise AssertionError(f"{chosen.name}: " + "; ".join(faults))

        return Case(run, note, keeps=["*"])

    return make


def _kill_and_repeat(
    command: Command,
    words: list[str],
    chosen: signal.Signals,
    moment: float,
    new_interpreter: bool,
    reference: Path,
    timeout: float,
) -> list[str]:
    """Kill a run, check its files, run again and compare; return the failures."""
    log = Path("../first.txt").absolute()
    process = _start(words, new_interpreter, log)
    time.sleep(moment)
    with suppress(ProcessLookupError):
        os.kill(process, chosen)
    status = _wait(process, timeout)
    if status is None:
        return ["did not end after the signal"]
    faults = _surviving_processes(process) + _truncated_outputs()
    done = [Path(name).exists() for name in command.outputs]
    if chosen != signal.SIGKILL:
        faults += judge_end(status, log.read_text(errors="replace"), stopped=True).faults
        faults += [f"left {mask_random(name)} behind" for name in _temporary_files()]
        if any(done) and not all(done) and not command.resumes:
            faults.append("left some of its files without the others")
    if status and (command.resumes or not all(done) or not done):
        faults += _run_again(command, words, new_interpreter, timeout)
    for name in command.outputs:
        faults += _differences(Path(name), reference / name)
    return faults


def _run_again(
    command: Command, words: list[str], new_interpreter: bool, timeout: float
) -> list[str]:
    """Check that the next run succeeds and removes the leftovers; return the failures."""
    if command.resumes and Path("run/config.yaml").exists():
        words = [*words, "--resume"]
    log = Path("../second.txt").absolute()
    status = _wait(_start(words, new_interpreter, log), timeout)
    if status is None:
        return ["the next run did not end"]
    faults = [f"next run: {f}" for f in judge_end(status, log.read_text(errors="replace")).faults]
    if status:
        faults.append(f"the next run ended with status {status}")
    faults += [f"the next run left {mask_random(name)} behind" for name in _temporary_files()]
    return faults + _truncated_outputs()


def _start(words: list[str], new_interpreter: bool, log: Path) -> int:
    """Start a command in a new session; return its process id."""
    words = [*words, "--debug"]
    if new_interpreter:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with log.open("wb") as stream:
            return subprocess.Popen(
                [sys.executable, "-c", ENTRY, *words],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=stream,
                start_new_session=True,
            ).pid
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        os.read(reading, 1)  # the clock starts when the command does
        os.close(reading)
        return process
    status = 1
    try:
        os.setsid()
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.write(writing, b".")
        status = run_main(words)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)


def _wait(process: int, timeout: float) -> int | None:
    """Exit status of a child process, or None if it had to be killed."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def _surviving_processes(process: int) -> list[str]:
    """Check that child processes end soon after the command."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(process, 0)
        except (ProcessLookupError, PermissionError):
            return []
        time.sleep(0.05)
    os.killpg(process, signal.SIGKILL)
    return ["left processes behind"]


def _temporary_files() -> list[str]:
    strays = [
        f"tmp/{path.name}" for path in Path("../tmp").iterdir() if not path.name.startswith("torch")
    ]
    return [name for name in list_files(Path()) if is_temporary(name)] + strays


def _truncated_outputs() -> list[str]:
    """Find unreadable files under their final names."""
    names = [name for name in list_files(Path()) if not is_temporary(name)]
    found = [(name, output_error(Path(name))) for name in names]
    return [f"{name} is half-written: {fault}" for name, fault in found if fault]


def _differences(ours: Path, theirs: Path) -> list[str]:
    """Whether an output differs from the uninterrupted run: tensors bitwise, others by bytes."""
    import torch
    from safetensors.torch import load_file

    if not ours.exists():
        return [f"no {ours}"]
    if ours.is_dir():
        pairs = [
            (path, theirs / path.relative_to(ours)) for path in ours.rglob("*") if path.is_file()
        ]
    else:
        pairs = [(ours, theirs)]
    faults = []
    for mine, other in pairs:
        if mine.suffix == ".ckpt":
            same = _same(*(torch.load(path, weights_only=True) for path in (mine, other)))
        elif mine.suffix == ".safetensors":  # their metadata have no fixed order
            same = _same(*(load_file(path) for path in (mine, other)))
        elif mine.name == "run.json":
            same = _run_of(mine) == _run_of(other)
        else:
            same = mine.read_bytes() == other.read_bytes()
        if not same:
            faults.append(f"{mine} differs from that of an uninterrupted run")
    return faults


def _run_of(path: Path) -> dict:
    """The content of ``run.json`` without durations and the path of the source."""
    content = json.loads(path.read_bytes())
    places = ("origin", "origin_sha256")
    source = {key: value for key, value in content["source"].items() if key not in places}
    return {**content, "source": source, "seconds": None}


def _same(first: object, second: object) -> bool:
    import torch

    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(
            _same(first[key], second[key]) for key in first
        )
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    return first == second
