"""Speed of PyTorch and onnxruntime with the same weights, frames and number of threads.

Times ``detect_frames``, from frames to detections of all queries: in PyTorch with the unmodified
model ("plain"), in PyTorch with the model as ``track`` prepares it, and in onnxruntime with the
exported file, interleaved per frame so that other load affects all of them. Prints median, 10th and
90th percentile, ratios of the medians, and the differences of onnxruntime's boxes and scores from
those of plain PyTorch::

    python benchmarks/onnx_speed.py people --size 512x288 --threads 2
    python benchmarks/onnx_speed.py configs/youtube_vis/queryinst_vis_r50_2021.yaml --threads 2
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from queryinst_vis.benchmark.inputs import obtain_weights, render_clip
from queryinst_vis.benchmark.machine import describe_machine
from queryinst_vis.benchmark.timing import run_timed, spread_of
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.cli.arguments import count, size
from queryinst_vis.data.transforms import fit_size, padded_size
from queryinst_vis.errors import run_script
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.onnx_export import export_onnx
from queryinst_vis.inference.optimize import optimize_for_inference
from queryinst_vis.structures import Detections
from queryinst_vis.utils.files import write_json_atomically
from queryinst_vis.utils.progress import show_progress
from queryinst_vis.video.reader import VideoReader

EVERY_QUERY = ["inference.score_threshold=0", "inference.one_label_per_query=true"]
WARM_UP = 3  # frames

Detect = Callable[[list[np.ndarray]], list[Detections]]


def main() -> None:
    """Run the benchmark."""
    arguments = _parse_arguments()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    result = _benchmark(arguments)
    _print(result)
    if arguments.json is not None:
        write_json_atomically(arguments.json, result)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a config YAML (random weights), or weights by file or name"
    )
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value")
    parser.add_argument(
        "--size", type=size, default=(640, 360), metavar="WxH", help="frame size (640x360)"
    )
    parser.add_argument(
        "--frames", type=count, default=20, metavar="N", help="number of timed frames (20)"
    )
    parser.add_argument(
        "--threads", type=count, metavar="N", help="number of threads (default: PyTorch's)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of random weights and the clip (0)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all measurements")
    return parser.parse_args()


def _benchmark(arguments: argparse.Namespace) -> dict[str, Any]:
    import onnxruntime

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = obtain_weights(arguments.model, arguments.overrides, arguments.seed, folder)
        overrides = [*EVERY_QUERY, *arguments.overrides]
        detectors, network_input = _build_detectors(weights, overrides, arguments.size, folder)
        clip = render_clip(arguments.size, WARM_UP + arguments.frames, arguments.seed, folder)
        times, differences = _measure(detectors, VideoReader(clip))
    machine = describe_machine(torch.device("cpu"), torch.float32, None)
    machine["versions"]["onnxruntime"] = onnxruntime.__version__
    return {
        "model": arguments.model,
        "network_input": network_input,
        "machine": machine,
        "seconds": times,
        "differences": differences,
    }


def _build_detectors(
    weights: Path, overrides: list[str], frame_size: tuple[int, int], folder: Path
) -> tuple[dict[str, Detect], str]:
    """The detectors by name, and the size of the network input."""
    model, config = load_model(weights, "cpu", overrides)
    width, height = frame_size
    fitted = fit_size(height, width, config.input.test_short, config.input.test_long)
    input_height, input_width = padded_size([fitted])
    export_onnx(model, config, folder / "model.onnx", input_height, input_width)
    onnx = Detector.from_pretrained(folder / "model.onnx")
    prepared = Detector(*optimize_for_inference(copy.deepcopy(model), config))
    detectors: dict[str, Detect] = {
        "PyTorch, plain": Detector(model, config).detect_frames,
        "PyTorch, as track": prepared.detect_frames,
        "onnxruntime": onnx.detect_frames,
    }
    return detectors, f"{input_width}x{input_height}"


def _measure(
    detectors: dict[str, Detect], reader: VideoReader
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds per frame of each, and the largest differences of onnxruntime's detections."""
    times: dict[str, list[float]] = {name: [] for name in detectors}
    differences = {"boxes": 0.0, "scores": 0.0}
    cpu = torch.device("cpu")
    for index, frame in enumerate(show_progress(list(reader), "Timing")):
        detections = {}
        for name, detect in detectors.items():
            seconds, (detections[name],) = run_timed(partial(detect, [frame]), cpu)
            if index >= WARM_UP:
                times[name].append(seconds)
        plain, exported = detections["PyTorch, plain"], detections["onnxruntime"]
        for name, largest in differences.items():
            difference = (getattr(plain, name) - getattr(exported, name)).abs().max().item()
            differences[name] = max(largest, difference)
    return times, differences


def _print(result: dict[str, Any]) -> None:
    machine, console = result["machine"], Console()
    versions = {name: machine["versions"][name] for name in ("torch", "onnxruntime")}
    table = Table("", "median ms", "p10", "p90", "frames/s", "speed-up over plain")
    spreads = {name: spread_of(seconds) for name, seconds in result["seconds"].items()}
    plain = spreads["PyTorch, plain"]["median_ms"]
    for name, spread in spreads.items():
        median = spread["median_ms"]
        values = (median, spread["p10_ms"], spread["p90_ms"], 1000 / median)
        table.add_row(name, *(f"{value:.1f}" for value in values), f"{plain / median:.2f}")
    console.print(
        f"{result['model']}, network input {result['network_input']}, {machine['device_name']}, "
        f"{machine['threads']} threads on {machine['cores']} cores, "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
        highlight=False,
    )
    console.print(table)
    largest = result["differences"]
    console.print(
        f"onnxruntime against plain PyTorch: boxes differ by {largest['boxes']:.2g} pixels at "
        f"most, scores by {largest['scores']:.2g}",
        highlight=False,
    )


if __name__ == "__main__":
    run_script(main)
