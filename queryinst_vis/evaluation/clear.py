"""CLEAR MOT on masks: MOTA (i.e. MOTSA), identity switches, fragmentations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

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


class FrameMatches(NamedTuple):
    """Matches of the ground-truth tracks of one class in one video, by ``match_frames``.

    Attributes:
        detections: ``(G, len(similarity.frames))`` index of the detection matched to each
            ground-truth track, or ``NONE``.
        ious: IoUs of the matches, of the same shape, 0 without a match.
    """

    detections: np.ndarray
    ious: np.ndarray


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


def clear_counts(similarity: TrackSimilarity, matches: FrameMatches) -> ClearCounts:
    """CLEAR MOT counts of one class in one video, from its ``match_frames``.

    Bernardin & Stiefelhagen, *Evaluating Multiple Object Tracking Performance: The CLEAR MOT
    Metrics*, 2008; for masks, Voigtlaender et al., *MOTS*, CVPR 2019. Matching and counting
    are those of the package ``trackeval``.
    """
    matched = matches.detections != NONE
    tp = int(matched.sum())
    visible = similarity.ground_truth_frames > 0
    num_frames = similarity.ground_truth_frames[visible]
    fraction = matched.sum(axis=1)[visible] / num_frames
    mostly_tracked, tracked = int((fraction > 0.8).sum()), int((fraction >= 0.2).sum())
    # fragmentations: the number of matched intervals minus one
    intervals = matched[:, :1].sum(axis=1) + (matched[:, 1:] & ~matched[:, :-1]).sum(axis=1)
    return ClearCounts(
        tp=tp,
        fn=int(num_frames.sum()) - tp,
        fp=int(similarity.detection_frames.sum()) - tp,
        iou_sum=float(matches.ious.sum()),
        id_switches=sum(1 for _ in _switches(matches.detections)),
        fragmentations=int(np.maximum(intervals - 1, 0).sum()),
        mostly_tracked=mostly_tracked,
        partly_tracked=tracked - mostly_tracked,
        mostly_lost=len(num_frames) - tracked,
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
    """The identity switches of one class in one video, sorted by frame: as many as ``IDSW``."""
    similarity = compare_tracks(tracks, category_id)
    matched, _ = match_frames(similarity)
    frames = [frame.frame for frame in similarity.frames]
    switches = [
        IdSwitch(
            video_id=tracks.video.id,
            category_id=category_id,
            ground_truth_id=similarity.ground_truth_ids[gt],
            frame=frames[now],
            previous_frame=frames[last],
            before=similarity.detection_ids[matched[gt, last]],
            after=similarity.detection_ids[matched[gt, now]],
        )
        for gt, last, now in _switches(matched)
    ]
    return sorted(switches, key=lambda switch: switch.frame)


def match_frames(similarity: TrackSimilarity) -> FrameMatches:
    """Match the ground-truth tracks of one class in one video to detections, frame by frame.

    Frames without ground truth or without detections have no column: as in ``trackeval``, matches
    continue across them.
    """
    shape = (len(similarity.ground_truth_ids), len(similarity.frames))
    detections, ious = np.full(shape, NONE), np.zeros(shape)
    previous = np.full(shape[0], NONE)
    for column, frame in enumerate(similarity.frames):
        rows, columns = _match(frame, previous)
        ground_truth = frame.ground_truth[rows]
        detections[ground_truth, column] = frame.detections[columns]
        ious[ground_truth, column] = frame.ious[rows, columns]
        previous = detections[:, column]
    return FrameMatches(detections, ious)


def _match(frame: FrameSimilarity, previous: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep as many matches of the previous frame as possible, then maximise the sum of IoUs."""
    continues = frame.detections[None, :] == previous[frame.ground_truth][:, None]
    scores = CONTINUATION * continues + frame.ious
    scores[frame.ious < MATCH_IOU - EPSILON] = 0
    rows, columns = linear_sum_assignment(scores, maximize=True)
    matched = scores[rows, columns] > 0
    return rows[matched], columns[matched]


def _switches(detections: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield each switch as (ground-truth index, columns of the matches before and after it)."""
    for gt, matched in enumerate(detections):
        for last, now in pairwise(np.flatnonzero(matched != NONE)):
            if matched[last] != matched[now]:
                yield gt, int(last), int(now)
