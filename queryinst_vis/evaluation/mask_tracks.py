"""Videos and mask tracks as the evaluation compares them."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
        masks: one compressed RLE per frame, None where the object is absent.
        sizes: ``(frames,)`` pixels of each mask, 0 where the object is absent.
        area: mean mask area over the frames that show the object, in pixels; 0 if none does.
        crowd: ground truth that stands for a group; never counts, may be matched repeatedly.
    """

    masks: list[RLE | None]
    sizes: np.ndarray
    area: float
    crowd: bool = False


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


def parse_detection(entry: dict, video: Video, place: str) -> MaskTrack:
    """A result file's track; its area is that of its masks.

    Raises:
        InputError: a mask is unreadable or not of the video's size.
    """
    masks = [
        to_rle(mask, video.height, video.width, f"{place}, frame {frame}") if mask else None
        for frame, mask in enumerate(entry["segmentations"])
    ]
    sizes = np.zeros(video.length, dtype=np.int64)
    shown = [frame for frame, mask in enumerate(masks) if mask]
    if shown:
        sizes[shown] = coco_mask.area([masks[frame] for frame in shown])
    return MaskTrack(masks, sizes, _mean_area(sizes.tolist(), place))


def parse_truth(entry: dict, video: Video, place: str) -> MaskTrack:
    """A ground-truth file's track; its ``areas``, where present, go before those of its masks.

    Raises:
        InputError: a mask is unreadable or not of the video's size, or ``areas`` no numbers.
    """
    track = parse_detection(entry, video, place)
    areas = entry.get("areas")
    area = track.area if areas is None else _mean_area(areas, place)
    return replace(track, area=area, crowd=bool(entry.get("iscrowd", 0)))


def _mean_area(areas: Any, place: str) -> float:
    """Mean over the frames that show the object, i.e. where the area is neither null nor 0."""
    try:
        shown = np.array([area for area in areas if area], dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: `areas` must list numbers or nulls ({error})") from error
    return float(shown.mean()) if shown.size else 0.0


def track_ious(detections: list[MaskTrack], truths: list[MaskTrack]) -> np.ndarray:
    """``(D, G)`` IoUs of tracks: summed intersections over summed unions, 0 if both are empty."""
    intersections = np.zeros((len(detections), len(truths)))
    if intersections.size == 0:
        return intersections
    sizes = np.stack([track.sizes for track in detections]).astype(float)
    truth_sizes = np.stack([track.sizes for track in truths]).astype(float)
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
            intersections[np.ix_(rows, columns)] += np.rint(shares * sizes[rows, frame, None])
    unions = sizes.sum(axis=1)[:, None] + truth_sizes.sum(axis=1)[None, :] - intersections
    return np.divide(intersections, unions, out=np.zeros_like(unions), where=unions > 0)
