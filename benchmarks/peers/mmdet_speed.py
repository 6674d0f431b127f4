"""Speed compared with mmdetection, with the same weights and the same frame, interleaved.

mmdetection's R50 QueryInst with 80 classes and random weights, and ours with the converted weights,
process a random frame of 640x360 padded to 640x384, in float32, with batch size 1: from network
input to the mask logits of as many instances as there are queries, and to pasted masks. Prints the
differences of boxes and masks, to show that both do the same work; exit status 1 if they exceed
rounding errors. (The comparison is in float32, even if overrides such as
``inference.precision=bf16-mixed`` change the model that is timed.)

mmdetection's R50 MaskTrack R-CNN with 40 classes, also with random weights, detects and tracks 10
instances in the same frame, compared with ours with a track head, tracker and pasted masks. These
are different networks for the same task. With random weights, every class of every proposal would
be a candidate for MaskTrack R-CNN's NMS, which takes time that a trained model does not need;
therefore its score threshold is set such that 200 candidates pass.

If the packages of the extra ``openvino`` are installed, ours also runs in OpenVINO, in float32 and
int8 (calibrated with noise, since the time does not depend on the ranges of activations).

Ratios are those of CPU time, summed over all threads, or of wall-clock time with ``--wall``, which
requires an idle machine. The environment is that of ``mmdet_parity.py``::

    python benchmarks/peers/mmdet_speed.py --queries 10 --threads 2
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.bbox import bbox2roi
from mmdet_parity import build_theirs
from mmengine.hub import get_config
from mmengine.structures import InstanceData
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor, nn

from queryinst_vis.benchmark.machine import describe_machine, load_average, reservations
from queryinst_vis.benchmark.timing import spread_of
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.checkpoints.openmmlab import convert_state_dict
from queryinst_vis.checkpoints.openmmlab_config import infer_config
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.config import Config
from queryinst_vis.inference.openvino_export import export_openvino
from queryinst_vis.inference.openvino_model import load_openvino_model
from queryinst_vis.inference.optimize import optimize_for_inference
from queryinst_vis.inference.precision import inference_dtype
from queryinst_vis.models.build import build_model
from queryinst_vis.models.postprocess import SetPredictor, detect
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.structures import Detections
from queryinst_vis.tracking.tracker import Tracker
from queryinst_vis.utils.files import write_json_atomically
from queryinst_vis.utils.progress import show_progress

SIZE = (360, 640)  # of the frame
PADDED = (384, 640)
TRACKED = 10  # instances that MaskTrack R-CNN keeps
CANDIDATES = 200  # of its NMS
TOLERANCE = {"boxes": 1e-2, "scores": 1e-4, "mask logits": 1e-3}  # boxes in pixels
META = {
    "img_shape": SIZE,
    "ori_shape": SIZE,
    "pad_shape": PADDED,
    "batch_input_shape": PADDED,
    "scale_factor": (1.0, 1.0),
}


@dataclass
class TheirDetections:
    """mmdetection's output for the frame, by descending score.

    Attributes:
        boxes: ``(N, 4)`` xyxy in pixels.
        scores: ``(N,)``.
        labels: ``(N,)``.
        mask_logits: ``(N, 28, 28)``.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_logits: Tensor


class TheirQueryInst:
    """mmdetection's model, keeping as many instances as there are queries."""

    def __init__(self, queries: int) -> None:
        self.model = build_theirs(queries)
        self.model.roi_head.test_cfg.max_per_img = queries

    def detect(self, image: Tensor) -> TheirDetections:
        """From network input to mask logits: ``predict`` without its pasting."""
        head = self.model.roi_head
        features = self.model.extract_feat(image)
        proposals = self.model.rpn_head.predict(features, [DetDataSample(metainfo=META)])
        [boxes] = head.predict_bbox(features, [META], proposals, head.test_cfg)
        rois, last = bbox2roi([boxes.proposals]), head.num_stages - 1
        masks = head._mask_forward(last, features, rois, boxes.attn_feats[None])["mask_preds"]
        values = (boxes.bboxes, boxes.scores, boxes.labels, masks.flatten(0, 1)[boxes.topk_inds])
        order = boxes.scores.argsort(descending=True)
        return TheirDetections(*(value[order] for value in values))

    def paste(self, image: Tensor) -> InstanceData:
        """From network input to masks of the frame."""
        [sample] = self.model.predict(image, [DetDataSample(metainfo=META)], rescale=False)
        return sample.pred_instances


class TheirMaskTrack:
    """mmdetection's MaskTrack R-CNN; every call processes the next frame of a video."""

    def __init__(self) -> None:
        name = "masktrack-rcnn_mask-rcnn_r50_fpn_8xb1-12e_youtubevis2019"
        config = get_config(f"mmdet::masktrack_rcnn/{name}.py").model
        config.detector.init_cfg = config.detector.backbone.init_cfg = None  # no downloads
        self.model = MODELS.build(config)
        self.model.init_weights()
        self.model.eval()
        self.limits = self.model.detector.roi_head.test_cfg
        self.limits.max_per_img = TRACKED
        self.frames = 0

    def limit_candidates(self, image: Tensor) -> None:
        """Set the score threshold such that ``CANDIDATES`` pass."""
        detector = self.model.detector
        features = detector.extract_feat(image)
        proposals = detector.rpn_head.predict(features, [DetDataSample(metainfo=META)])
        rois = bbox2roi([each.bboxes for each in proposals])
        logits = detector.roi_head._bbox_forward(features, rois)["cls_score"]
        scores = logits.softmax(dim=1)[:, :-1].flatten()
        self.limits.score_thr = scores.topk(CANDIDATES).values[-1].item()

    def track(self, image: Tensor) -> InstanceData:
        """From network input to masks of the frame with identities."""
        frame = DetDataSample(metainfo={**META, "frame_id": self.frames})
        self.frames += 1
        clip = TrackDataSample(video_data_samples=[frame])
        [tracked] = self.model.predict(image[:, None], [clip])
        return tracked[0].pred_track_instances


class Ours:
    """Our model with their weights, in one of its runtimes.

    Args:
        model: the model.
        config: its config.
        track: one label per query, with a track head.
    """

    def __init__(self, model: SetPredictor, config: Config, track: bool) -> None:
        self.model, self.config, self.track_head = model, config, track
        self.dtype = inference_dtype(config)
        self.tracker = Tracker(config.tracking)

    def detect(self, image: Tensor) -> Detections:
        """From network input to mask logits."""
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            [detections] = detect(
                self.model,
                image,
                [SIZE],
                [SIZE],
                score_threshold=0.0,
                max_per_image=self.config.model.num_queries,
                one_label_per_query=self.track_head,
            )
        return detections

    def paste(self, image: Tensor) -> Tensor:
        """From network input to masks of the frame."""
        return self.detect(image).masks()

    def track(self, image: Tensor) -> Tensor:
        """From network input to masks of the frame with identities."""
        return self.tracker.update(self.detect(image)).masks()


def our_runtimes(
    weights: dict[str, Tensor], track: bool, overrides: list[str], openvino: bool
) -> dict[str, Ours]:
    """Our model with their weights, by the name of its runtime."""
    config = infer_config(weights)
    if track:
        head = replace(config.model.track, enabled=True)
        config = replace(config, model=replace(config.model, track=head))
    model = build_model(config)
    model.load_state_dict(weights, strict=not track)  # the track head has none
    sizes = [f"input.test_short={SIZE[0]}", f"input.test_long={SIZE[1]}"]
    model, config = reload(model, config, [*sizes, *overrides])
    exported: dict[str, Ours] = {}
    if openvino:
        noise = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)
        with tempfile.TemporaryDirectory() as folder:
            for name, frames in (("float32", None), ("int8", list(noise))):
                path = Path(folder) / f"{name}.xml"
                export_openvino(model, config, path, *PADDED, calibration=frames)
                exported[f"OpenVINO {name}"] = Ours(*load_openvino_model(path), track)
    prepared, config = optimize_for_inference(model, config)
    return {"PyTorch": Ours(prepared, config, track), **exported}


def reload(model: nn.Module, config: Config, overrides: list[str]) -> tuple[QueryInst, Config]:
    """The model after saving and loading its weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_weights(path, model, config)
        return load_model(path, "cpu", overrides)


def differences(theirs: TheirDetections, ours: Detections) -> dict[str, float]:
    """The largest differences; infinite if the instances are not the same."""
    if not torch.equal(theirs.labels, ours.labels):
        return dict.fromkeys(TOLERANCE, float("inf"))
    pairs = {
        "boxes": (theirs.boxes, ours.boxes),
        "scores": (theirs.scores, ours.scores),
        "mask logits": (theirs.mask_logits, ours.mask_logits),
    }
    return {name: (a - b).abs().max().item() for name, (a, b) in pairs.items()}


def time_interleaved(
    methods: dict[str, Callable[[Tensor], Any]],
    image: Tensor,
    rounds: int,
    clock: Callable[[], float],
) -> dict[str, list[float]]:
    """Seconds of each function in each round, after a warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in show_progress(range(rounds + 1), "Timing"):
        for name, method in methods.items():
            start = clock()
            method(image)
            times[name].append(clock() - start)
    return {name: seconds[1:] for name, seconds in times.items()}


@torch.no_grad()
def main() -> int:
    """Compare, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="overrides of our config, e.g. inference.compile=true",
    )
    parser.add_argument("--queries", type=int, default=10, metavar="N")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), metavar="N")
    parser.add_argument("--rounds", type=int, default=10, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--wall", action="store_true", help="measure wall-clock time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all measurements")
    arguments = parser.parse_args()
    load = load_average()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    image = torch.zeros(1, 3, *PADDED)
    image[..., : SIZE[0], : SIZE[1]] = torch.randn(1, 3, *SIZE)

    logging.disable(logging.INFO)  # mmengine logs the initialisation of each weight
    theirs, masktrack = TheirQueryInst(arguments.queries), TheirMaskTrack()
    masktrack.limit_candidates(image)
    tracked = len(masktrack.track(image).bboxes)
    weights = convert_state_dict(theirs.model.state_dict())
    found = differences(
        theirs.detect(image), our_runtimes(weights, False, [], False)["PyTorch"].detect(image)
    )
    openvino = all(map(importlib.util.find_spec, ("openvino", "nncf")))
    ours, ours_tracking = (
        our_runtimes(weights, track, arguments.overrides, openvino) for track in (False, True)
    )
    same = all(found[name] <= limit for name, limit in TOLERANCE.items())

    groups: dict[str, tuple[Callable[[Tensor], Any], dict[str, Callable[[Tensor], Any]]]] = {
        "QueryInst, to mask logits": (
            theirs.detect,
            {name: each.detect for name, each in ours.items()},
        ),
        "QueryInst, to masks": (theirs.paste, {name: each.paste for name, each in ours.items()}),
        "MaskTrack R-CNN / tracking": (
            masktrack.track,
            {name: each.track for name, each in ours_tracking.items()},
        ),
    }
    methods = {}
    for group, (peer, own_methods) in groups.items():
        methods[f"mmdet {group}"] = peer
        methods |= {f"    ours, {name} ({group})": method for name, method in own_methods.items()}
    clock = time.perf_counter if arguments.wall else time.process_time
    times = time_interleaved(methods, image, arguments.rounds, clock)
    rows: dict[str, dict[str, Any]] = {}
    for name, seconds in times.items():
        rows[name] = {"seconds": seconds, **spread_of(seconds)}
        if name.startswith("mmdet"):
            peer_ms = rows[name]["median_ms"]
        else:
            rows[name]["times_as_fast"] = peer_ms / rows[name]["median_ms"]
    machine = describe_machine(image.device, image.dtype, load)
    result = {
        "queries": arguments.queries,
        "overrides": arguments.overrides,
        "clock": "wall" if arguments.wall else "CPU",
        "masktrack_instances": tracked,
        "machine": machine,
        "reservations": reservations(machine),
        "differences": found,
        "rows": rows,
    }
    print_result(result)
    print("identical instances" if same else "DIFFERENT instances")
    if arguments.json:
        write_json_atomically(arguments.json, result)
    return 0 if same else 1


def print_result(result: dict[str, Any]) -> None:
    """Print the table, the machine and the settings."""
    numbers = (f"median {result['clock']} ms", "10-90 %", "speed-up")
    columns = (Column(name, justify="right") for name in numbers)
    table = Table(Column("per frame", no_wrap=True), *columns)
    for name, row in result["rows"].items():
        ratio = f"{row['times_as_fast']:.2f}" if "times_as_fast" in row else ""
        spread = f"{row['p10_ms']:.0f}-{row['p90_ms']:.0f}"
        table.add_row(name, f"{row['median_ms']:.0f}", spread, ratio)
    machine = result["machine"]
    Console().print(table)
    print(
        f"{result['queries']} queries, {result['masktrack_instances']} instances of MaskTrack "
        f"R-CNN, {machine['threads']} threads, {machine['device_name']}, "
        f"torch {machine['versions']['torch']}, commit {machine['commit']}"
    )
    for line in result["reservations"]:
        print(f"warning: {line}")
    listed = ", ".join(f"{name} {value:.1e}" for name, value in result["differences"].items())
    print(f"largest differences: {listed}")


if __name__ == "__main__":
    sys.exit(main())
