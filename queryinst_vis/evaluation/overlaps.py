"""Overlap of the tracks of a video, per frame and in total."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.formats.video_set import MaskTrack
from queryinst_vis.masks import RLE
from queryinst_vis.masks.decoded import DecodedMasks, frame_shares, stack


@dataclass(frozen=True)
class FrameOverlap:
    """Intersections of detections and ground truth in one frame.

    Attributes:
        frame: 0-based index.
        rows: ``(R,)`` indices of the detections that have a mask in this frame.
        columns: ``(C,)`` indices of the ground-truth tracks that have one.
        intersections: ``(R, C)`` pixels that two masks share.
    """

    frame: int
    rows: np.ndarray
    columns: np.ndarray
    intersections: np.ndarray

    def renumbered(self, rows: np.ndarray, columns: np.ndarray) -> FrameOverlap:
        """Map row ``i`` to ``rows[i]`` and column ``j`` to ``columns[j]``; -1 drops it."""
        new_rows, new_columns = rows[self.rows], columns[self.columns]
        intersections = self.intersections
        if min(new_rows.min(), new_columns.min()) < 0:
            intersections = intersections[np.ix_(new_rows >= 0, new_columns >= 0)]
            new_rows, new_columns = new_rows[new_rows >= 0], new_columns[new_columns >= 0]
        return FrameOverlap(self.frame, new_rows, new_columns, intersections)


def frame_overlaps(
    detections: Sequence[MaskTrack], ground_truth: Sequence[MaskTrack]
) -> Iterator[FrameOverlap]:
    """Walk through the frames in which at least one detection and one ground truth have a mask."""
    if not detections or not ground_truth:
        return
    found, there = _decoded(detections), _decoded(ground_truth)
    if found is None or there is None:
        yield from _overlaps_by_text(detections, ground_truth)
        return
    sizes = _sizes(detections)
    for part in frame_shares(found, there):
        frames, rows, _ = part.pairs()
        for of_frame in part.by_frame(_pixels(part.shares, sizes[rows, frames])):
            yield FrameOverlap(*of_frame)


def _decoded(tracks: Sequence[MaskTrack]) -> DecodedMasks | None:
    """``(tracks, frames)`` masks; None if there are no tracks or one is not decoded."""
    rows = [track.decoded for track in tracks if track.decoded is not None]
    return stack(rows) if rows and len(rows) == len(tracks) else None


def _pixels(shares: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Intersections in pixels from shares of the detections' areas.

    pycocotools' IoU with ``iscrowd`` is intersection / detection area: exact after rounding. It
    skips pairs whose boxes do not overlap.
    """
    return np.rint(shares * sizes)


def _overlaps_by_text(
    detections: Sequence[MaskTrack], ground_truth: Sequence[MaskTrack]
) -> Iterator[FrameOverlap]:
    """``frame_overlaps`` of tracks whose masks are not decoded."""
    found, there = _masks_by_frame(detections), _masks_by_frame(ground_truth)
    for frame in sorted(found.keys() & there.keys()):
        rows, columns = list(found[frame]), list(there[frame])
        shares = coco_mask.iou(
            list(found[frame].values()), list(there[frame].values()), [1] * len(columns)
        )
        sizes = np.array([detections[row].sizes[frame] for row in rows])
        pixels = _pixels(np.asarray(shares), sizes[:, None])
        yield FrameOverlap(frame, np.array(rows), np.array(columns), pixels)


def _masks_by_frame(tracks: Sequence[MaskTrack]) -> dict[int, dict[int, RLE]]:
    """The masks of each frame by the track's index."""
    shown: dict[int, dict[int, RLE]] = defaultdict(dict)
    for index, track in enumerate(tracks):
        for frame, mask in track.shown().items():
            shown[frame][index] = mask
    return shown


def track_ious(
    detections: Sequence[MaskTrack], ground_truth: Sequence[MaskTrack], least: float = 0.0
) -> np.ndarray:
    """Compare tracks and return their ``summed_ious``.

    Args:
        detections, ground_truth: tracks of one video.
        least: IoUs below this value may be returned as 0: pairs whose mask sizes rule out a higher
            IoU are not compared.
    """
    if not detections or not ground_truth:
        return np.zeros((len(detections), len(ground_truth)))
    sizes, true_sizes = _sizes(detections), _sizes(ground_truth)
    totals = sizes.sum(axis=1)[:, None] + true_sizes.sum(axis=1)[None, :]
    shared = np.stack([np.minimum(sizes, own).sum(axis=1) for own in true_sizes], axis=1)
    possible = (shared > 0) & (shared >= (least - 1e-9) * (totals - shared))
    rows, columns = np.flatnonzero(possible.any(axis=1)), np.flatnonzero(possible.any(axis=0))
    compared = [detections[d] for d in rows.tolist()], [ground_truth[g] for g in columns.tolist()]
    ious = np.zeros(possible.shape)
    ious[rows[:, None], columns] = _track_ious(*compared)
    return ious


def _track_ious(detections: list[MaskTrack], ground_truth: list[MaskTrack]) -> np.ndarray:
    """``summed_ious``, of decoded masks with the pairs of all frames added at once."""
    found, there = _decoded(detections), _decoded(ground_truth)
    if found is None or there is None:
        return summed_ious(detections, ground_truth, _overlaps_by_text(detections, ground_truth))
    sizes, intersections = _sizes(detections), np.zeros((len(detections), len(ground_truth)))
    for part in frame_shares(found, there):
        frames, rows, columns = part.pairs()
        np.add.at(intersections, (rows, columns), _pixels(part.shares, sizes[rows, frames]))
    return _ious(intersections, detections, ground_truth)


def summed_ious(
    detections: Sequence[MaskTrack],
    ground_truth: Sequence[MaskTrack],
    overlaps: Iterable[FrameOverlap],
) -> np.ndarray:
    """``(D, G)`` IoUs of tracks: summed intersections over summed unions, 0 if both are empty."""
    intersections = np.zeros((len(detections), len(ground_truth)))
    if not intersections.size:
        return intersections
    for overlap in overlaps:
        intersections[overlap.rows[:, None], overlap.columns] += overlap.intersections
    return _ious(intersections, detections, ground_truth)


def _ious(
    intersections: np.ndarray, detections: Sequence[MaskTrack], ground_truth: Sequence[MaskTrack]
) -> np.ndarray:
    """Summed intersections over summed unions, both ``(D, G)``, 0 if both tracks are empty."""
    totals = _sizes(detections).sum(axis=1)[:, None] + _sizes(ground_truth).sum(axis=1)
    unions = totals - intersections
    return np.divide(intersections, unions, out=np.zeros_like(unions), where=unions > 0)


def _sizes(tracks: Sequence[MaskTrack]) -> np.ndarray:
    """``(tracks, frames)`` pixels."""
    return np.stack([track.sizes for track in tracks])
