"""The evaluation benchmark: the numbers of the official tools."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_quick_benchmark_agrees_with_the_official_metrics():
    run = subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks" / "evaluation.py"),
            "--quick",
            "--before",
            str(ROOT),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "130"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    rows = [line.strip("│").split("│") for line in run.stdout.splitlines() if "│" in line]
    by_procedure = {}
    for row in rows:
        cells = [cell.strip() for cell in row]
        by_procedure.setdefault((cells[2], cells[3]), []).append(cells)
    ours, official = by_procedure["AP", "ours"], by_procedure["AP", "official"]
    assert len(ours) == 2
    assert [row[6] for row in ours] == [row[6] for row in official]  # AP
    assert all(0 < float(row[6]) < 100 for row in ours)
    assert all(float(row[7]) < 1e-12 for row in ours)
    assert by_procedure.keys() >= {("HOTA", "ours"), ("HOTA", "before"), ("AP", "before")}
    has_trackeval = importlib.util.find_spec("trackeval") is not None
    assert (("HOTA", "official") in by_procedure) == has_trackeval
