"""Short GPU benchmark: parity with the CPU, speed, and a profile.

Writes a JSON file part by part, so that an interrupted run keeps its measurements::

    python benchmarks/cuda.py --out cuda.json
    python benchmarks/cuda.py --out cuda.json --only parity,network
    python benchmarks/cuda.py --out cpu.json --device cpu --frames 4      # tests the script

Parts: ``parity`` (identities, boxes and masks of the CPU and of the GPU, float32 and bf16),
``network`` (every stage, launched one by one and as a CUDA graph, at several batch sizes; launches,
busy time and synchronisations per frame; peak memory), ``end_to_end`` (``track``, with and without
the annotated video), ``training`` (images per second). The error of a failed part is recorded, and
the others continue. Needs no data: clips are rendered and the R50's weights are random.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch.profiler import ProfilerActivity, profile

from queryinst_vis.benchmark.inputs import render_clip, save_random_weights
from queryinst_vis.benchmark.machine import describe_machine, load_average
from queryinst_vis.benchmark.timing import run_timed
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.config import Config
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.optimize import optimize_for_inference
from queryinst_vis.inference.precision import inference_dtype
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.video.reader import VideoReader

ROOT = Path(__file__).resolve().parent.parent
R50 = ROOT / "configs/youtube_vis/queryinst_vis_r50_2019.yaml"
BATCHES = (1, 8, 32)
PRECISIONS = ("32-true", "bf16-mixed")
_WARM_UP = 3  # batches: launched one by one, captured as a graph, replayed
_PROFILED = 3  # batches


class Session:
    """Shared by all parts: the device, the clips and the weights.

    Args:
        device: device of the network.
        frames: number of frames per measurement.
        folder: folder for clips and weights.
    """

    def __init__(self, device: str, frames: int, folder: Path) -> None:
        self.device = torch.device(device)
        self.frames = frames
        self.folder = folder
        self.shapes_clip = render_clip((384, 240), min(frames, 60), 0, folder / "shapes")
        self.clip = render_clip((640, 360), frames, 1, folder / "large")
        self.r50 = folder / "r50.safetensors"
        save_random_weights(self.r50, R50, [], 0)

    def model(self, weights: str | Path, *overrides: str) -> tuple[QueryInst, Config]:
        """The model as run by ``track``, keeping all queries."""
        keep_all = ["inference.score_threshold=0", "inference.one_label_per_query=true"]
        model, config = load_model(weights, self.device, [*keep_all, *overrides])
        return optimize_for_inference(model, config)

    def milliseconds(self, call: Callable[[], object], calls: int) -> float:
        """The median time of a call, including all work on the device."""
        return 1000 * median(run_timed(call, self.device)[0] for _ in range(calls))


def parity(session: Session) -> dict[str, Any]:
    """The shapes clip on the CPU in float32, against the device in each precision."""
    expected = _tracks(session, "cpu", "32-true")
    return {
        precision: _compare(expected, _tracks(session, str(session.device), precision))
        for precision in PRECISIONS
    }


def _tracks(session: Session, device: str, precision: str) -> list[dict[str, Any]]:
    overrides = ["inference.score_threshold=0.3", f"inference.precision={precision}"]
    tracker = VideoTracker.from_pretrained("shapes", device, overrides)
    return [
        {
            "ids": detections.track_ids.tolist(),
            "boxes": detections.boxes.numpy(),
            "rles": detections.rles(),
        }
        for _, detections in tracker.stream(session.shapes_clip)
    ]


def _compare(expected: list[dict[str, Any]], actual: list[dict[str, Any]]) -> dict[str, Any]:
    """Agreement of two runs: identities, and boxes and masks in frames with the same identities."""
    same = [(a, b) for a, b in zip(expected, actual, strict=True) if a["ids"] == b["ids"]]
    boxes = [np.abs(a["boxes"] - b["boxes"]).max() for a, b in same if a["ids"]]
    ious = [
        float(coco_mask.iou([one], [other], [0])[0, 0])
        for a, b in same
        for one, other in zip(a["rles"], b["rles"], strict=True)
        if coco_mask.area(one) or coco_mask.area(other)
    ]
    return {
        "frames": len(expected),
        "frames_with_equal_ids": len(same),
        "largest_box_difference_px": float(max(boxes, default=0.0)),
        "mean_mask_iou": float(np.mean(ious)) if ious else None,
        "lowest_mask_iou": min(ious, default=None),
    }


def network(session: Session) -> dict[str, Any]:
    """Stages of ``people`` and the R50 in milliseconds per frame."""
    rows: dict[str, Any] = {}
    for name, weights in (("people", "people"), ("r50", session.r50)):
        for precision in PRECISIONS:
            model, config = session.model(weights, f"inference.precision={precision}")
            for batch in BATCHES:
                key = f"{name} {precision} batch {batch}"
                print("  ", key, flush=True)
                rows[key] = _time_network(session, model, config, batch)
            del model
            gc.collect()
    return rows


def _time_network(
    session: Session, model: QueryInst, config: Config, batch: int
) -> dict[str, float]:
    frames = [frame for frame, _ in zip(VideoReader(session.clip), range(batch), strict=False)]
    frames = (frames * batch)[:batch]
    calls = max(session.frames // batch, 3)
    detector = Detector(model, config)

    def detect() -> object:
        return detector.detect_frames(frames, "track_head")

    row: dict[str, float] = {}
    on_gpu = session.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        row["launched_one_by_one_ms"] = session.milliseconds(detect, 1) / batch
    for _ in range(_WARM_UP):
        detect()
    row["network_and_postprocess_ms"] = session.milliseconds(detect, calls) / batch
    row["frames_per_s"] = 1000 / row["network_and_postprocess_ms"]
    images = torch.zeros(batch, 3, 384, 640, device=session.device)
    dtype = inference_dtype(config)
    with (
        torch.inference_mode(),
        torch.autocast(session.device.type, dtype, enabled=dtype != torch.float32),
    ):
        model.extract_features(images)
        backbone = session.milliseconds(lambda: list(model.extract_features(images)), calls)
    row["backbone_and_fpn_eager_ms"] = backbone / batch
    if on_gpu:
        row["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        row |= _profile(detect, batch)
        row["implicit_synchronisations_per_batch"] = _count_synchronisations(detect)
    return row


def _count_synchronisations(detect: Callable[[], object]) -> int:
    """Number of operations per batch that wait for the GPU, except the copy of the results."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            detect()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def _profile(detect: Callable[[], object], batch: int) -> dict[str, float]:
    """Kernel launches, busy time and waits per frame, from the profiler."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as record:
        for _ in range(_PROFILED):
            detect()
        torch.cuda.synchronize()
    events = record.key_averages()
    frames = _PROFILED * batch

    def total(*words: str) -> float:
        return sum(e.count for e in events if any(word in e.key for word in words)) / frames

    return {
        "launches_per_frame": total("LaunchKernel", "GraphLaunch"),
        "synchronisations_per_frame": total("Synchronize"),
        "copies_per_frame": total("cudaMemcpy"),
        "gpu_busy_ms_per_frame": sum(e.self_device_time_total for e in events) / 1000 / frames,
    }


def end_to_end(session: Session) -> dict[str, Any]:
    """Frames per second of ``track`` on the 640x360 clip, in a separate process."""
    rows: dict[str, Any] = {}
    for name, weights in (("people", "people"), ("r50", str(session.r50))):
        for what, options in (("with video", []), ("without video", ["--no-video"])):
            out = session.folder / f"{name}_{what}".replace(" ", "_")
            command = [
                *(sys.executable, str(ROOT / "demo/track_video.py"), str(session.clip)),
                *("--weights", weights, "--out", str(out), "--device", str(session.device)),
                *("--batch", "8", "--score-threshold", "0.05", *options),
                "inference.precision=bf16-mixed",
            ]
            rows[f"{name} {what}"] = _run(command)
    return rows


def training(session: Session) -> dict[str, Any]:
    """Seconds and images per second of training steps, slim and R50, on synthetic videos."""
    folder = session.folder / "train"
    convert = ("synthetic", str(folder), "--preset", "train", "--videos", "40", "--frames", "6")
    _run([sys.executable, str(ROOT / "tools/convert_dataset.py"), *convert, "--seed", "3"])
    names = "[circle,square,triangle,star,cross,ring]"
    rows: dict[str, Any] = {}
    for name, config, batch in (
        ("slim", ROOT / "configs/shapes.yaml", 16),
        ("r50", R50, 16),
    ):
        work_dir = session.folder / f"run_{name}"
        command = [
            *(sys.executable, str(ROOT / "tools/train.py"), str(config)),
            *("--work-dir", str(work_dir), "--devices", "1"),
            f"data.train.annotations={folder}/youtube_vis.json",
            f"data.train.images={folder}/frames",
            "data.train_extra=[]",
            "data.val={annotations: null, images: null}",
            "data.test={annotations: null, images: null}",
            *("train.init_weights=null", "model.backbone.weights=null"),
            *(f"model.classes={names}", f"train.batch_size={batch}", "train.log_every=10"),
            *("train.max_steps=40", "train.precision=bf16-mixed", "data.num_workers=12"),
        ]
        rows[name] = _run(command) | _last_speed(work_dir / "metrics.csv", batch)
    return rows


def _last_speed(path: Path, batch: int) -> dict[str, float]:
    if not path.exists():
        return {}
    rows = [line.split(",") for line in path.read_text().splitlines()]
    seconds = [float(row[-1]) for row in rows if "seconds_per_step" in row]
    if not seconds:
        return {}
    return {"seconds_per_step": seconds[-1], "images_per_s": batch / seconds[-1]}


def _run(command: list[str]) -> dict[str, Any]:
    """Run a command; return its last output and its duration."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return {
        "exit_status": done.returncode,
        "seconds": time.perf_counter() - start,
        "output": lines[-12:],
    }


PARTS: dict[str, Callable[[Session], dict[str, Any]]] = {
    "parity": parity,
    "network": network,
    "end_to_end": end_to_end,
    "training": training,
}


def main() -> int:
    """Measure and write; exit status 1 if a part failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON to write")
    parser.add_argument("--device", default="cuda", metavar="D", help="default: %(default)s")
    parser.add_argument(
        "--frames", type=int, default=240, metavar="N", help="timed frames (default: %(default)s)"
    )
    parser.add_argument("--only", default=",".join(PARTS), metavar="PART,...")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"--only: {', '.join(sorted(unknown))}: choose from: {', '.join(PARTS)}")
    load = load_average()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    failed = False
    with tempfile.TemporaryDirectory() as name:
        session = Session(arguments.device, arguments.frames, Path(name))
        report: dict[str, Any] = {
            "machine": describe_machine(session.device, torch.float32, load),
            "parts": {},
        }
        for part in chosen:
            print(part, flush=True)
            start = time.perf_counter()
            try:
                found = PARTS[part](session)
            except Exception:  # GPU time is scarce: continue with the other parts
                failed, found = True, {"failed": traceback.format_exc(limit=6)}
            report["parts"][part] = {"seconds": time.perf_counter() - start, **found}
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"wrote {arguments.out}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
