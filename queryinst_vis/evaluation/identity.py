"""IDF1 on masks: how long the one best detection follows each object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from queryinst_vis.evaluation.similarity import MATCH_IOU, Counts, TrackSimilarity


@dataclass(frozen=True)
class IdentityCounts(Counts):
    """Masks that have the right identity, that lack it, and that have it wrongly."""

    tp: int
    fn: int
    fp: int


def identity_counts(similarity: TrackSimilarity) -> IdentityCounts:
    """Give each ground truth of one class in one video at most one detection, and count.

    Ristani et al., *Performance Measures and a Data Set for Multi-Target, Multi-Camera
    Tracking*, 2016, section 3: the assignment of whole tracks with the most frames in which the
    two match (IoU .5 or more). The paper minimises misses and false alarms, which is the same.
    """
    together = np.zeros(
        (len(similarity.ground_truth_ids), len(similarity.detection_ids)), dtype=int
    )
    for frame in similarity.frames:
        together[np.ix_(frame.ground_truth, frame.detections)] += frame.ious >= MATCH_IOU
    tp = int(together[linear_sum_assignment(together, maximize=True)].sum())
    return IdentityCounts(
        tp=tp,
        fn=int(similarity.ground_truth_frames.sum()) - tp,
        fp=int(similarity.detection_frames.sum()) - tp,
    )


def identity_metrics(counts: IdentityCounts) -> dict[str, float]:
    """``IDF1``, ``IDR`` (recall), ``IDP`` (precision), fractions 0..1, and what they count."""
    return {
        "IDF1": counts.tp / np.maximum(1, counts.tp + 0.5 * counts.fn + 0.5 * counts.fp),
        "IDR": counts.tp / np.maximum(1, counts.tp + counts.fn),
        "IDP": counts.tp / np.maximum(1, counts.tp + counts.fp),
        "IDTP": counts.tp,
        "IDFN": counts.fn,
        "IDFP": counts.fp,
    }
