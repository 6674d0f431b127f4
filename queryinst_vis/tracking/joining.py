"""Joining the identities of a video that was tracked in overlapping segments.

Each segment has its own identities. In the frames shared by consecutive segments, their tracks are
matched one-to-one by mask IoU and embeddings, which propagates identities from the first segment to
the last. Deterministic.
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
"""Minimum mask IoU of matched tracks in the shared frames.

It is low because both segments have the same detections in these frames: two tracks with few common
masks are more likely an object that the later segment detected late than two objects.
"""

EMBEDDING_WEIGHT = 0.2
"""Weight of the cosine similarity of embeddings; that of the mask IoU is 1."""


class SharedFrame(NamedTuple):
    """The instances of one segment in a frame shared with an adjacent segment.

    Attributes:
        ids: N distinct identities.
        labels: N class indices.
        masks: N compressed RLEs.
        embeddings: ``(N, D)`` association embeddings; None: the rule uses none.
    """

    ids: Sequence[int]
    labels: Sequence[int]
    masks: Sequence[RLE]
    embeddings: np.ndarray | None = None


class SegmentTracks(NamedTuple):
    """The tracks of a segment, as needed for joining.

    Attributes:
        head: frames shared with the previous segment, whose tracks are used for them.
        tail: frames shared with the next segment.
        order: identities in order of appearance in the segment's own frames.
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
    """Match the tracks of two segments in their shared frames.

    The one-to-one assignment with the highest total ``IoU + embedding_weight * (1 + cosine) / 2``
    among pairs of the same class (by majority in these frames) with an IoU of at least
    ``min_overlap``. The IoU is the sum of intersections over the sum of unions, weighted by the
    position of the frame, since the later segment takes over at the end, and has just started at
    the beginning.

    Args:
        earlier: the shared frames in order, as tracked by the earlier segment.
        later: the same frames, as tracked by the later segment.
        min_overlap: minimum IoU of a match, 0..1.
        embedding_weight: non-negative; without embeddings the cosine is 0.

    Returns:
        Identity in the earlier segment by identity in the later one, for matched tracks.
    """
    first, second = _Tracks(earlier), _Tracks(later)
    if not (first.rows and second.rows):
        return {}
    overlaps = _track_ious(earlier, later, first, second)
    matchable = (overlaps >= min_overlap) & (first.labels[:, None] == second.labels)
    scores = overlaps + embedding_weight * (1 + first.cosines(second)) / 2
    rows, columns = linear_sum_assignment(np.where(matchable, scores, 0), maximize=True)
    earlier_ids, later_ids = list(first.rows), list(second.rows)
    return {
        later_ids[column]: earlier_ids[row]
        for row, column in zip(rows, columns, strict=True)
        if matchable[row, column]
    }


def join_segments(
    segments: Iterable[SegmentTracks], min_overlap: float = MIN_OVERLAP
) -> Iterator[dict[int, int]]:
    """Assign identities in the whole video to the tracks of each segment.

    They are numbered from 0 in order of appearance, as if the video had been tracked as a whole,
    and do not depend on the numbering within segments.

    Args:
        segments: in order. The head of each covers the same frames as the tail of the previous one.
        min_overlap: as for ``match_tracks``.

    Yields:
        For each segment, the identity in the video by identity in the segment, without tracks that
        are only in frames of the previous segment.
    """
    known: Mapping[int, int] = {}
    tail: Sequence[SharedFrame] = ()
    next_id = 0
    for segment in segments:
        matched = match_tracks(tail, segment.head, min_overlap)
        joined = {later: known[earlier] for later, earlier in matched.items()}
        for track_id in segment.order:
            if track_id not in joined:
                joined[track_id] = next_id
                next_id += 1
        yield joined
        known, tail = joined, segment.tail


class _Tracks:
    """The tracks of a segment in the shared frames.

    Attributes:
        rows: row of each identity in the arrays, in order of appearance.
        labels: ``(N,)`` majority class; the lowest if tied.
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
    for weight, (before, after) in enumerate(zip(earlier, later, strict=True), 1):
        rows = [first.rows[track_id] for track_id in before.ids]
        columns = [second.rows[track_id] for track_id in after.ids]
        sizes = coco_mask.area(list(before.masks)).astype(float) if rows else np.zeros(0)
        areas[0][rows, 0] += weight * sizes
        if columns:
            areas[1][0, columns] += weight * coco_mask.area(list(after.masks)).astype(float)
        if rows and columns:
            # with "iscrowd", pycocotools divides the intersection by the area of the first mask
            ioas = coco_mask.iou(list(before.masks), list(after.masks), [1] * len(columns))
            intersections[np.ix_(rows, columns)] += weight * np.rint(ioas * sizes[:, None])
    unions = areas[0] + areas[1] - intersections
    return np.divide(intersections, unions, out=np.zeros_like(unions), where=unions > 0)
