"""Overlap of the tracks of a video, per frame and in total."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.formats.video_set import MaskTrack
from queryinst_vis.masks import RLE
from queryinst_vis.masks.decoded import DecodedMasks, frame_ioas, stack


@dataclass(frozen=True)
class FrameOverlap:
    """Mask intersections of the detections and ground-truth tracks in one frame.

    Attributes:
        frame: 0-based index.
        rows: ``(R,)`` indices of the detections with a mask in this frame.
        columns: ``(C,)`` indices of the ground-truth tracks with a mask in this frame.
        intersections: ``(R, C)`` areas in pixels.
    """

    frame: int
    rows: np.ndarray
    columns: np.ndarray
    intersections: np.ndarray

    def reindex(self, rows: np.ndarray, columns: np.ndarray) -> FrameOverlap:
        """Replace row ``i`` by ``rows[i]`` and column ``j`` by ``columns[j]``; -1 drops them."""
        new_rows, new_columns = rows[self.rows], columns[self.columns]
        intersections = self.intersections
        if min(new_rows.min(), new_columns.min()) < 0:
            intersections = intersections[np.ix_(new_rows >= 0, new_columns >= 0)]
            new_rows, new_columns = new_rows[new_rows >= 0], new_columns[new_columns >= 0]
        return FrameOverlap(self.frame, new_rows, new_columns, intersections)


def frame_overlaps(
    detections: Sequence[MaskTrack], ground_truth: Sequence[MaskTrack]
) -> Iterator[FrameOverlap]:
    """Yield the overlaps of each frame with at least one mask on both sides, in order."""
    if not detections or not ground_truth:
        return
    detection_masks, gt_masks = _stack_decoded(detections), _stack_decoded(ground_truth)
    if detection_masks is None or gt_masks is None:
        yield from _overlaps_of_rles(detections, ground_truth)
        return
    sizes = _sizes(detections)
    for part in frame_ioas(detection_masks, gt_masks):
        frames, rows, _ = part.pairs()
        for overlap in part.by_frame(_intersections(part.ioas, sizes[rows, frames])):
            yield FrameOverlap(*overlap)


def _stack_decoded(tracks: Sequence[MaskTrack]) -> DecodedMasks | None:
    """``(tracks, frames)`` masks; None if there are no tracks or one is not decoded."""
    decoded = [track.decoded for track in tracks if track.decoded is not None]
    return stack(decoded) if decoded and len(decoded) == len(tracks) else None


def _intersections(ioas: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Areas of intersection in pixels, from intersections over the detections' areas (IoA).

    pycocotools' IoU with ``iscrowd`` is the IoA. It is used since pycocotools computes it without
    merging masks, and skips pairs whose boxes do not overlap; rounding makes the areas exact.
    """
    return np.rint(ioas * sizes)


def _overlaps_of_rles(
    detections: Sequence[MaskTrack], ground_truth: Sequence[MaskTrack]
) -> Iterator[FrameOverlap]:
    """``frame_overlaps`` of tracks whose masks are not decoded."""
    detection_rles, gt_rles = _rles_by_frame(detections), _rles_by_frame(ground_truth)
    for frame in sorted(detection_rles.keys() & gt_rles.keys()):
        in_rows, in_columns = detection_rles[frame], gt_rles[frame]
        ioas = coco_mask.iou([*in_rows.values()], [*in_columns.values()], [1] * len(in_columns))
        sizes = np.array([detections[row].sizes[frame] for row in in_rows])
        intersections = _intersections(np.asarray(ioas), sizes[:, None])
        yield FrameOverlap(frame, np.array([*in_rows]), np.array([*in_columns]), intersections)


def _rles_by_frame(tracks: Sequence[MaskTrack]) -> dict[int, dict[int, RLE]]:
    """The masks of each frame by index of the track."""
    rles: dict[int, dict[int, RLE]] = defaultdict(dict)
    for index, track in enumerate(tracks):
        for frame, mask in track.shown().items():
            rles[frame][index] = mask
    return rles


def track_ious(
    detections: Sequence[MaskTrack], ground_truth: Sequence[MaskTrack], min_iou: float = 0.0
) -> np.ndarray:
    """Compare tracks and return their ``summed_ious``.

    Args:
        detections, ground_truth: tracks of one video.
        min_iou: IoUs below this value may be returned as 0, since pairs whose mask sizes rule out
            a higher IoU are not compared.
    """
    if not detections or not ground_truth:
        return np.zeros((len(detections), len(ground_truth)))
    sizes, gt_sizes = _sizes(detections), _sizes(ground_truth)
    totals = sizes.sum(axis=1)[:, None] + gt_sizes.sum(axis=1)[None, :]
    # upper bound of the intersections: the smaller mask of each frame lies in the larger one
    bounds = np.stack([np.minimum(sizes, track).sum(axis=1) for track in gt_sizes], axis=1)
    possible = (bounds > 0) & (bounds >= (min_iou - 1e-9) * (totals - bounds))
    rows, columns = np.flatnonzero(possible.any(axis=1)), np.flatnonzero(possible.any(axis=0))
    compared = [detections[d] for d in rows.tolist()], [ground_truth[g] for g in columns.tolist()]
    ious = np.zeros(possible.shape)
    ious[rows[:, None], columns] = _track_ious(*compared)
    return ious


def _track_ious(detections: list[MaskTrack], ground_truth: list[MaskTrack]) -> np.ndarray:
    """``summed_ious`` of the tracks; with decoded masks, all frames are summed at once."""
    detection_masks, gt_masks = _stack_decoded(detections), _stack_decoded(ground_truth)
    if detection_masks is None or gt_masks is None:
        return summed_ious(detections, ground_truth, _overlaps_of_rles(detections, ground_truth))
    sizes, intersections = _sizes(detections), np.zeros((len(detections), len(ground_truth)))
    for part in frame_ioas(detection_masks, gt_masks):
        frames, rows, columns = part.pairs()
        np.add.at(intersections, (rows, columns), _intersections(part.ioas, sizes[rows, frames]))
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
    """``(D, G)`` IoUs from summed intersections, 0 if both tracks are empty."""
    totals = _sizes(detections).sum(axis=1)[:, None] + _sizes(ground_truth).sum(axis=1)
    unions = totals - intersections
    return np.divide(intersections, unions, out=np.zeros_like(unions), where=unions > 0)


def _sizes(tracks: Sequence[MaskTrack]) -> np.ndarray:
    """``(tracks, frames)`` mask areas in pixels."""
    return np.stack([track.sizes for track in tracks])
