"""CLEAR MOT on masks: MOTA (i.e. MOTSA), identity switches, fragmentations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment

from queryinst_vis.evaluation.similarity import (
    EPSILON,
    MATCH_IOU,
    Counts,
    FrameSimilarity,
    TrackSimilarity,
    compare_tracks,
)
from queryinst_vis.formats.video_set import VideoTracks

CONTINUATION = 1000.0
"""Bonus of a pair that was matched in the previous frame; larger than any sum of IoUs."""

NONE = -1
"""Index of "no detection"."""

Followed = tuple[np.ndarray, np.ndarray]
"""Matched detections and their IoUs, as ``follow`` returns them."""


@dataclass(frozen=True)
class IdSwitch:
    """A ground-truth object whose matched detection changes.

    Attributes:
        video_id, category_id, ground_truth_id: ids in the annotation file.
        frame: 0-based index of the frame in which the object is matched to the new detection.
        previous_frame: the last frame before in which the object was matched.
        before, after: ids of the two detections, i.e. their positions in the result file.
    """

    video_id: int
    category_id: int
    ground_truth_id: int
    frame: int
    previous_frame: int
    before: int
    after: int


@dataclass(frozen=True)
class ClearCounts(Counts):
    """Numbers of masks (``tp``, ``fn``, ``fp``), of events and of tracks, and the summed IoUs."""

    tp: int
    fn: int
    fp: int
    iou_sum: float
    id_switches: int
    fragmentations: int
    mostly_tracked: int
    partly_tracked: int
    mostly_lost: int


def clear_counts(similarity: TrackSimilarity, followed: Followed) -> ClearCounts:
    """CLEAR MOT counts of one class in one video, from what ``follow`` returns for it.

    Bernardin & Stiefelhagen, *Evaluating Multiple Object Tracking Performance: The CLEAR MOT
    Metrics*, 2008; for masks, Voigtlaender et al., *MOTS*, CVPR 2019. Matching and counting
    are those of the package ``trackeval``.
    """
    followers, ious = followed
    matched = followers != NONE
    tp = int(matched.sum())
    shown = similarity.ground_truth_frames[similarity.ground_truth_frames > 0]
    share = matched.sum(axis=1)[similarity.ground_truth_frames > 0] / shown
    mostly_tracked, tracked = int((share > 0.8).sum()), int((share >= 0.2).sum())
    # fragmentations: the number of matched intervals minus one
    begins = matched[:, :1].sum(axis=1) + (matched[:, 1:] & ~matched[:, :-1]).sum(axis=1)
    return ClearCounts(
        tp=tp,
        fn=int(shown.sum()) - tp,
        fp=int(similarity.detection_frames.sum()) - tp,
        iou_sum=float(ious.sum()),
        id_switches=sum(1 for _ in _switches(followers)),
        fragmentations=int(np.maximum(begins - 1, 0).sum()),
        mostly_tracked=mostly_tracked,
        partly_tracked=tracked - mostly_tracked,
        mostly_lost=len(shown) - tracked,
    )


def clear_metrics(counts: ClearCounts) -> dict[str, float]:
    """The CLEAR MOT metrics, named as in ``trackeval``.

    Returns:
        ``MOTA`` (``MOTSA`` in MOTS; at most 1, may be negative), ``sMOTA`` (``sMOTSA``: matches
        weighted by IoU), ``MOTP`` (``MOTSP``: mean IoU of the matches), fractions; ``TP``,
        ``FN``, ``FP`` masks at IoU .5; ``IDSW`` identity switches; ``Frag`` fragmentations;
        objects matched in more than 80 % of their frames (``MT``), in less than 20 % (``ML``), or
        in between (``PT``).
    """
    ground_truth, wrong = max(1, counts.tp + counts.fn), counts.fp + counts.id_switches
    return {
        "MOTA": (counts.tp - wrong) / ground_truth,
        "sMOTA": (counts.iou_sum - wrong) / ground_truth,
        "MOTP": counts.iou_sum / max(1, counts.tp),
        "IDSW": counts.id_switches,
        "Frag": counts.fragmentations,
        "MT": counts.mostly_tracked,
        "PT": counts.partly_tracked,
        "ML": counts.mostly_lost,
        "TP": counts.tp,
        "FN": counts.fn,
        "FP": counts.fp,
    }


def id_switches(tracks: VideoTracks, category_id: int) -> list[IdSwitch]:
    """The identity switches of one class in one video, sorted by frame; ``IDSW`` of them."""
    similarity = compare_tracks(tracks, category_id)
    followers, _ = follow(similarity)
    frames = [frame.frame for frame in similarity.frames]
    switches = [
        IdSwitch(
            video_id=tracks.video.id,
            category_id=category_id,
            ground_truth_id=similarity.ground_truth_ids[gt],
            frame=frames[now],
            previous_frame=frames[last],
            before=similarity.detection_ids[followers[gt, last]],
            after=similarity.detection_ids[followers[gt, now]],
        )
        for gt, last, now in _switches(followers)
    ]
    return sorted(switches, key=lambda switch: switch.frame)


def follow(similarity: TrackSimilarity) -> Followed:
    """Match the ground-truth tracks of one class in one video to detections, frame by frame.

    Frames without ground truth or without detections have no column: as in ``trackeval``, matches
    continue across them.

    Returns:
        ``(G, len(similarity.frames))`` index of the detection matched to each ground-truth track,
        or ``NONE``; and the IoUs of these matches, of the same shape, 0 where there is none.
    """
    shape = (len(similarity.ground_truth_ids), len(similarity.frames))
    followers = np.full(shape, NONE)
    ious = np.zeros(shape)
    before = np.full(shape[0], NONE)
    for column, frame in enumerate(similarity.frames):
        rows, matches = _match(frame, before)
        ground_truth = frame.ground_truth[rows]
        followers[ground_truth, column] = frame.detections[matches]
        ious[ground_truth, column] = frame.ious[rows, matches]
        before = followers[:, column]
    return followers, ious


def _match(frame: FrameSimilarity, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep as many matches of the previous frame as possible, then maximise the sum of IoUs."""
    continues = frame.detections[None, :] == before[frame.ground_truth][:, None]
    scores = CONTINUATION * continues + frame.ious
    scores[frame.ious < MATCH_IOU - EPSILON] = 0
    rows, columns = linear_sum_assignment(scores, maximize=True)
    matched = scores[rows, columns] > 0
    return rows[matched], columns[matched]


def _switches(followers: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield ``(ground truth, column of its last match, column of its next, other match)``."""
    for gt, found in enumerate(followers):
        columns = np.flatnonzero(found != NONE)
        for last, now in pairwise(columns):
            if found[last] != found[now]:
                yield gt, int(last), int(now)
