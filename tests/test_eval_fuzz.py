"""Mutated ground-truth and result files are either evaluated or refused in one line.

Cases run in processes of their own, so that a crash of the C code is seen as a failure. For the
long run of 10,000 cases::

    python -m pytest tests/test_eval_fuzz.py -m slow -s
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.fuzz.mutations import mutated_files, valid_files

TESTS = Path(__file__).parent
BATCH = 250
PATIENCE = 120  # seconds for a batch, of which a case needs milliseconds


def outcome_of(files, folder):
    """``"evaluated"`` or ``"refused"``; any other exception is raised."""
    from queryinst_vis.errors import InputError
    from queryinst_vis.evaluation import evaluate_youtube_vis

    paths = [folder / "gt.json", folder / "results.json"]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    try:
        metrics = evaluate_youtube_vis(*paths)
    except InputError as error:
        message = str(error)
        assert message and "\n" not in message, message
        return "refused"
    numbers = [value for value in metrics.values() if not isinstance(value, dict)]
    for table in ("per_class_AP", "per_video_AP"):
        numbers += [value for value in metrics[table].values() if value is not None]
    assert len(numbers) >= 12
    assert all(math.isfinite(value) and -1 <= value <= 1 for value in numbers), metrics
    json.dumps(metrics, allow_nan=False).encode()
    return "evaluated"


def run_batch(first, count):
    """Outcomes of seeds ``first`` to ``first + count``, in a child process that may crash."""
    command = [sys.executable, __file__, str(first), str(count)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert run.returncode == 0, f"exit status {run.returncode}\n{run.stdout}{run.stderr[-3000:]}"
    return Counter(json.loads(run.stdout.splitlines()[-1]))


def test_unmodified_files_are_evaluated(tmp_path):
    import random

    files = [json.dumps(content).encode() for content in valid_files(random.Random(0))]
    assert outcome_of(files, tmp_path) == "evaluated"


def test_400_mutated_files_are_evaluated_or_refused():
    outcomes = run_batch(0, 400)
    assert outcomes.total() == 400
    assert outcomes["evaluated"] > 40  # the faults are not all alike
    assert outcomes["refused"] > 200


@pytest.mark.slow
def test_10_000_mutated_files_are_evaluated_or_refused():
    outcomes = Counter()
    for first in range(1000, 11000, BATCH):
        outcomes += run_batch(first, BATCH)
    print(dict(outcomes))
    assert outcomes.total() == 10000


def main(first, count):
    """Run a batch; each seed is printed before it runs, to locate a crash."""
    outcomes = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + count):
            print("seed", seed, flush=True)
            outcomes[outcome_of(mutated_files(seed), Path(folder))] += 1
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
