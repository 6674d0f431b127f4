"""Videos and mask tracks as the evaluation compares them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.masks import RLE, to_rle


@dataclass(frozen=True)
class Video:
    """Frame size in pixels and number of frames of an annotated video."""

    id: int
    height: int
    width: int
    length: int


@dataclass(frozen=True)
class MaskTrack:
    """A ground-truth or predicted track, ready to be compared.

    Attributes:
        id: the annotation's id, or the position of the detection in its file.
        category_id: class, by the ground truth's id.
        masks: one compressed RLE per frame, None where the object is absent.
        sizes: ``(frames,)`` pixels of each mask, 0 where the object is absent.
        area: mean mask area over the frames that show the object, in pixels; 0 if none does.
        score: confidence of a detection; 1 for ground truth.
        crowd: ground truth that stands for a group; never counts, may be matched repeatedly.
    """

    id: int
    category_id: int
    masks: list[RLE | None]
    sizes: np.ndarray
    area: float
    score: float = 1.0
    crowd: bool = False


@dataclass(frozen=True)
class FrameOverlap:
    """Where detections and ground truth meet in one frame.

    Attributes:
        frame: 0-based index.
        rows: ``(R,)`` indices of the detections that have a mask in this frame.
        columns: ``(C,)`` indices of the ground truths that have one.
        intersections: ``(R, C)`` pixels that two masks share.
    """

    frame: int
    rows: np.ndarray
    columns: np.ndarray
    intersections: np.ndarray


def parse_video(entry: dict, place: str) -> Video:
    """A ground-truth file's video; ``place`` names it in error messages.

    Raises:
        InputError: sizes are missing, or ``length`` and ``file_names`` disagree.
    """
    names = entry.get("file_names")
    length = entry.get("length", len(names) if isinstance(names, list) else None)
    sides = (entry.get("height"), entry.get("width"), length)
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise InputError(f"{place}: needs `height`, `width` and `length` as positive integers")
    if isinstance(names, list) and len(names) != length:
        raise InputError(f"{place}: has `length` {length} but {len(names)} `file_names`")
    return Video(entry["id"], *sides)


def parse_detection(entry: dict, position: int, video: Video, place: str) -> MaskTrack:
    """A result file's track; its area is that of its masks.

    Raises:
        InputError: a mask is unreadable or not of the video's size, or there is not one a frame.
    """
    masks, sizes = _parse_masks(entry["segmentations"], video, place)
    area = _mean_area(sizes.tolist(), place)
    return MaskTrack(position, entry["category_id"], masks, sizes, area, float(entry["score"]))


def parse_truth(entry: dict, video: Video, place: str) -> MaskTrack:
    """A ground-truth file's track; its ``areas``, where present, go before those of its masks.

    Raises:
        InputError: as ``parse_detection``, or ``areas`` are no numbers.
    """
    masks, sizes = _parse_masks(entry["segmentations"], video, place)
    areas = entry.get("areas")
    area = _mean_area(sizes.tolist() if areas is None else areas, place)
    crowd = bool(entry.get("iscrowd", 0))
    return MaskTrack(entry["id"], entry["category_id"], masks, sizes, area, crowd=crowd)


def _parse_masks(
    segmentations: Any, video: Video, place: str
) -> tuple[list[RLE | None], np.ndarray]:
    """One RLE or None per frame, and ``(frames,)`` their areas in pixels."""
    if not isinstance(segmentations, list) or len(segmentations) != video.length:
        is_list = isinstance(segmentations, list)
        found = len(segmentations) if is_list else repr(segmentations)[:40]
        raise InputError(
            f"{place}: `segmentations` must list {video.length} masks or nulls, one for each"
            f" frame of video {video.id}, has {found}"
        )
    masks = [
        to_rle(mask, video.height, video.width, f"{place}, frame {frame}") if mask else None
        for frame, mask in enumerate(segmentations)
    ]
    sizes = np.zeros(video.length, dtype=np.int64)
    shown = [frame for frame, mask in enumerate(masks) if mask]
    if shown:
        sizes[shown] = coco_mask.area([masks[frame] for frame in shown])
    return masks, sizes


def _mean_area(areas: Any, place: str) -> float:
    """Mean over the frames that show the object, i.e. where the area is neither null nor 0."""
    try:
        shown = np.array([area for area in areas if area], dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: `areas` must list numbers or nulls ({error})") from error
    return float(shown.mean()) if shown.size else 0.0


def frame_overlaps(detections: list[MaskTrack], truths: list[MaskTrack]) -> Iterator[FrameOverlap]:
    """Walk through the frames in which at least one detection and one ground truth have a mask."""
    if not detections or not truths:
        return
    sizes = np.stack([track.sizes for track in detections])
    for frame in range(sizes.shape[1]):
        rows = [row for row, track in enumerate(detections) if track.masks[frame]]
        columns = [column for column, track in enumerate(truths) if track.masks[frame]]
        if rows and columns:
            # pycocotools' IoU with a crowd is intersection / detection area: exact once rounded
            shares = coco_mask.iou(
                [detections[row].masks[frame] for row in rows],
                [truths[column].masks[frame] for column in columns],
                [1] * len(columns),
            )
            intersections = np.rint(shares * sizes[rows, frame, None])
            yield FrameOverlap(frame, np.array(rows), np.array(columns), intersections)


def track_ious(detections: list[MaskTrack], truths: list[MaskTrack]) -> np.ndarray:
    """``(D, G)`` IoUs of tracks: summed intersections over summed unions, 0 if both are empty."""
    intersections = np.zeros((len(detections), len(truths)))
    for overlap in frame_overlaps(detections, truths):
        intersections[np.ix_(overlap.rows, overlap.columns)] += overlap.intersections
    sizes = np.array([track.sizes.sum() for track in detections], dtype=float)
    truth_sizes = np.array([track.sizes.sum() for track in truths], dtype=float)
    unions = sizes[:, None] + truth_sizes[None, :] - intersections
    return np.divide(intersections, unions, out=np.zeros_like(unions), where=unions > 0)
