"""IDF1 on masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from queryinst_vis.evaluation.similarity import MATCH_IOU, Counts, TrackSimilarity


@dataclass(frozen=True)
class IdentityCounts(Counts):
    """IDTP, IDFN and IDFP, in masks."""

    tp: int
    fn: int
    fp: int


def identity_counts(similarity: TrackSimilarity) -> IdentityCounts:
    """IDF1 counts of one class in one video.

    Ristani et al., *Performance Measures and a Data Set for Multi-Target, Multi-Camera
    Tracking*, 2016, section 3: the one-to-one assignment of tracks with the maximum number of
    frames with a match (IoU of at least .5); equivalent to the paper's minimum of IDFN + IDFP.
    """
    matched_frames = np.zeros(
        (len(similarity.ground_truth_ids), len(similarity.detection_ids)), dtype=int
    )
    for frame in similarity.frames:
        matched_frames[np.ix_(frame.ground_truth, frame.detections)] += frame.ious >= MATCH_IOU
    tp = int(matched_frames[linear_sum_assignment(matched_frames, maximize=True)].sum())
    return IdentityCounts(
        tp=tp,
        fn=int(similarity.ground_truth_frames.sum()) - tp,
        fp=int(similarity.detection_frames.sum()) - tp,
    )


def identity_metrics(counts: IdentityCounts) -> dict[str, float]:
    """``IDF1``, ``IDR`` (recall), ``IDP`` (precision), fractions 0..1, and their counts."""
    return {
        "IDF1": counts.tp / np.maximum(1, counts.tp + 0.5 * counts.fn + 0.5 * counts.fp),
        "IDR": counts.tp / np.maximum(1, counts.tp + counts.fn),
        "IDP": counts.tp / np.maximum(1, counts.tp + counts.fp),
        "IDTP": counts.tp,
        "IDFN": counts.fn,
        "IDFP": counts.fp,
    }
