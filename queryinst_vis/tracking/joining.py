"""Joining the identities of a video that was tracked in overlapping segments.

Neighbouring segments have tracked the same frames, each with identities of its own. Their tracks
are matched one-to-one by mask IoU and embeddings in these frames, which carries the identities of
the first segment on to the last. The result depends on the arguments only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

from queryinst_vis.masks import RLE

MIN_OVERLAP = 0.1
"""Minimum mask IoU of two tracks in the shared frames that are matched.

It is low because both segments have the same detections in these frames: tracks that share few of
them are those of an object that the later segment has found late, rather than of two objects.
"""

EMBEDDING_WEIGHT = 0.2
"""Weight of the cosine similarity of embeddings beside the mask IoU, whose weight is 1."""


class SharedFrame(NamedTuple):
    """What a segment has found in a frame that its neighbour has tracked, too.

    Attributes:
        ids: N identities, distinct.
        labels: N class indices.
        masks: N compressed RLEs.
        embeddings: ``(N, D)`` association embeddings; None: the rule uses none.
    """

    ids: Sequence[int]
    labels: Sequence[int]
    masks: Sequence[RLE]
    embeddings: np.ndarray | None = None


class SegmentTracks(NamedTuple):
    """The tracks of a segment, as far as joining needs them.

    Attributes:
        head: frames shared with the segment before, which are that segment's in the result.
        tail: frames shared with the segment after.
        order: identities in the order in which they appear in the segment's own frames.
    """

    head: Sequence[SharedFrame]
    tail: Sequence[SharedFrame]
    order: Sequence[int]


def match_tracks(
    earlier: Sequence[SharedFrame],
    later: Sequence[SharedFrame],
    min_overlap: float = MIN_OVERLAP,
    embedding_weight: float = EMBEDDING_WEIGHT,
) -> dict[int, int]:
    """Match the tracks of two segments in the frames that both have tracked.

    The one-to-one assignment with the highest total ``IoU + embedding_weight * (1 + cosine) / 2``
    among the pairs of one class (by majority in these frames) with at least ``min_overlap``. IoU is
    the sum of the intersections over the sum of the unions, in which the t-th frame has the weight
    t: at the beginning the later segment has tracked for a few frames only, and what matters is
    whom the tracks follow where it takes over.

    Args:
        earlier: the frames in order, as tracked by the earlier segment.
        later: the same frames, as tracked by the later one.
        min_overlap: 0..1.
        embedding_weight: 0 or more; without embeddings the cosine counts as 0.

    Returns:
        For identities of the later segment those of the earlier one; others have no match.
    """
    first, second = _Tracks(earlier), _Tracks(later)
    if not (first.rows and second.rows):
        return {}
    overlaps = _track_ious(earlier, later, first, second)
    matchable = (overlaps >= min_overlap) & (first.labels[:, None] == second.labels)
    scores = overlaps + embedding_weight * (1 + first.cosines(second)) / 2
    rows, columns = linear_sum_assignment(np.where(matchable, scores, 0), maximize=True)
    ours, theirs = list(first.rows), list(second.rows)
    return {
        theirs[column]: ours[row]
        for row, column in zip(rows, columns, strict=True)
        if matchable[row, column]
    }


def join_segments(
    segments: Iterable[SegmentTracks], min_overlap: float = MIN_OVERLAP
) -> Iterator[dict[int, int]]:
    """The identities in the whole video of each segment's tracks.

    Identities count from 0 in the order in which they appear, as if the video had been tracked as
    a whole. Those of a segment may be renamed without any effect.

    Args:
        segments: in order. The head of each covers the same frames as the tail of the one before.
        min_overlap: as for ``match_tracks``.

    Yields:
        For each segment its identities, by those in the segment; tracks that are only in frames of
        the segment before have none.
    """
    known: Mapping[int, int] = {}
    tail: Sequence[SharedFrame] = ()
    unused = 0
    for segment in segments:
        matched = match_tracks(tail, segment.head, min_overlap)
        joined = {mine: known[other] for mine, other in matched.items()}
        for track_id in segment.order:
            if track_id not in joined:
                joined[track_id] = unused
                unused += 1
        yield joined
        known, tail = joined, segment.tail


class _Tracks:
    """The tracks of a segment in the shared frames.

    Attributes:
        rows: of the arrays, by identity, in the order in which they appear.
        labels: ``(N,)`` class by majority; ties: the lowest.
    """

    def __init__(self, frames: Sequence[SharedFrame]) -> None:
        votes: dict[int, list[int]] = defaultdict(list)
        embeddings: dict[int, list[np.ndarray]] = defaultdict(list)
        for frame in frames:
            for row, (track_id, label) in enumerate(zip(frame.ids, frame.labels, strict=True)):
                votes[track_id].append(label)
                if frame.embeddings is not None:
                    embeddings[track_id].append(frame.embeddings[row])
        self.rows = {track_id: row for row, track_id in enumerate(votes)}
        self.labels = np.array([np.bincount(labels).argmax() for labels in votes.values()])
        self._embeddings = [_unit_mean(embeddings[track_id]) for track_id in votes]

    def cosines(self, other: _Tracks) -> np.ndarray:
        """``(N, M)`` cosine similarities of the mean embeddings, 0 without embeddings."""
        return np.array(
            [
                [0.0 if a is None or b is None else float(a @ b) for b in other._embeddings]
                for a in self._embeddings
            ]
        )


def _unit_mean(embeddings: list[np.ndarray]) -> np.ndarray | None:
    if not embeddings:
        return None
    mean = np.mean(np.asarray(embeddings, np.float64), axis=0)
    return mean / max(float(np.linalg.norm(mean)), np.finfo(np.float64).tiny)


def _track_ious(
    earlier: Sequence[SharedFrame], later: Sequence[SharedFrame], first: _Tracks, second: _Tracks
) -> np.ndarray:
    """``(N, M)`` IoU of the tracks, each frame weighted by its position."""
    intersections = np.zeros((len(first.rows), len(second.rows)))
    areas = np.zeros((len(first.rows), 1)), np.zeros((1, len(second.rows)))
    for weight, (ours, theirs) in enumerate(zip(earlier, later, strict=True), 1):
        rows = [first.rows[track_id] for track_id in ours.ids]
        columns = [second.rows[track_id] for track_id in theirs.ids]
        sizes = coco_mask.area(list(ours.masks)).astype(float) if rows else np.zeros(0)
        areas[0][rows, 0] += weight * sizes
        if columns:
            areas[1][0, columns] += weight * coco_mask.area(list(theirs.masks)).astype(float)
        if rows and columns:
            # with "iscrowd", pycocotools divides the intersection by the area of the first mask
            shares = coco_mask.iou(list(ours.masks), list(theirs.masks), [1] * len(columns))
            intersections[np.ix_(rows, columns)] += weight * np.rint(shares * sizes[:, None])
    unions = areas[0] + areas[1] - intersections
    return np.divide(intersections, unions, out=np.zeros_like(unions), where=unions > 0)
