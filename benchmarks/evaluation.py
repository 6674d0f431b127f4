"""CPU time and peak memory of the evaluation compared with the official procedures.

Two sets are generated from a seed: KITTI-MOTS (few long videos with many short tracks) and
YouTube-VIS (many short videos, many classes, up to a hundred predictions each). The official
procedure for AP is that of the YouTube-VIS API (``official_procedure.py``): it loads both files,
measures every predicted mask and, for each pair of tracks of a class and each frame, calls
pycocotools' ``merge`` for intersection and union and ``area`` for their sizes. The official
procedure for HOTA and IDF1 is the package trackeval (``official_tracking.py``), if it is installed.
Each runs in its own process on one core, from the files to the metrics. Prints CPU seconds, peak
memory beyond that of the imports, ratios to the official procedure, and the largest difference
of any metric. The exit status is 1 if a difference exceeds 1e-12 (tracking: 1e-9)::

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py
    OMP_NUM_THREADS=1 python benchmarks/evaluation.py --repeat 3 --before ../other/checkout
    python benchmarks/evaluation.py --quick     # two tiny sets, seconds
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from evaluation_sets import QUICK_SETS, SETS, generate
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
TOLERANCES = {"AP": 1e-12, "HOTA": 1e-9}
"""Maximum allowed difference of a metric, by task."""


@dataclass(frozen=True)
class Procedure:
    """An implementation to measure.

    Attributes:
        name: "official", "ours" or "before".
        task: a key of ``TOLERANCES``.
        checkout: the repository whose package is imported.
    """

    name: str
    task: str
    checkout: Path = ROOT

    def measure(self, folder: Path) -> dict[str, Any]:
        """``run`` in a separate process, so that its peak memory can be measured."""
        which = "official" if self.name == "official" else "ours"
        command = [sys.executable, __file__, "--run", which, self.task, str(folder)]
        others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        paths = os.pathsep.join([str(self.checkout.resolve()), *filter(None, others)])
        environment = {**os.environ, "PYTHONPATH": paths}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
        return json.loads(done.stdout.splitlines()[-1])


def run(which: str, task: str, folder: Path) -> dict[str, Any]:
    """Evaluate ``folder`` in this process: ``{seconds, megabytes, metrics}``.

    Seconds are CPU time, which depends less on other load than wall-clock time.
    """
    files = folder / "gt.json", folder / "results.json"
    if which == "ours":
        import queryinst_vis
        from queryinst_vis.evaluation import evaluate_tracking, evaluate_youtube_vis

        checkout, *_ = os.environ["PYTHONPATH"].split(os.pathsep)
        if Path(checkout) not in Path(queryinst_vis.__file__).resolve().parents:
            sys.exit(f"{checkout} does not contain the package queryinst_vis")
        evaluate, arguments = (
            (evaluate_youtube_vis, files) if task == "AP" else (evaluate_tracking, files)
        )
    elif task == "AP":
        from official_procedure import evaluate

        arguments = files
    else:
        from official_tracking import evaluate

        arguments = (folder,)
    after_imports = _peak_megabytes()
    start = time.process_time()
    metrics = evaluate(*arguments)
    seconds = time.process_time() - start
    megabytes = _peak_megabytes() - after_imports
    return {"seconds": seconds, "megabytes": megabytes, "metrics": metrics}


def _peak_megabytes() -> float:
    """Peak resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux' getrusage includes the parent's memory at fork
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (
        2**20 if sys.platform == "darwin" else 2**10
    )  # bytes on macOS, kilobytes elsewhere


def values(task: str, metrics: dict[str, Any]) -> dict[str, float | None]:
    """The metrics to compare, by name."""
    if task == "HOTA":
        return metrics.get("class_averaged", metrics)
    summary = {key: value for key, value in metrics.items() if key.startswith(("AP", "AR"))}
    return {**summary, **metrics["per_class_AP"]}


def largest_difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Largest absolute difference of common metrics; infinite if only one is defined."""
    pairs = [(a[key], b[key]) for key in a.keys() & b.keys()]
    both = [(x, y) for x, y in pairs if not x is y is None]
    return max(np.inf if None in pair else abs(pair[0] - pair[1]) for pair in both)


def measure(procedures: list[Procedure], folder: Path, repeat: int) -> list[dict[str, Any]]:
    """Run the procedures ``repeat`` times, interleaved; keep the fastest run of each."""
    rounds = [[each.measure(folder) for each in procedures] for _ in range(repeat)]
    return [min(runs, key=lambda result: result["seconds"]) for runs in zip(*rounds, strict=True)]


def main() -> int:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two tiny sets, as a smoke test")
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of the sets (default: %(default)s)"
    )
    parser.add_argument(
        "--before",
        type=Path,
        metavar="DIR",
        help="also measure another checkout of this repository",
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=1,
        metavar="N",
        help="alternate N runs of each and print the fastest (default: %(default)s)",
    )
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        which, task, name = arguments.run
        print(json.dumps(run(which, task, Path(name))))
        return 0
    has_trackeval = importlib.util.find_spec("trackeval") is not None
    table = Table(
        "set", "files, MB", "task", "procedure", "CPU, s", "memory, MB", "score", "difference"
    )
    failed = False
    for size in QUICK_SETS if arguments.quick else SETS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            generate(size, arguments.seed, folder)
            megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
            if has_trackeval:
                from official_tracking import prepare

                prepare(folder)
            for task, tolerance in TOLERANCES.items():
                procedures = [Procedure("ours", task)]
                if task == "AP" or has_trackeval:
                    procedures.insert(0, Procedure("official", task))
                if arguments.before:
                    procedures.append(Procedure("before", task, arguments.before))
                results = measure(procedures, folder, arguments.repeat)
                first = results[0]
                for procedure, result in zip(procedures, results, strict=True):
                    scores = values(task, result["metrics"])
                    cells = [f"{result['seconds']:.2f}", f"{result['megabytes']:.0f}"]
                    difference = largest_difference(values(task, first["metrics"]), scores)
                    failed |= difference > tolerance
                    if procedures[0].name == "official" != procedure.name:
                        cells[0] += f" ({first['seconds'] / result['seconds']:.1f}x)"
                        cells[1] += f" ({result['megabytes'] / first['megabytes']:.2f}x)"
                    table.add_row(
                        *(size.name, f"{megabytes:.0f}", task, procedure.name, *cells),
                        *(f"{100 * scores[task]:.2f}", f"{difference:.1e}"),
                    )
            table.add_section()
    Console().print(table)
    if not has_trackeval:
        print("trackeval is not installed: no reference for HOTA (pip install trackeval)")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
