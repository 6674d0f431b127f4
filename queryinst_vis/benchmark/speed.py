"""The benchmark: times of each stage in one run, relative to the machine's peak performance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from queryinst_vis.benchmark.flops import count_flops
from queryinst_vis.benchmark.inputs import (
    config_hash,
    endless_batches,
    obtain_weights,
    render_clip,
    weights_hash,
)
from queryinst_vis.benchmark.machine import (
    describe_machine,
    load_average,
    measure_peak,
    reservations,
)
from queryinst_vis.benchmark.model import BenchmarkModel
from queryinst_vis.benchmark.timing import run_timed, spread_of
from queryinst_vis.utils.files import temporary_folder
from queryinst_vis.utils.progress import show_progress
from queryinst_vis.video.frames import Selection
from queryinst_vis.video.source import Source, SourceLike, open_source

_PARTS = 3  # parts of the timed loop, each followed by an end-to-end run
_WARM_UP_FRAMES = 2


@dataclass(frozen=True)
class Settings:
    """Benchmark settings.

    Attributes:
        size: width and height of the rendered clip in pixels.
        frames: minimum number of timed frames per stage.
        batch: batch size in frames.
        threads: number of PyTorch threads; None: PyTorch's default.
        device: ``"auto"``: the accelerator if there is one.
        video: source to use instead of a rendered clip, not live; repeated if it is too short.
        seed: random seed of the clip, and of random weights.
    """

    size: tuple[int, int] = (640, 360)
    frames: int = 20
    batch: int = 1
    threads: int | None = None
    device: str = "auto"
    video: SourceLike | None = None
    seed: int = 0


def benchmark(
    model: str | Path, settings: Settings, overrides: list[str] | None = None
) -> dict[str, Any]:
    """Time a model from network input to written video.

    After a warm-up, the timings of backbone and FPN, of the model, and of the model with pre- and
    postprocessing are interleaved batch by batch, with end-to-end runs in between, so that other
    load on the machine affects all of them equally. The machine's peak is measured before and
    after, and the higher value is used. End to end includes work that is done once per video, such
    as the timeline, so the time per frame decreases with the number of frames.

    Args:
        model: name or file of weights, or a config for random weights.
        settings: benchmark settings.
        overrides: dotlist overrides of the config.

    Returns:
        The content of ``--json``: setup of the run, ``rows`` by stage with every time (in seconds
        per frame), ``end_to_end_over_model``, and ``peak``.

    Raises:
        InputError: the model, the video or a setting is invalid.
    """
    overrides = overrides or []
    load = load_average()  # before this process adds to it
    batches = max(-(-settings.frames // settings.batch), _PARTS)
    frames = batches * settings.batch
    with temporary_folder() as folder, _threads(settings.threads):
        weights = obtain_weights(model, overrides, settings.seed, folder)
        measured = BenchmarkModel(weights, settings.device, overrides)
        machine = describe_machine(measured.device, measured.dtype, load)
        video = settings.video or render_clip(settings.size, frames, settings.seed, folder)
        source = open_source(video, Selection(max_frames=frames))
        warm_up = open_source(video, Selection(max_frames=_WARM_UP_FRAMES))
        first = next(endless_batches(source, settings.batch))
        flops = _warm_up(measured, warm_up, first, folder)
        before = measure_peak(measured.device, measured.dtype)
        times, instances = _measure(measured, source, batches, settings.batch, folder)
        after = measure_peak(measured.device, measured.dtype)
        images, _ = measured.prepare(first)
        fingerprints = {"config": config_hash(measured.config), "weights": weights_hash(weights)}
    peak = {name: {"before": before[name], "after": after[name]} for name in before}
    limit = max(*before.values(), *after.values())
    rows = {name: _row(times[name], flops.get(name), limit) for name in times}
    ratio = rows["end_to_end"]["median_ms"] / rows["model"]["median_ms"]
    return {
        "name": Path(model).stem,
        "device": machine["device_name"],
        "fps": 1000 / rows["end_to_end"]["median_ms"],
        "machine": machine,
        "reservations": reservations(machine),
        "fingerprints": fingerprints,
        "settings": {
            "overrides": overrides,
            "seed": settings.seed,
            "frames": frames,
            "batch": settings.batch,
            "frame_height": first[0].shape[0],
            "frame_width": first[0].shape[1],
            "input_height": images.shape[2],
            "input_width": images.shape[3],
            "instances_per_frame": instances,
        },
        "rows": rows,
        "end_to_end_over_model": ratio,
        "peak": {**peak, "gflop_per_s": limit},
    }


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Set the number of PyTorch threads temporarily."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stages(measured: BenchmarkModel, frames: list[np.ndarray]) -> dict[str, Callable[[], Any]]:
    """The timed calls for a batch of frames, by stage."""
    images, image_sizes = measured.prepare(frames)
    return {
        "backbone_fpn": lambda: measured.extract_features(images),
        "model": lambda: measured.detect(images, image_sizes),
        "model_postprocess": lambda: measured.segment(frames),
    }


def _warm_up(
    measured: BenchmarkModel, source: Source, frames: list[np.ndarray], folder: Path
) -> dict[str, float]:
    """Run every stage once.

    Returns:
        Floating-point operations per frame of the stages that only run the network.
    """
    stages = _stages(measured, frames)
    for call in stages.values():
        call()
    measured.track(source, folder / "out", len(frames))
    return {name: count_flops(stages[name]) / len(frames) for name in ("backbone_fpn", "model")}


def _measure(
    measured: BenchmarkModel, source: Source, batches: int, batch: int, folder: Path
) -> tuple[dict[str, list[float]], float]:
    """Seconds per frame by stage, and the mean number of instances per frame."""
    times: dict[str, list[float]] = {}
    instances: list[int] = []
    endless = endless_batches(source, batch)
    for part in range(_PARTS):
        count = batches * (part + 1) // _PARTS - batches * part // _PARTS
        for frames in show_progress(islice(endless, count), "Timing the model", total=count):
            for name, call in _stages(measured, frames).items():
                seconds, found = run_timed(call, measured.device)
                times.setdefault(name, []).append(seconds / batch)
            instances += [len(rles) for rles in found]  # of the last stage
        summary = measured.track(source, folder / "out", batch)
        times.setdefault("end_to_end", []).append(summary.seconds / summary.frames)
    return times, fmean(instances)


def _row(seconds: list[float], flops: float | None, limit: float) -> dict[str, Any]:
    """Result row of a stage; ``limit`` is the machine's peak in GFLOP/s."""
    row: dict[str, Any] = {"seconds_per_frame": seconds, **spread_of(seconds)}
    row["frames_per_s"] = 1000 / row["median_ms"]
    if flops is not None:
        speed = flops / 1e9 * row["frames_per_s"]
        row |= {"gflop_per_frame": flops / 1e9, "gflop_per_s": speed, "of_peak": speed / limit}
    return row
