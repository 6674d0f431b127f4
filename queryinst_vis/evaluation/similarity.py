"""Per-frame IoUs of ground truth and detections of a class, for the tracking metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import add
from typing import TypeVar

import numpy as np
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

from queryinst_vis.evaluation.overlaps import FrameOverlap, frame_overlaps
from queryinst_vis.formats.video_set import MaskTrack, VideoTracks

MATCH_IOU = 0.5
"""Minimum IoU of a match, except in HOTA."""

IGNORED_FRACTION = 0.5
"""Unmatched detections with more than this fraction inside ignore regions do not count."""

EPSILON = np.finfo(float).eps
"""Tolerance of ``trackeval`` in comparing IoUs with thresholds."""


AnyCounts = TypeVar("AnyCounts", bound="Counts")


@dataclass(frozen=True)
class Counts:
    """Counts of a tracking metric: numbers or arrays, added field by field with ``+``."""

    def __add__(self: AnyCounts, other: AnyCounts) -> AnyCounts:
        return type(self)(*map(add, vars(self).values(), vars(other).values()))


@dataclass(frozen=True)
class FrameSimilarity:
    """A frame with at least one ground-truth mask and one detection.

    Attributes:
        frame: 0-based index.
        ground_truth: ``(G,)`` indices of the ground-truth tracks in the frame.
        detections: ``(D,)`` indices of the detections in the frame that count.
        ious: ``(G, D)`` IoUs of their masks, 0..1.
    """

    frame: int
    ground_truth: np.ndarray
    detections: np.ndarray
    ious: np.ndarray


@dataclass(frozen=True)
class TrackSimilarity:
    """Per-frame IoUs of one class in one video, for HOTA, IDF1 and CLEAR MOT.

    Attributes:
        ground_truth_ids: ids of the ground-truth tracks without crowds.
        detection_ids: ids of the detections.
        ground_truth_frames: ``(G,)`` number of frames with each ground-truth track.
        detection_frames: ``(D,)`` number of frames in which each detection counts.
        frames: frames with ground truth and a detection that counts, ascending.
        shown: ``(G, frames of the video)`` bool, frames with each ground-truth track.
        counted: ``(D, frames of the video)`` bool, frames in which each detection counts.
    """

    ground_truth_ids: list[int]
    detection_ids: list[int]
    ground_truth_frames: np.ndarray
    detection_frames: np.ndarray
    frames: list[FrameSimilarity]
    shown: np.ndarray
    counted: np.ndarray


def compare_tracks(
    tracks: VideoTracks, category_id: int | None, overlaps: Iterable[FrameOverlap] | None = None
) -> TrackSimilarity:
    """Compare the tracks of one class, or of all classes as if they were one.

    An empty mask means that the object is absent. Detections may overlap, as usual in video
    instance segmentation. Crowds of any class are ignore regions, as in MOTS (Voigtlaender et al.,
    *MOTS: Multi-Object Tracking and Segmentation*, CVPR 2019, section 4): a mask that matches no
    ground truth of its frame (optimal assignment, IoU of at least .5) and has more than half of its
    area inside them does not count.

    Args:
        tracks: one video.
        category_id: the class; None: the tracks of all classes.
        overlaps: overlaps of the detections and the ground truth (without crowds) of this class, if
            they have been computed already.
    """
    ground_truth = [
        track for track in tracks.ground_truth if not track.crowd and _is_of(track, category_id)
    ]
    detections = [track for track in tracks.detections if _is_of(track, category_id)]
    crowd = [track for track in tracks.ground_truth if track.crowd]
    ground_truth_sizes = _areas_by_frame(ground_truth, tracks.video.length)
    sizes = _areas_by_frame(detections, tracks.video.length)
    if overlaps is None:
        overlaps = frame_overlaps(detections, ground_truth)
    frames = [_similarity(overlap, ground_truth_sizes, sizes) for overlap in overlaps]
    shown, counted = ground_truth_sizes > 0, sizes > 0
    if crowd:
        counted &= ~_ignored(frames, detections, crowd, counted)
    return TrackSimilarity(
        [track.id for track in ground_truth],
        [track.id for track in detections],
        shown.sum(axis=1),
        counted.sum(axis=1),
        [kept for frame in frames if (kept := _counted_part(frame, shown, counted)) is not None],
        shown,
        counted,
    )


def _is_of(track: MaskTrack, category_id: int | None) -> bool:
    return category_id is None or track.category_id == category_id


def _areas_by_frame(tracks: list[MaskTrack], length: int) -> np.ndarray:
    """``(tracks, frames)`` mask areas in pixels."""
    sizes = [track.sizes for track in tracks]
    return np.array(sizes, dtype=np.int64).reshape(len(tracks), length)


def _similarity(
    overlap: FrameOverlap, ground_truth_sizes: np.ndarray, sizes: np.ndarray
) -> FrameSimilarity:
    intersections = overlap.intersections.T
    areas = (
        ground_truth_sizes[overlap.columns, overlap.frame][:, None]
        + sizes[overlap.rows, overlap.frame]
    )
    unions = areas - intersections
    ious = np.divide(intersections, unions, out=np.zeros(unions.shape), where=unions > 0)
    return FrameSimilarity(overlap.frame, overlap.columns, overlap.rows, ious)


def _ignored(
    frames: list[FrameSimilarity],
    detections: list[MaskTrack],
    crowd: list[MaskTrack],
    shown: np.ndarray,
) -> np.ndarray:
    """``(D, frames)`` bool: unmatched masks inside ignore regions."""
    ignored = np.zeros_like(shown)
    by_index = {frame.frame: frame for frame in frames}
    for index in range(shown.shape[1]):
        regions = [mask for track in crowd if (mask := track.masks[index]) and track.sizes[index]]
        rows = np.flatnonzero(shown[:, index])
        if index in by_index:
            rows = np.setdiff1d(rows, _matched(by_index[index]))
        if regions and rows.size:
            masks = [mask for row in rows if (mask := detections[row].masks[index])]
            # pycocotools' IoU with a crowd is intersection / detection area
            fractions = np.asarray(coco_mask.iou(masks, [coco_mask.merge(regions)], [1]))[:, 0]
            ignored[rows[fractions > IGNORED_FRACTION + EPSILON], index] = True
    return ignored


def _matched(frame: FrameSimilarity) -> np.ndarray:
    """Indices of the detections that the optimal assignment matches to ground truth."""
    ious = np.where(frame.ious < MATCH_IOU - EPSILON, -1e4, frame.ious)
    rows, columns = linear_sum_assignment(ious, maximize=True)
    return frame.detections[columns[ious[rows, columns] > 0]]


def _counted_part(
    frame: FrameSimilarity, shown: np.ndarray, counted: np.ndarray
) -> FrameSimilarity | None:
    """The frame without masks that do not count; None if either side has none left."""
    rows = shown[frame.ground_truth, frame.frame]
    columns = counted[frame.detections, frame.frame]
    if not rows.any() or not columns.any():
        return None
    ious = frame.ious[np.ix_(rows, columns)]
    return FrameSimilarity(frame.frame, frame.ground_truth[rows], frame.detections[columns], ious)
