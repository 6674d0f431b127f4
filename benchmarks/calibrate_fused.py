"""Fit the cue weights of the fused association rule.

    python benchmarks/calibrate_fused.py --weights people

Runs the detector on the training part of MOTS, assigns ground-truth identities to the detections,
and collects for each the cues of all tracks in memory. A multinomial logistic model then chooses
between "new object" (log odds 0) and the tracks, which is the decision of the rule. Prints the keys
for ``tracking.fused``, the accuracy, and the same with each cue left out. QUERYINST_VIS_DATA is the
folder that contains data/mots. Everything is deterministic.
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
from queryinst_vis.masks import bounding_box, to_rle
from queryinst_vis.structures import Detections
from queryinst_vis.tracking.fused import FusedTracks, overlaps, pair_cues
from queryinst_vis.tracking.memory import embeddings_of

CUES = ("overlap", "distance", "similarity", "gap")
PENALTY = 1e-4  # on the squared weights, to keep them bounded
SAME = 0.5  # minimum IoU of a detection with its ground-truth object


class Choices:
    """The candidates of the rule for each detection."""

    def __init__(self) -> None:
        self.cues: list[np.ndarray] = []  # (tracks, cues) of each detection
        self.right: list[int] = []  # row of the correct track; -1: a new object

    def add_video(self, video: VideoRecord, frames: list[Detections], expire_after: int) -> None:
        """Follow the ground truth through a video and collect all choices."""
        tracks, owners = FusedTracks(), np.zeros(0, dtype=np.int64)
        for index, detections in enumerate(frames):
            tracks.begin_frame(None, None)
            tracks.motion.predict()
            objects = _identify(detections, video, index)
            known = np.flatnonzero(objects >= 0)
            seen = detections[torch.from_numpy(known)]
            seen = replace(seen, embeddings=F.normalize(embeddings_of(seen), dim=1))
            slots = np.array([_find(owners, o) for o in objects[known]], dtype=np.int64)
            if len(tracks) and len(seen):
                cues = pair_cues(seen, tracks)
                stacked = np.stack([cues[name] for name in CUES], axis=2)
                self.cues += list(stacked)
                self.right += slots.tolist()
            old, born = np.flatnonzero(slots >= 0), np.flatnonzero(slots < 0)
            if len(old):
                tracks.refresh(slots[old].tolist(), seen[torch.from_numpy(old)])
            tracks.append(seen[torch.from_numpy(born)])
            owners = np.concatenate([owners, objects[known][born]])
            owners = owners[tracks.forget(expire_after, None).numpy()]


def _find(owners: np.ndarray, wanted: int) -> int:
    places = np.flatnonzero(owners == wanted)
    return int(places[0]) if len(places) else -1


def _identify(detections: Detections, video: VideoRecord, index: int) -> np.ndarray:
    """``(N,)`` id of the object of each detection, or -1."""
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
        if overlap[row, column] >= SAME:
            objects[row] = record.instances[column].id
    return objects


def fit(choices: Choices, cues: list[int]) -> tuple[np.ndarray, dict[str, float]]:
    """Weights of the cues and the bias, and their accuracy."""
    rows = np.concatenate([c[:, cues] for c in choices.cues])
    inputs = np.hstack([rows, np.ones((len(rows), 1))])
    counts = np.array([len(c) for c in choices.cues])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    owner = np.repeat(np.arange(len(counts)), counts)
    right = np.array(choices.right)
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[(starts + right)[right >= 0]] = True

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        odds = inputs @ weights
        top = np.maximum(np.maximum.reduceat(odds, starts), 0)  # 0: a new object
        shares = np.exp(odds - top[owner])
        total = np.add.reduceat(shares, starts) + np.exp(-top)
        gained = np.add.reduceat(np.where(chosen, odds, 0), starts) - top - np.log(total)
        gradient = inputs.T @ (shares / total[owner] - chosen) / len(counts)
        penalty = np.append(weights[:-1], 0) * PENALTY
        return PENALTY / 2 * (weights[:-1] ** 2).sum() - gained.mean(), gradient + penalty

    found = minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B")
    odds = inputs @ found.x
    best = np.array([odds[s : s + n].argmax() for s, n in zip(starts, counts, strict=True)])
    decided = np.where(odds[starts + best] > 0, best, -1)
    known = right >= 0
    return found.x, {
        "loss": found.fun,
        "known": (decided == right)[known].mean(),
        "new": (decided == right)[~known].mean(),
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
    found = load_detections(path, "track_head", config.inference)
    choices = Choices()
    for video in test_set.open(config).videos:
        frames = [frame[frame.scores >= arguments.score] for frame in found[video.id]]
        choices.add_video(video, frames, config.tracking.expire_after or 60)
    weights, _ = fit(choices, list(range(len(CUES))))
    for name, weight in zip((*CUES, "bias"), weights, strict=True):
        print(f"tracking.fused.{name}={weight:.2f}")
    report(choices)


def report(choices: Choices) -> None:
    """Print the accuracy with all cues and without each of them."""
    new = choices.right.count(-1)
    table = Table(
        "cues",
        "log loss",
        "known objects",
        "new objects",
        title=f"{len(choices.right) - new} detections of known objects, {new} of new ones",
    )
    for left_out in (None, *range(len(CUES))):
        used = [i for i in range(len(CUES)) if i != left_out]
        _, quality = fit(choices, used)
        table.add_row(
            "all" if left_out is None else f"without {CUES[left_out]}",
            f"{quality['loss']:.3f}",
            f"{quality['known']:.1%}",
            f"{quality['new']:.1%}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
