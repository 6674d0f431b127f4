"""Fit the cue weights of the fused association rule.

    python benchmarks/calibrate_fused.py --weights people

Runs the detector on the training part of MOTS, assigns ground-truth identities to the detections,
and collects for each the cues of all tracks in memory. Multinomial logistic regression over "new
object" (logit 0) and the tracks, the decision of the rule, is fitted to them. Prints the keys for
``tracking.fused``, and the accuracy with all cues and with each cue left out. QUERYINST_VIS_DATA is
the folder that contains data/mots. Everything is deterministic.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from association_inputs import detect_once, load_detections, make_set
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment, minimize

from queryinst_vis.checkpoints.catalogue import find_weights
from queryinst_vis.checkpoints.weights import load_weights
from queryinst_vis.config import apply_overrides
from queryinst_vis.data.youtube_vis import VideoRecord
from queryinst_vis.errors import run_script
from queryinst_vis.masks import bounding_box, to_rle
from queryinst_vis.structures import Detections
from queryinst_vis.tracking.fused import FusedTracks, overlaps, pair_cues
from queryinst_vis.tracking.memory import embeddings_of

CUES = ("overlap", "distance", "similarity", "gap")
L2_PENALTY = 1e-4  # on the weights, to keep them bounded
MATCH_IOU = 0.5  # minimum IoU of a detection with its ground-truth object


class TrainingSet:
    """The tracks to which each detection may be assigned, and the correct one."""

    def __init__(self) -> None:
        self.cues: list[np.ndarray] = []  # (tracks, cues) of each detection
        self.targets: list[int] = []  # row of the correct track; -1: a new object

    def add_video(self, video: VideoRecord, frames: list[Detections], expire_after: int) -> None:
        """Add all detections of a video, with the tracks updated by the ground truth."""
        tracks, track_objects = FusedTracks(), np.zeros(0, dtype=np.int64)
        for index, detections in enumerate(frames):
            tracks.begin_frame(None, None)
            tracks.motion.predict()
            objects = _match_objects(detections, video, index)
            known = np.flatnonzero(objects >= 0)
            matched = detections[torch.from_numpy(known)]
            matched = replace(matched, embeddings=F.normalize(embeddings_of(matched), dim=1))
            slots = np.array([_track_of(track_objects, o) for o in objects[known]], dtype=np.int64)
            if len(tracks) and len(matched):
                cues = pair_cues(matched, tracks)
                stacked = np.stack([cues[name] for name in CUES], axis=2)
                self.cues += list(stacked)
                self.targets += slots.tolist()
            old, born = np.flatnonzero(slots >= 0), np.flatnonzero(slots < 0)
            if len(old):
                tracks.refresh(slots[old].tolist(), matched[torch.from_numpy(old)])
            tracks.append(matched[torch.from_numpy(born)])
            track_objects = np.concatenate([track_objects, objects[known][born]])
            track_objects = track_objects[tracks.forget(expire_after, None).numpy()]


def _track_of(track_objects: np.ndarray, object_id: int) -> int:
    """Index of the track of an object, -1 if there is none."""
    indices = np.flatnonzero(track_objects == object_id)
    return int(indices[0]) if len(indices) else -1


def _match_objects(detections: Detections, video: VideoRecord, index: int) -> np.ndarray:
    """``(N,)`` id of the ground-truth object that each detection matches, or -1."""
    objects = np.full(len(detections), -1)
    record = video.frame(index)
    if not record.instances or not len(detections):
        return objects
    extents = [
        bounding_box(to_rle(i.segmentation, record.height, record.width, str(record.path)))
        for i in record.instances
    ]
    overlap = overlaps(detections.boxes.double().numpy(), np.array(extents, dtype=float))
    for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
        if overlap[row, column] >= MATCH_IOU:
            objects[row] = record.instances[column].id
    return objects


def fit(examples: TrainingSet, cues: list[int]) -> tuple[np.ndarray, dict[str, float]]:
    """Weights of the cues and the bias; loss, and accuracy for known and for new objects."""
    rows = np.concatenate([c[:, cues] for c in examples.cues])
    inputs = np.hstack([rows, np.ones((len(rows), 1))])
    counts = np.array([len(c) for c in examples.cues])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    example = np.repeat(np.arange(len(counts)), counts)
    targets = np.array(examples.targets)
    is_target = np.zeros(len(rows), dtype=bool)
    is_target[(starts + targets)[targets >= 0]] = True

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = inputs @ weights
        highest = np.maximum(np.maximum.reduceat(logits, starts), 0)  # 0: a new object
        exponentials = np.exp(logits - highest[example])
        total = np.add.reduceat(exponentials, starts) + np.exp(-highest)
        target_logits = np.add.reduceat(np.where(is_target, logits, 0), starts)
        log_likelihoods = target_logits - highest - np.log(total)
        gradient = inputs.T @ (exponentials / total[example] - is_target) / len(counts)
        penalty = np.append(weights[:-1], 0) * L2_PENALTY
        value = L2_PENALTY / 2 * (weights[:-1] ** 2).sum() - log_likelihoods.mean()
        return value, gradient + penalty

    solution = minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B")
    logits = inputs @ solution.x
    best = np.array([logits[s : s + n].argmax() for s, n in zip(starts, counts, strict=True)])
    decided = np.where(logits[starts + best] > 0, best, -1)
    known = targets >= 0
    return solution.x, {
        "loss": solution.fun,
        "known": (decided == targets)[known].mean(),
        "new": (decided == targets)[~known].mean(),
    }


def main() -> None:
    """Collect, fit and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="people", metavar="W", help="a name or a file")
    parser.add_argument("--cache", type=Path, default=Path("work/association"), metavar="DIR")
    parser.add_argument("--score", type=float, default=0.3, help="minimum score of detections")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    config, _ = load_weights(find_weights(arguments.weights))
    config = apply_overrides(config, ["inference.nms_threshold=0.5"])
    test_set = make_set("mots_train", arguments.cache)
    path = detect_once(arguments.weights, config, test_set, arguments.cache)
    detections = load_detections(path, "track_head", config.inference)
    examples = TrainingSet()
    for video in test_set.open(config).videos:
        frames = [frame[frame.scores >= arguments.score] for frame in detections[video.id]]
        examples.add_video(video, frames, config.tracking.expire_after or 60)
    weights, _ = fit(examples, list(range(len(CUES))))
    for name, weight in zip((*CUES, "bias"), weights, strict=True):
        print(f"tracking.fused.{name}={weight:.2f}")
    report(examples)


def report(examples: TrainingSet) -> None:
    """Print the accuracy with all cues and without each of them."""
    new = examples.targets.count(-1)
    table = Table(
        "cues",
        "log loss",
        "known objects",
        "new objects",
        title=f"{len(examples.targets) - new} detections of known objects, {new} of new ones",
    )
    for left_out in (None, *range(len(CUES))):
        used = [i for i in range(len(CUES)) if i != left_out]
        _, quality = fit(examples, used)
        table.add_row(
            "all" if left_out is None else f"without {CUES[left_out]}",
            f"{quality['loss']:.3f}",
            f"{quality['known']:.1%}",
            f"{quality['new']:.1%}",
        )
    Console().print(table)


if __name__ == "__main__":
    run_script(main)
