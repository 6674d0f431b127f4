"""The evaluation's speed and memory beside the official procedure's, on generated sets.

Sets of two sizes are generated from a seed: KITTI-MOTS (few, long videos with many short tracks)
and YouTube-VIS (many short videos, many classes, up to a hundred predictions each). The official
procedure is that of YouTube-VIS's API: it loads both files, measures every predicted mask, and
takes for each pair of tracks of one class, frame by frame, pycocotools' ``merge`` for intersection
and union and ``area`` for their sizes; see ``official_procedure.py``. Each runs in a process of its
own, on one core, from the files to the metrics. Prints seconds of CPU time, peak memory beyond what
importing took, their ratios, and the largest difference of any metric; exit status 1 when that
exceeds 1e-12::

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py
    python benchmarks/evaluation.py --quick     # two tiny sets, seconds
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from rich.console import Console
from rich.table import Table

TOLERANCE = 1e-12
PROCEDURES = ("official", "ours")


@dataclass(frozen=True)
class SetSize:
    """What a generated set looks like.

    Attributes:
        name: heading in the table.
        videos: how many.
        classes: how many.
        lengths: fewest and most frames of a video.
        size: height and width of a frame in pixels.
        tracks: ground-truth tracks of the whole set.
        predictions: fewest and most predictions of a video.
        shown: frames that show a track, on average; at most the video's length.
        radius: of an object in pixels, the median; half to twice that are usual.
    """

    name: str
    videos: int
    classes: int
    lengths: tuple[int, int]
    size: tuple[int, int]
    tracks: int
    predictions: tuple[int, int]
    shown: int
    radius: float


SETS = (
    SetSize("KITTI-MOTS", 21, 2, (80, 1000), (375, 1242), 750, (20, 75), 51, 30.0),
    SetSize("YouTube-VIS", 300, 40, (20, 36), (720, 1280), 510, (10, 100), 30, 100.0),
)
QUICK_SETS = (
    SetSize("long videos", 2, 2, (60, 80), (90, 160), 12, (8, 10), 20, 10.0),
    SetSize("many classes", 4, 5, (5, 9), (90, 160), 8, (5, 12), 7, 15.0),
)


@dataclass(frozen=True)
class Blob:
    """A star-shaped object that moves in a straight line."""

    start: np.ndarray  # (x, y) in pixels
    step: np.ndarray  # pixels a frame
    radii: np.ndarray  # one for each direction of the outline

    def mask(self, frame: int, size: tuple[int, int], rng: np.random.Generator) -> dict | None:
        """Compressed run lengths, or None where the object is out of sight."""
        angles = np.linspace(0, 2 * np.pi, len(self.radii), endpoint=False)
        radii = self.radii * rng.normal(1, 0.05, len(self.radii))
        outline = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
        outline += self.start + frame * self.step
        outline = outline.clip(0, (size[1], size[0]))
        [rle] = coco_mask.frPyObjects([outline.ravel().tolist()], *size)
        if coco_mask.area(rle) == 0:
            return None
        return {"size": list(size), "counts": rle["counts"].decode("ascii")}


def random_blob(size: SetSize, rng: np.random.Generator) -> Blob:
    """Somewhere in the frame, of any direction and size."""
    height, width = size.size
    radius = size.radius * np.exp(rng.normal(0, 0.5))
    return Blob(
        start=rng.uniform((0, 0), (width, height)),
        step=rng.normal(0, radius / 30, 2),
        radii=radius * rng.uniform(0.7, 1.3, 24),
    )


def perturbed(blob: Blob, rng: np.random.Generator) -> Blob:
    """Nearly the same object, as a good or a mediocre detector would see it."""
    error = rng.choice([0.02, 0.1, 0.3])
    scale = blob.radii.mean() * error
    return Blob(
        start=blob.start + rng.normal(0, scale, 2),
        step=blob.step + rng.normal(0, scale / 30, 2),
        radii=(blob.radii + rng.normal(0, scale, len(blob.radii))).clip(1),
    )


def track_entry(
    blob: Blob, first: int, last: int, length: int, size: SetSize, rng: np.random.Generator
) -> list[dict | None]:
    """One mask or None for each frame; the blob is seen from ``first`` to before ``last``."""
    return [
        blob.mask(frame - first, size.size, rng) if first <= frame < last else None
        for frame in range(length)
    ]


def generate(size: SetSize, seed: int, folder: Path) -> None:
    """Write ``gt.json`` and ``results.json`` into ``folder``, one video at a time."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(*size.lengths, size.videos, endpoint=True).tolist()
    classes = range(1, size.classes + 1)
    shares = np.bincount(rng.integers(0, size.videos, size.tracks), minlength=size.videos)
    annotations = []
    with (folder / "results.json").open("w") as file:
        for video_id, (length, share) in enumerate(zip(lengths, shares.tolist(), strict=True), 1):
            seen = []
            for _ in range(share):
                first = int(rng.integers(0, max(length - size.shown // 2, 1)))
                last = min(first + 1 + int(rng.exponential(size.shown)), length)
                seen.append((random_blob(size, rng), first, last, int(rng.choice(classes))))
            annotations += [
                {
                    "id": len(annotations) + number,
                    "video_id": video_id,
                    "category_id": category,
                    "iscrowd": 0,
                    "segmentations": track_entry(blob, first, last, length, size, rng),
                }
                for number, (blob, first, last, category) in enumerate(seen, start=1)
            ]
            for entry in _predictions(video_id, seen, length, size, rng):
                file.write("[" if file.tell() == 0 else ",\n")
                json.dump(entry, file)
        file.write("]")
    height, width = size.size
    gt = {
        "videos": [
            {"id": number, "height": height, "width": width, "length": length}
            for number, length in enumerate(lengths, start=1)
        ],
        "categories": [{"id": number, "name": f"class {number}"} for number in classes],
        "annotations": annotations,
    }
    (folder / "gt.json").write_text(json.dumps(gt))


def _predictions(
    video_id: int,
    seen: list[tuple[Blob, int, int, int]],
    length: int,
    size: SetSize,
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    """Four of five follow an object, of these some with a wrong class; the rest see things."""
    for _ in range(int(rng.integers(*size.predictions, endpoint=True))):
        category = int(rng.integers(1, size.classes, endpoint=True))
        if seen and rng.random() < 0.8:
            blob, first, last, true_category = seen[rng.integers(len(seen))]
            blob = perturbed(blob, rng)
            first, last = first + int(rng.integers(0, 3)), last - int(rng.integers(0, 3))
            category = true_category if rng.random() < 0.6 else category
        else:
            blob, first = random_blob(size, rng), int(rng.integers(0, length))
            last = min(first + 1 + int(rng.exponential(size.shown)), length)
        yield {
            "video_id": video_id,
            "category_id": category,
            "score": round(float(rng.random()), 3),
            "segmentations": track_entry(blob, first, last, length, size, rng),
        }


def run_procedure(name: str, folder: Path) -> dict[str, Any]:
    """Evaluate ``folder`` in this process: ``{seconds, megabytes, metrics}``.

    Seconds are CPU time, which other work on the machine changes less than the clock's.
    """
    if name == "official":
        from official_procedure import evaluate
    else:
        from queryinst_vis.evaluation import evaluate_youtube_vis as evaluate
    imported = _peak_megabytes()
    start = time.process_time()
    metrics = evaluate(folder / "gt.json", folder / "results.json")
    seconds = time.process_time() - start
    return {"seconds": seconds, "megabytes": _peak_megabytes() - imported, "metrics": metrics}


def _peak_megabytes() -> float:
    """Most memory that this process held so far."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts there what the parent held when it forked
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kilobytes here


def in_process_of_its_own(name: str, folder: Path) -> dict[str, Any]:
    """``run_procedure`` elsewhere, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--run", name, str(folder)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def largest_difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Over the metrics that both have, and the classes; infinite if one lacks a value."""
    pairs = [(a[key], b[key]) for key in a.keys() & b.keys() if key.startswith(("AP", "AR"))]
    pairs += [(a["per_class_AP"][key], b["per_class_AP"][key]) for key in a["per_class_AP"]]
    both = [(x, y) for x, y in pairs if not x is y is None]
    return max(np.inf if None in pair else abs(pair[0] - pair[1]) for pair in both)


def main() -> int:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two tiny sets, to see that it runs")
    parser.add_argument("--seed", type=int, default=0, help="of the sets (default: %(default)s)")
    parser.add_argument("--run", nargs=2, metavar=("PROCEDURE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        name, folder = arguments.run
        print(json.dumps(run_procedure(name, Path(folder))))
        return 0
    table = Table("set", "files, MB", "procedure", "seconds", "memory, MB", "AP", "difference")
    worst = 0.0
    for size in QUICK_SETS if arguments.quick else SETS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            generate(size, arguments.seed, folder)
            megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
            official, ours = (in_process_of_its_own(which, folder) for which in PROCEDURES)
        difference = largest_difference(official["metrics"], ours["metrics"])
        worst = max(worst, difference)
        for which, found in zip(PROCEDURES, (official, ours), strict=True):
            table.add_row(
                *(size.name, f"{megabytes:.0f}", which, f"{found['seconds']:.2f}"),
                *(f"{found['megabytes']:.0f}", f"{100 * found['metrics']['AP']:.2f}", ""),
            )
        speed = official["seconds"] / ours["seconds"]
        memory = official["megabytes"] / max(ours["megabytes"], 1)
        table.add_row("", "", "ratio", f"{speed:.1f}x", f"{memory:.1f}x", "", f"{difference:.1e}")
        table.add_section()
    Console().print(table)
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
