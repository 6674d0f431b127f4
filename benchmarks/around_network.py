"""CPU time per frame of ``track`` without the network: decoding, association, drawing, encoding.

A clip of ten moving objects is rendered by the generator of synthetic videos. Their ground-truth
masks, as 28x28 logits in their boxes, and one embedding each replace the network's output, so that
the steps before and after it have realistic input. Every step is measured separately over all
frames, and then ``track`` as a whole with its default files, with and without the annotated video.
Values are milliseconds of CPU time per frame, summed over all threads, since CPU time depends less
on other load than wall-clock time. One-time costs (opening, the timeline) are excluded from
``track`` by subtracting a short run from a long one.

``--compare CHECKOUT`` measures another checkout of the repository with the same script and clips,
interleaved with this one::

    OMP_NUM_THREADS=1 python benchmarks/around_network.py
    OMP_NUM_THREADS=1 python benchmarks/around_network.py --compare ../main --json around.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import track as show_progress
from rich.table import Column, Table

from queryinst_vis.benchmark.machine import describe_machine, load_average
from queryinst_vis.config import Config
from queryinst_vis.data.synthetic import PRESETS
from queryinst_vis.data.synthetic.render import RenderedFrame, render
from queryinst_vis.data.synthetic.scene import draw_scene
from queryinst_vis.data.transforms import network_input
from queryinst_vis.drawing import Overlay
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.inference.outputs import OutputPlan
from queryinst_vis.inference.result import store
from queryinst_vis.inference.track import run_tracker
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.structures import Detections, Embedding
from queryinst_vis.tracking.tracker import Tracker
from queryinst_vis.utils.allocator import keep_freed_memory
from queryinst_vis.video import VideoReader, VideoWriter
from queryinst_vis.video.cuts import CutDetector
from queryinst_vis.video.frames import Selection
from queryinst_vis.video.source import open_source

ROOT = Path(__file__).resolve().parent.parent
SIZES = ("640x360", "1280x720")
OBJECTS, FPS = 10, 25
_FILES = ("video", "json", "jsonl")  # without the timeline, a one-time cost per video
_MASK_SIZE = 28  # mask logits per side
_EMBEDDING = 128  # channels, as in the track head
_BATCH = 4  # the default of the command
_WARM_UP = 4  # frames
_LOGIT = 8.0  # inside masks


@dataclass(frozen=True)
class NetworkOutput:
    """Network output for a frame: ``(N, ...)`` tensors, as in ``Detections``."""

    boxes: torch.Tensor
    scores: torch.Tensor
    mask_logits: torch.Tensor
    embeddings: torch.Tensor

    def detections(self, size: tuple[int, int]) -> Detections:
        """New detections with unpasted masks, for a frame of ``(height, width)``."""
        return Detections(
            boxes=self.boxes,
            scores=self.scores,
            labels=torch.zeros(len(self.boxes), dtype=torch.int64),
            image_size=size,
            mask_logits=self.mask_logits,
            embeddings=self.embeddings,
            class_names=["object"],
        )


class ReplayDetector:
    """A ``FrameDetector`` that prepares the network input and replays stored outputs."""

    has_track_head = True

    def __init__(self, config: Config, outputs: Iterable[NetworkOutput]) -> None:
        self.config = config
        self._outputs = iter(outputs)

    def detect_frames(
        self, frames: list[np.ndarray], embedding: Embedding | None = "track_head"
    ) -> list[Detections]:
        """See ``FrameDetector``."""
        network_input(frames, self.config)
        return [next(self._outputs).detections(frame.shape[:2]) for frame in frames]


def prepare(size: str, frames: int, folder: Path) -> None:
    """Write a clip and the network output for its frames to ``folder``."""
    width, height = (int(side) for side in size.split("x"))
    demo = PRESETS["demo"]
    settings = replace(
        demo.override(frames=frames, size=(width, height), objects=(OBJECTS, OBJECTS)),
        diameter=demo.diameter,  # with many overlaps
    )
    scene = draw_scene(settings, np.random.default_rng(0))
    random = torch.Generator().manual_seed(0)
    appearance = 3 * torch.randn(OBJECTS, _EMBEDDING, generator=random)
    outputs = []
    with VideoWriter(folder / f"{size}.mp4", FPS) as writer:
        for frame in render(scene, frames, height, width):
            writer.write(frame.image)
            outputs.append(_perfect_output(frame, appearance, random))
    torch.save([vars(output) for output in outputs], folder / f"{size}.pt")


def _perfect_output(
    frame: RenderedFrame, appearance: torch.Tensor, random: torch.Generator
) -> NetworkOutput:
    """Ground truth as network output, by descending score; embeddings have noise."""
    visible = [index for index, pixels in enumerate(frame.visible) if pixels]
    boxes, logits = [], []
    for index in visible:
        mask = (frame.owner == index).astype(np.float32)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        fractions = cv2.resize(
            mask[box[1] : box[3], box[0] : box[2]],
            (_MASK_SIZE, _MASK_SIZE),
            interpolation=cv2.INTER_AREA
            if min(box[2] - box[0], box[3] - box[1]) > _MASK_SIZE
            else 1,
        )
        boxes.append(box)
        logits.append(torch.from_numpy(_LOGIT * (2 * fractions - 1)))
    noise = torch.randn(len(visible), _EMBEDDING, generator=random)
    return NetworkOutput(
        torch.tensor(boxes, dtype=torch.float32),
        torch.linspace(0.99, 0.6, len(visible)),
        torch.stack(logits),
        appearance[visible] + 0.3 * noise,
    )


def measure(size: str, folder: Path) -> dict[str, Any]:
    """Milliseconds of CPU time per frame of every step, and size and PSNR of the video."""
    keep_freed_memory()  # as the commands do
    clip = folder / f"{size}.mp4"
    outputs = [NetworkOutput(**each) for each in torch.load(folder / f"{size}.pt")]
    config = Config()
    # input of the paper's R50, tracking settings of ``track``
    config.input.test_short, config.input.test_long = 360, 640
    config.model.classes = ["object"]
    config.tracking = replace(config.tracking, max_tracks=1000, cut_threshold=4.0)
    frames = list(VideoReader(clip))
    image_size = frames[0].shape[0], frames[0].shape[1]
    tracker = Tracker(config.tracking)
    tracked = [tracker.update(output.detections(image_size)) for output in outputs]
    milliseconds: dict[str, float] = {}

    def time_step(name: str, call: Callable[[Any], object], items: Iterable[Any]) -> None:
        """Mean CPU time of ``call`` per item, after a warm-up."""
        items = iter(items)
        for item, _ in zip(items, range(_WARM_UP), strict=False):
            call(item)
        start, count = time.process_time(), 0
        for item in items:
            call(item)
            count += 1
        milliseconds[name] = 1000 * (time.process_time() - start) / count

    time_step("decode", lambda frame: frame, VideoReader(clip))
    batches = [frames[index : index + _BATCH] for index in range(0, len(frames), _BATCH)]
    time_step("resize and normalise", lambda batch: network_input(batch, config), batches)
    milliseconds["resize and normalise"] /= _BATCH
    time_step("detect cuts", CutDetector(4).is_cut, frames)
    unpasted = [output.detections(image_size) for output in outputs]
    time_step("associate", Tracker(config.tracking).update, unpasted)
    time_step("paste masks", lambda detections: detections.instance_masks(), tracked)
    time_step("encode RLE", lambda detections: detections.rles(), tracked)
    with TrackStore() as tracks:
        time_step("store", lambda detections: store(tracks, detections, 0.0), tracked)
    overlay, drawn = Overlay(["object"]), []
    time_step(
        "draw",
        lambda pair: drawn.append(overlay.draw(*pair)),
        zip(frames, tracked, strict=True),
    )
    with VideoWriter(folder / "encoded.mp4", FPS) as writer:
        start = time.process_time()
        for frame in drawn:
            writer.write(frame)
    # including the frames that the encoder buffers
    milliseconds["encode"] = 1000 * (time.process_time() - start) / len(drawn)
    for name, save in (
        ("track", _FILES),
        ("track --no-video", _FILES[1:]),
    ):
        milliseconds[name] = _track(clip, outputs, config, save, folder)
    return {
        "milliseconds": milliseconds,
        "kilobytes": (folder / "encoded.mp4").stat().st_size / 1000,
        "psnr": _psnr(drawn, VideoReader(folder / "encoded.mp4")),
    }


def _track(
    clip: Path, outputs: list[NetworkOutput], config: Config, save: tuple[str, ...], folder: Path
) -> float:
    """CPU milliseconds per frame of ``track``, from the difference of a long and a short run."""
    seconds = []
    short = len(outputs) // 4
    for frames in (_WARM_UP, short, len(outputs)):
        source = open_source(clip, Selection(max_frames=frames))
        plan = OutputPlan(folder / "out", source, TrackOptions(save=save), overwrite=True)
        tracker = VideoTracker(ReplayDetector(config, outputs))
        start = time.process_time()
        run_tracker(tracker, source, plan, _BATCH)
        seconds.append(time.process_time() - start)
    return 1000 * (seconds[2] - seconds[1]) / (len(outputs) - short)


def _psnr(written: list[np.ndarray], read: Iterable[np.ndarray]) -> float:
    """Peak signal-to-noise ratio of the luma, in decibels."""
    weights = np.array([0.2126, 0.7152, 0.0722], np.float32)
    errors = [
        float((((one.astype(np.float32) - other) @ weights) ** 2).mean())
        for one, other in zip(written, read, strict=True)
    ]
    return float(10 * np.log10(255**2 / np.mean(errors)))


def measure_in_process(checkout: Path, size: str, folder: Path) -> dict[str, Any]:
    """``measure`` with the code of a checkout, in a separate process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", size, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of every value."""
    steps = runs[0]["milliseconds"]
    return {
        "milliseconds": {name: median(run["milliseconds"][name] for run in runs) for name in steps},
        "kilobytes": median(run["kilobytes"] for run in runs),
        "psnr": median(run["psnr"] for run in runs),
    }


def report(results: dict[str, dict[str, dict[str, Any]]]) -> Iterator[Table]:
    """A table per size, with one column per checkout."""
    for size, by_checkout in results.items():
        columns = [Column(name, justify="right") for name in by_checkout]
        table = Table("CPU time per frame, ms", *columns, title=f"{size}, {OBJECTS} instances")
        runs = list(by_checkout.values())
        for name in runs[0]["milliseconds"]:
            if name == "track":
                table.add_section()
            table.add_row(name, *(f"{run['milliseconds'][name]:.2f}" for run in runs))
        table.add_section()
        table.add_row("annotated video, kB", *(f"{run['kilobytes']:.0f}" for run in runs))
        table.add_row("PSNR of its luma, dB", *(f"{run['psnr']:.2f}" for run in runs))
        yield table


def main() -> int:
    """Measure and print."""
    arguments = parse_arguments()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], Path(arguments.measure[1]))))
        return 0
    load = load_average()
    checkouts = {"here": ROOT}
    if arguments.compare is not None:
        checkouts = {arguments.compare.resolve().name: arguments.compare.resolve(), **checkouts}
    sizes = arguments.size or SIZES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in sizes:
            prepare(size, arguments.frames, folder)
        # interleaved, so that other load affects all checkouts alike
        turns = [
            (size, checkout)
            for size in sizes
            for _ in range(arguments.rounds)
            for checkout in checkouts
        ]
        runs: dict[tuple[str, str], list[dict[str, Any]]] = {turn: [] for turn in turns}
        for size, checkout in show_progress(turns, console=Console(stderr=True)):
            runs[size, checkout].append(measure_in_process(checkouts[checkout], size, folder))
    results = {
        size: {checkout: medians(runs[size, checkout]) for checkout in checkouts} for size in sizes
    }
    machine = describe_machine(torch.device("cpu"), torch.float32, load)
    cpu_flags = [name for name, value in torch.cpu.get_capabilities().items() if value is True]
    console = Console(width=100)
    for table in report(results):
        console.print(table)
    console.print(
        f"medians of {arguments.rounds} runs of {arguments.frames} frames; {machine['cores']} "
        f"cores, {machine['device_name']}: {', '.join(cpu_flags)}"
    )
    if arguments.json is not None:
        content = {"machine": {**machine, "cpu_flags": cpu_flags}, "sizes": results}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--compare", type=Path, metavar="CHECKOUT", help="measure this checkout as well"
    )
    parser.add_argument(
        "--size",
        action="append",
        metavar="WxH",
        help=f"frame size; may be repeated (default: {' and '.join(SIZES)})",
    )
    parser.add_argument("--frames", type=int, default=80, metavar="N", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures as JSON")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.frames < 24:
        parser.error("--frames must be 24 or more")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
