"""The fuzzer: its mutations, its verdicts, and a short run."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.fuzz.__main__ import INPUTS
from benchmarks.fuzz.blobs import corrupt_bytes
from benchmarks.fuzz.case import Case, Context
from benchmarks.fuzz.judge import OK, REJECTED, judge_end, judge_files, list_files
from benchmarks.fuzz.samples import write_samples

ROOT = Path(__file__).parents[1]
LINE_OF_ERROR = "queryinst-vis: error: video x: no such file\n"
TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "/a/queryinst_vis/video/reader.py", line 12, in open\n'
    "    raise KeyError\n"
)


def run_fuzz(*words, timeout):
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_a_short_fuzz_run_finds_no_fault():
    """A fault is replayed by the command in its last line."""
    words = ("-m", "benchmarks.fuzz", "--inputs", "45", "--kills", "4")
    run = run_fuzz(*words, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "49 inputs in " in run.stdout


# Seeds


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder)
    return folder


@pytest.mark.parametrize("name", [name for name in INPUTS if not name.startswith("http")])
def test_an_input_is_a_function_of_seed_class_and_number(samples, tmp_path, name):
    def make(folder, seed, number):
        folder.mkdir()
        rng = random.Random(f"{seed}/{name}/{number}")
        case = INPUTS[name](Context(rng, seed, number, samples, folder))
        files = [path for path in folder.rglob("*") if path.is_file()]
        contents = {str(path.relative_to(folder)): path.read_bytes() for path in files}
        words = case.run if isinstance(case.run, list) else []
        return case.note, contents, [word.replace(str(folder), "") for word in words]

    made = [make(tmp_path / f"a{number}", 0, number) for number in range(4)]
    assert made == [make(tmp_path / f"b{number}", 0, number) for number in range(4)]
    assert made != [make(tmp_path / f"c{number}", 1, number) for number in range(4)]


def test_byte_mutations_are_determined_by_the_seed():
    data = bytes(range(256)) * 20
    spoilt = [corrupt_bytes(data, random.Random(seed)) for seed in range(50)]
    assert spoilt == [corrupt_bytes(data, random.Random(seed)) for seed in range(50)]
    assert sum(changed != data for changed, _ in spoilt) > 40


# The judge


@pytest.mark.parametrize(
    ("status", "errors", "kind"),
    [
        (0, "", OK),
        (0, "queryinst-vis: warning: frames 3 to 5 are damaged\n", OK),
        (2, LINE_OF_ERROR, REJECTED),
        (2, TRACEBACK + LINE_OF_ERROR, REJECTED),
    ],
)
def test_an_orderly_exit_is_no_fault(status, errors, kind):
    verdict = judge_end(status, errors)
    assert (verdict.kind, verdict.faults, verdict.noise) == (kind, [], "")


@pytest.mark.parametrize(
    ("status", "errors"),
    [
        (1, "queryinst-vis: error: unexpected KeyError: 'x'\n"),
        (1, TRACEBACK + "KeyError\n"),
        (-11, ""),
        (2, ""),
        (2, LINE_OF_ERROR * 2),
        (2, LINE_OF_ERROR + "and more\n"),
        (0, LINE_OF_ERROR),
        (130, "queryinst-vis: error: interrupted\n"),
    ],
)
def test_a_crash_or_traceback_is_a_fault(status, errors):
    assert judge_end(status, errors).faults


def test_the_place_of_an_error_is_the_innermost_frame_of_the_package():
    assert judge_end(2, TRACEBACK + LINE_OF_ERROR).place == "queryinst_vis/video/reader.py:12"


@pytest.mark.parametrize("status", [0, 2])
def test_partial_and_stray_files_are_faults(tmp_path, status):
    def faults(case):
        return judge_files(before, tmp_path, status, case)

    (tmp_path / "in.json").write_text("{}")
    before = list_files(tmp_path)
    good = Case([], "", ["out.json"])
    assert faults(good) == (["status 0 without out.json"] if status == 0 else [])
    (tmp_path / "out.json").write_text("{")
    assert len(faults(good)) == 1, "half-written, or left behind"
    (tmp_path / "out.json").write_text("[NaN]")
    assert len(faults(good)) == 1
    (tmp_path / "out.json").write_text("[1]")
    assert faults(good) == ([] if status == 0 else ["left out.json behind"])
    (tmp_path / ".out-abcd1234.json").write_text("[1]")
    assert "left .out-XXXXXXXX.json behind" in faults(good)
    (tmp_path / "in.json").write_text("{} ")
    assert faults(good)[0] == "changed or removed its input in.json"


# The forks

JOBS = """
import json, os, time
from benchmarks.fuzz.pool import run_in_forks

def run(name):
    if name == "hang":
        time.sleep(100)
    if name == "grow":
        kept = [bytes([1]) * 2**26 for _ in range(100) if time.sleep(0.02) is None]
    if name == "crash":
        os.abort()
    if name == "raise":
        raise KeyError(name)

limits = {"hang": 0.5}
jobs = [(name, limits.get(name, 30.0)) for name in ("well", "hang", "grow", "crash", "raise")]
print(json.dumps({ended.job: [ended.status, ended.fault] for ended in run_in_forks(jobs, run, 2)}))
"""


def test_resource_limits_apply_to_forked_processes():
    run = run_fuzz("-c", JOBS, timeout=120)
    ended = json.loads(run.stdout.splitlines()[-1])
    assert ended["well"] == [0, ""]
    assert ended["hang"] == [-9, "ran for more than 0 s"]
    assert ended["grow"][0] == -9 and "MiB of memory" in ended["grow"][1]
    assert ended["crash"] == [-6, ""]
    assert ended["raise"] == [70, ""]
