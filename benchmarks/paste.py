"""Speed of pasting and encoding masks: from the detections of a frame to compressed COCO RLE.

Ten instances in 1280x720, with sides of 60 to 500 pixels, some partly outside the frame. Their
masks are smooth, like those of a trained model, or noise, with long outlines. The reference
pastes each mask into a whole frame and encodes it with pycocotools; both are interleaved, and the
exit status is 1 if their results differ::

    OMP_NUM_THREADS=1 python benchmarks/paste.py
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import quantiles

import torch
from rich.console import Console
from rich.table import Column, Table

from queryinst_vis.masks import RLE, encode_rle
from queryinst_vis.structures import Detections

HEIGHT, WIDTH = 720, 1280
TARGET = 10.0  # milliseconds per frame
NOISE = {"smooth": 0.5, "noise": 8.0}  # standard deviation of the noise added to the logits


def draw_detections(count: int, noise: float, seed: int) -> Detections:
    """Round objects of increasing size at random positions."""
    random = torch.Generator().manual_seed(seed)
    side = 60 * (500 / 60) ** torch.linspace(0, 1, count)
    aspect = (torch.rand(count, generator=random) + 0.5).sqrt()
    half = torch.stack([side * aspect, side / aspect], dim=1) / 2
    centre = torch.rand(count, 2, generator=random) * torch.tensor([WIDTH, HEIGHT])
    cells = torch.linspace(-1, 1, 28)
    disc = 8 * (0.8 - cells[:, None] ** 2 - cells**2)
    return Detections(
        boxes=torch.cat([centre - half, centre + half], dim=1),
        scores=torch.ones(count),
        labels=torch.zeros(count, dtype=torch.int64),
        image_size=(HEIGHT, WIDTH),
        mask_logits=disc + noise * torch.randn(count, 28, 28, generator=random),
    )


def full_frame_rles(detections: Detections) -> list[RLE]:
    """The reference: each mask pasted into a full frame and encoded by pycocotools."""
    return [encode_rle(mask) for mask in detections.masks()]


def time_interleaved(methods: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Milliseconds of each function in each round, after a warm-up round."""
    times: list[list[float]] = [[] for _ in methods]
    for _ in range(rounds + 1):
        for method_times, method in zip(times, methods, strict=True):
            start = time.perf_counter()
            method()
            method_times.append(1000 * (time.perf_counter() - start))
    return [method_times[1:] for method_times in times]


def main() -> int:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--instances", type=int, default=10, metavar="N")
    parser.add_argument("--rounds", type=int, default=50, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    numbers = ("median, ms", "10 %", "90 %", "ms per instance", "target, ms")
    table = Table("masks", "method", *(Column(name, justify="right") for name in numbers))
    same = True
    for kind, noise in NOISE.items():
        detections = draw_detections(arguments.instances, noise, arguments.seed)
        same &= detections.rles() == full_frame_rles(detections)
        methods = {"plain": lambda d=detections: full_frame_rles(d), "ours": detections.rles}
        for name, times in zip(
            methods, time_interleaved([*methods.values()], arguments.rounds), strict=True
        ):
            tenths = quantiles(times, n=10, method="inclusive")
            cells = (tenths[4], tenths[0], tenths[8], tenths[4] / arguments.instances)
            target = f"{TARGET:g}" if name == "ours" else ""
            table.add_row(kind, name, *(f"{value:.2f}" for value in cells), target)
    console = Console()
    console.print(table)
    console.print(f"{arguments.instances} instances in {WIDTH}x{HEIGHT}")
    console.print("identical RLEs" if same else "DIFFERENT RLEs")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
