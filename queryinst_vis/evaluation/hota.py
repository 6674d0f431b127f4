"""HOTA on masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from queryinst_vis.evaluation.similarity import EPSILON, Counts, TrackSimilarity

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""The 19 localisation thresholds (minimum IoU of a match): .05, .10, ..., .95.

Computed as in ``trackeval``, for identical rounding.
"""

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Ground-truth index, detection index and IoU of the pairs of all frames: parallel arrays."""


@dataclass(frozen=True)
class HotaCounts(Counts):
    """Counts and sums for each of the 19 alphas, as ``(19,)`` arrays.

    Attributes:
        tp, fn, fp: true positives, false negatives and false positives, in masks.
        iou_sum: of the true positives.
        association, association_recall, association_precision: sums over the true positives of
            how well their two tracks agree over the whole video (A(c) in the paper).
    """

    tp: np.ndarray
    fn: np.ndarray
    fp: np.ndarray
    iou_sum: np.ndarray
    association: np.ndarray
    association_recall: np.ndarray
    association_precision: np.ndarray


def hota_counts(similarity: TrackSimilarity) -> HotaCounts:
    """HOTA counts of one class in one video, with the matching of ``trackeval``.

    Luiten et al., *HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking*,
    IJCV 2021, section 5.
    """
    num_ground_truth = similarity.ground_truth_frames.sum()
    num_detections = similarity.detection_frames.sum()
    if not similarity.frames:  # as in most classes of most videos
        none = np.zeros(len(ALPHAS))
        fn, fp = none + num_ground_truth, none + num_detections
        return HotaCounts(none, fn, fp, none, none, none, none)
    ground_truth, detections, ious = _match(similarity)
    shape = len(similarity.ground_truth_ids), len(similarity.detection_ids)
    pairs, pair_of = np.unique(ground_truth * shape[1] + detections, return_inverse=True)
    rows, columns = np.unravel_index(pairs, shape)
    ground_truth_frames = similarity.ground_truth_frames[rows]
    detection_frames = similarity.detection_frames[columns]
    matched = ious >= ALPHAS[:, None] - EPSILON
    # (19, pairs) number of frames in which the two tracks match: TPA(c) in the paper
    shared = np.stack(
        [np.bincount(pair_of[at_alpha], minlength=len(pairs)) for at_alpha in matched]
    )
    squared = shared * shared  # each of the matched frames contributes the pair's TPA(c)
    tp = shared.sum(axis=1, dtype=float)
    return HotaCounts(
        tp=tp,
        fn=num_ground_truth - tp,
        fp=num_detections - tp,
        iou_sum=np.where(matched, ious, 0.0).sum(axis=1),
        association=(squared / (ground_truth_frames + detection_frames - shared)).sum(axis=1),
        association_recall=(squared / ground_truth_frames).sum(axis=1),
        association_precision=(squared / detection_frames).sum(axis=1),
    )


def _match(similarity: TrackSimilarity) -> Pairs:
    """Match the masks of each frame, preferring tracks that agree over the whole video."""
    alignment = _alignment(similarity)
    found: list[Pairs] = []
    for frame in similarity.frames:
        scores = alignment[np.ix_(frame.ground_truth, frame.detections)] * frame.ious
        rows, columns = linear_sum_assignment(scores, maximize=True)
        found.append(
            (frame.ground_truth[rows], frame.detections[columns], frame.ious[rows, columns])
        )
    ground_truth, detections, ious = (np.concatenate(part) for part in zip(*found, strict=True))
    return ground_truth, detections, ious


def _alignment(similarity: TrackSimilarity) -> np.ndarray:
    """``(G, D)`` soft Jaccard index of each pair of tracks, without matching."""
    shape = (len(similarity.ground_truth_ids), len(similarity.detection_ids))
    intersections = np.zeros(shape)
    for frame in similarity.frames:
        # an object that overlaps several detections is shared among them, and vice versa
        sums = frame.ious.sum(axis=0)[None, :] + frame.ious.sum(axis=1)[:, None] - frame.ious
        shares = np.divide(frame.ious, sums, out=np.zeros_like(sums), where=sums > EPSILON)
        intersections[np.ix_(frame.ground_truth, frame.detections)] += shares
    frames = similarity.ground_truth_frames[:, None] + similarity.detection_frames[None, :]
    unions = frames - intersections
    return np.divide(intersections, unions, out=np.zeros(shape), where=unions > 0)


def hota_curves(counts: HotaCounts) -> dict[str, np.ndarray]:
    """The metrics at each alpha, ``(19,)`` arrays of fractions 0..1 by name.

    ``HOTA`` is the geometric mean of ``DetA`` and ``AssA``; ``DetRe``, ``DetPr``, ``AssRe`` and
    ``AssPr`` are their recall and precision, ``LocA`` is the mean IoU of the matches, 1 if
    nothing matches.
    """
    matches = np.maximum(1, counts.tp)
    detection = counts.tp / np.maximum(1, counts.tp + counts.fn + counts.fp)
    association = counts.association / matches
    return {
        "HOTA": np.sqrt(detection * association),
        "DetA": detection,
        "AssA": association,
        "DetRe": counts.tp / np.maximum(1, counts.tp + counts.fn),
        "DetPr": counts.tp / np.maximum(1, counts.tp + counts.fp),
        "AssRe": counts.association_recall / matches,
        "AssPr": counts.association_precision / matches,
        "LocA": np.where(counts.tp > 0, counts.iou_sum / matches, 1.0),
    }


def hota_metrics(counts: HotaCounts) -> dict[str, float]:
    """``hota_curves`` averaged over the alphas."""
    return {name: float(curve.mean()) for name, curve in hota_curves(counts).items()}
