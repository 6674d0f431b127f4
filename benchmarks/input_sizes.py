"""Speed of weights at several input sizes, relative to other weights.

Times ``detect_frames`` in float32 on the frames of a video, resized to each size; the detectors
take turns on every frame, so that other load affects all of them. Prints the median, 10th and 90th
percentile, and the throughput relative to the first weights and size::

    git show 4983bcf:queryinst_vis/weights/people.safetensors > work/previous.safetensors
    python benchmarks/input_sizes.py street.mp4 work/previous.safetensors people \
        --sizes 512x288 640x360
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import islice, product

import cv2
import torch
from rich.console import Console
from rich.table import Table

from queryinst_vis.benchmark.machine import describe_machine
from queryinst_vis.benchmark.timing import run_timed, spread_of
from queryinst_vis.cli.arguments import count, size
from queryinst_vis.errors import run_script
from queryinst_vis.inference.detector import Detector
from queryinst_vis.utils.progress import show_progress
from queryinst_vis.video.reader import VideoReader

WARM_UP = 3  # frames

Run = tuple[str, tuple[int, int]]
"""Weights, and the input size as (width, height)."""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video")
    parser.add_argument("weights", nargs="+", help="names or files")
    parser.add_argument("--sizes", nargs="+", type=size, required=True, metavar="WxH")
    parser.add_argument("--frames", type=count, default=20, metavar="N", help="(20)")
    parser.add_argument("--threads", type=count, metavar="N", help="(PyTorch's default)")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    detectors = {
        (weights, (width, height)): Detector.from_pretrained(
            weights,
            device="cpu",
            overrides=[f"input.test_long={width}", f"input.test_short={height}"],
        )
        for weights, (width, height) in product(arguments.weights, arguments.sizes)
    }
    report(measure(detectors, arguments.video, arguments.frames))


def measure(detectors: dict[Run, Detector], video: str, frames: int) -> dict[Run, list[float]]:
    """Seconds per frame of each detector."""
    seconds: dict[Run, list[float]] = {run: [] for run in detectors}
    chosen = list(islice(VideoReader(video), WARM_UP + frames))
    for index, frame in enumerate(show_progress(chosen, "Timing")):
        for run, detector in detectors.items():
            image = cv2.resize(frame, run[1])
            spent, _ = run_timed(partial(detector.detect_frames, [image]), torch.device("cpu"))
            if index >= WARM_UP:
                seconds[run].append(spent)
    return seconds


def report(seconds: dict[Run, list[float]]) -> None:
    """Print the machine and a table."""
    machine = describe_machine(torch.device("cpu"), torch.float32, None)
    table = Table("weights", "input", "median ms", "p10", "p90", "relative throughput")
    spreads = {run: spread_of(values) for run, values in seconds.items()}
    first = next(iter(spreads.values()))["median_ms"]
    for (weights, (width, height)), spread in spreads.items():
        times = (f"{spread[name]:.1f}" for name in ("median_ms", "p10_ms", "p90_ms"))
        ratio = f"{first / spread['median_ms']:.2f}"
        table.add_row(weights, f"{width}x{height}", *times, ratio)
    console = Console()
    console.print(
        f"{machine['device_name']}, {machine['threads']} threads on {machine['cores']} cores, "
        f"torch {machine['versions']['torch']}",
        highlight=False,
    )
    console.print(table)


if __name__ == "__main__":
    run_script(main)
