"""Videos and mask tracks as the evaluation compares them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.formats.fields import is_finite, is_integer
from queryinst_vis.formats.inputs import PlacedEntries
from queryinst_vis.masks import RLE, to_rles


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
    if not all(is_integer(side) and side > 0 for side in sides):
        raise InputError(f"{place}: needs `height`, `width` and `length` as positive integers")
    if isinstance(names, list) and len(names) != length:
        raise InputError(f"{place}: has `length` {length} but {len(names)} `file_names`")
    return Video(entry["id"], *sides)


def parse_detections(entries: PlacedEntries, video: Video) -> list[MaskTrack]:
    """A result file's tracks of one video; ``id`` is their position in the file.

    Raises:
        InputError: a mask is unreadable or not of the video's size, or there is not one a frame.
    """
    return [
        MaskTrack(
            id=entry["id"],
            category_id=entry["category_id"],
            masks=masks,
            sizes=sizes,
            area=_mean_area(sizes),
            score=float(entry["score"]),
        )
        for (_, entry), (masks, sizes) in zip(entries, masks_of(entries, video), strict=True)
    ]


def parse_truths(entries: PlacedEntries, video: Video) -> list[MaskTrack]:
    """A ground-truth file's tracks of one video; ``areas``, if any, go before the masks' own.

    Raises:
        InputError: as ``parse_detections``, or ``areas`` are no numbers.
    """
    tracks = []
    for (place, entry), (masks, sizes) in zip(entries, masks_of(entries, video), strict=True):
        areas = entry.get("areas")
        area = _mean_area(sizes if areas is None else _parse_areas(areas, place))
        crowd = bool(entry.get("iscrowd", 0))
        tracks.append(MaskTrack(entry["id"], entry["category_id"], masks, sizes, area, crowd=crowd))
    return tracks


def masks_of(entries: PlacedEntries, video: Video) -> Iterator[tuple[list[RLE | None], np.ndarray]]:
    """For each entry one RLE or None per frame, and ``(frames,)`` their areas in pixels."""
    for place, entry in entries:
        _check_length(entry["segmentations"], video, place)
    frames = [
        [frame for frame, mask in enumerate(entry["segmentations"]) if mask] for _, entry in entries
    ]
    owners = np.repeat(np.arange(len(entries)), [len(shown) for shown in frames])
    frame_of = np.fromiter(chain.from_iterable(frames), dtype=np.int64, count=len(owners))
    rles, areas = to_rles(
        [mask for _, entry in entries for mask in entry["segmentations"] if mask],
        video.height,
        video.width,
        lambda index: f"{entries[owners[index]][0]}, frame {frame_of[index]}",
    )
    sizes = np.zeros((len(entries), video.length), dtype=np.int64)
    sizes[owners, frame_of] = areas
    unplaced = iter(rles)
    for shown, own_sizes in zip(frames, sizes, strict=True):
        masks: list[RLE | None] = [None] * video.length
        for frame in shown:
            masks[frame] = next(unplaced)
        yield masks, own_sizes


def _check_length(segmentations: Any, video: Video, place: str) -> None:
    is_list = isinstance(segmentations, list)
    if not is_list or len(segmentations) != video.length:
        found = len(segmentations) if is_list else repr(segmentations)[:40]
        raise InputError(
            f"{place}: `segmentations` must list {video.length} masks or nulls, one for each"
            f" frame of video {video.id}, has {found}"
        )


def _parse_areas(areas: Any, place: str) -> np.ndarray:
    if not isinstance(areas, list) or not all(area is None or is_finite(area) for area in areas):
        raise InputError(f"{place}: `areas` must list numbers or nulls, is {repr(areas)[:40]}")
    return np.array([area or 0.0 for area in areas], dtype=float)


def _mean_area(areas: np.ndarray) -> float:
    """Mean over the frames that show the object, i.e. where the area is not 0."""
    shown = areas[areas != 0]
    return float(shown.mean()) if shown.size else 0.0


def frame_overlaps(detections: list[MaskTrack], truths: list[MaskTrack]) -> Iterator[FrameOverlap]:
    """Walk through the frames in which at least one detection and one ground truth have a mask."""
    found, there = _by_frame(detections), _by_frame(truths)
    for frame in sorted(found.keys() & there.keys()):
        rows, columns = found[frame], there[frame]
        # Where boxes do not meet, pycocotools looks no further. Its IoU with a crowd is
        # intersection / detection area: exact once rounded.
        shares = coco_mask.iou(
            [detections[row].masks[frame] for row in rows],
            [truths[column].masks[frame] for column in columns],
            [1] * len(columns),
        )
        sizes = np.array([detections[row].sizes[frame] for row in rows])
        yield FrameOverlap(
            frame, np.array(rows), np.array(columns), np.rint(shares * sizes[:, None])
        )


def _by_frame(tracks: list[MaskTrack]) -> dict[int, list[int]]:
    """Indices of the tracks that have a mask, by frame."""
    shown: dict[int, list[int]] = defaultdict(list)
    for index, track in enumerate(tracks):
        for frame, mask in enumerate(track.masks):
            if mask:
                shown[frame].append(index)
    return shown


def track_ious(
    detections: list[MaskTrack], truths: list[MaskTrack], least: float = 0.0
) -> np.ndarray:
    """``(D, G)`` IoUs of tracks: summed intersections over summed unions, 0 if both are empty.

    Args:
        detections, truths: tracks of one video.
        least: IoUs below this one may come out as 0, for whoever does not look at them: pairs
            whose sizes alone rule out more are not compared.
    """
    intersections = np.zeros((len(detections), len(truths)))
    if not intersections.size:
        return intersections
    sizes, truth_sizes = (
        np.stack([track.sizes for track in some]) for some in (detections, truths)
    )
    totals = sizes.sum(axis=1)[:, None] + truth_sizes.sum(axis=1)[None, :]
    shared = np.stack([np.minimum(sizes, own).sum(axis=1) for own in truth_sizes], axis=1)
    possible = (shared > 0) & (shared >= (least - 1e-9) * (totals - shared))
    rows, columns = np.flatnonzero(possible.any(axis=1)), np.flatnonzero(possible.any(axis=0))
    for overlap in frame_overlaps([detections[d] for d in rows], [truths[g] for g in columns]):
        at = rows[overlap.rows][:, None], columns[overlap.columns]
        intersections[at] += overlap.intersections
    unions = totals - intersections
    return np.divide(intersections, unions, out=np.zeros_like(unions), where=unions > 0)
