"""The evaluation's benchmark runs, and finds the official procedure's numbers."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_quick_benchmark_finds_no_difference():
    run = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "evaluation.py"), "--quick"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    rows = [line.strip("│").split("│") for line in run.stdout.splitlines() if "│" in line]
    by_procedure = {}
    for row in rows:
        cells = [cell.strip() for cell in row]
        by_procedure.setdefault(cells[2], []).append(cells)
    ours, official = by_procedure["ours"], by_procedure["official"]
    assert len(ours) == 2
    assert [row[5] for row in ours] == [row[5] for row in official]  # AP
    assert all(0 < float(row[5]) < 100 for row in ours)
    assert all(float(row[6]) < 1e-12 for row in by_procedure["ratio"])
