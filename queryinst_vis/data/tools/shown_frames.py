"""Frames of a set with the instances that they show, ready to be drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import supervision as sv

from queryinst_vis.data.tools.annotation_set import AnnotationSet, Medium, boxes_alone
from queryinst_vis.data.tools.findings import describe_place
from queryinst_vis.data.tools.results_checks import PlacedEntries
from queryinst_vis.errors import InputError
from queryinst_vis.masks import decode_rle, to_rle
from queryinst_vis.utils.images import read_image


@dataclass(frozen=True)
class ShownTrack:
    """A ground truth or a prediction to draw.

    Attributes:
        where: its place in its file.
        id: the annotation's id, or the position in the result file.
        class_name: crowds say so behind it.
        score: None for ground truth.
        segmentations: one a frame, None where it is absent or has a box alone.
        boxes: ``{frame: (x, y, width, height)}`` where it has a box alone.
    """

    where: str
    id: int
    class_name: str
    score: float | None
    segmentations: list[Any]
    boxes: dict[int, list[float]] = field(default_factory=dict)


class ShownFrame(NamedTuple):
    """Frame ``index`` (0-based), its pixels ``(H, W, 3)`` uint8 RGB, and what it shows."""

    index: int
    picture: np.ndarray
    found: sv.Detections


def annotated_tracks(annotation_set: AnnotationSet, medium: Medium) -> list[ShownTrack]:
    """The ground truth of a video or an image.

    Raises:
        InputError: a track does not have one mask, or null, for each frame.
    """
    tracks = []
    for annotation in annotation_set.annotations[medium.id]:
        entry = annotation.entry
        where = describe_place({**medium.place, "annotation": entry["id"]})
        masks = _one_a_frame(annotation.segmentations, medium, where)
        name = annotation_set.categories[entry["category_id"]]
        name += " (crowd)" if entry.get("iscrowd") else ""
        boxes = boxes_alone(annotation)
        tracks.append(ShownTrack(where, entry["id"], name, None, masks, boxes))
    return tracks


def predicted_tracks(
    placed: PlacedEntries, medium: Medium, categories: dict[int, str], min_score: float
) -> list[ShownTrack]:
    """The predictions for a video that are at least as sure as ``min_score``.

    Raises:
        InputError: a prediction does not have one mask, or null, for each frame.
    """
    tracks = []
    for place, entry in placed:
        if entry["score"] >= min_score:
            where = describe_place({**place, **medium.place})
            masks = _one_a_frame(entry["segmentations"], medium, where)
            name = categories[entry["category_id"]]
            tracks.append(ShownTrack(where, place["entry"], name, entry["score"], masks))
    return tracks


def _one_a_frame(segmentations: Any, medium: Medium, where: str) -> list[Any]:
    if not isinstance(segmentations, list) or len(segmentations) != medium.length:
        raise InputError(f"{where}: `segmentations` must have {medium.length} entries")
    return segmentations


def read_frames(
    medium: Medium,
    tracks: Sequence[ShownTrack],
    class_names: Sequence[str],
    images: Path,
    frames: Sequence[int],
    max_width: int | None = None,
) -> Iterator[ShownFrame]:
    """Read frames of a video one by one.

    Args:
        medium: a video or an image.
        tracks: what to show.
        class_names: those of the tracks; their positions become the class ids.
        images: folder that file names are relative to.
        frames: indices of the frames to read.
        max_width: wider pictures are made smaller, masks as well.

    Raises:
        InputError: the video names no files, an image cannot be read or is not of the size that
            the file says, a mask is broken.
    """
    if not medium.file_names:
        raise InputError(f"{describe_place(medium.place)}: names no files, so nothing can be shown")
    for index in frames:
        path = images / medium.file_names[index]
        picture = read_image(path)
        if picture.shape[:2] != (medium.height, medium.width):
            raise InputError(
                f"image {path}: {picture.shape[1]}x{picture.shape[0]} pixels, "
                f"but its annotations are for {medium.width}x{medium.height}"
            )
        size = scaled_size(medium, max_width)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        yield ShownFrame(index, picture, _instances(medium, tracks, class_names, index, size))


def scaled_size(medium: Medium, max_width: int | None) -> tuple[int, int]:
    """``(width, height)`` of its frames in pixels, made smaller where they are too wide."""
    if max_width is None or medium.width <= max_width:
        return medium.width, medium.height
    return max_width, max(round(medium.height * max_width / medium.width), 1)


def _instances(
    medium: Medium,
    tracks: Sequence[ShownTrack],
    class_names: Sequence[str],
    index: int,
    size: tuple[int, int],
) -> sv.Detections:
    """What a frame shows, in pixels of a picture of ``size`` (width, height)."""
    shown, masks = [], []
    for track in tracks:
        mask = _mask_to_draw(track, medium, index, size)
        if mask.any():
            shown.append(track)
            masks.append(mask)
    stacked = np.array(masks).reshape(len(masks), size[1], size[0]).astype(bool)
    scores = [track.score for track in shown]
    return sv.Detections(
        xyxy=sv.mask_to_xyxy(stacked).astype(np.float32).reshape(-1, 4),
        mask=stacked,
        confidence=None if None in scores else np.array(scores, dtype=np.float32),
        class_id=np.array([class_names.index(track.class_name) for track in shown], dtype=int),
        tracker_id=np.array([track.id for track in shown], dtype=int),
    )


def _mask_to_draw(
    track: ShownTrack, medium: Medium, index: int, size: tuple[int, int]
) -> np.ndarray:
    """``(height, width)`` bool of the picture: the mask, or the outline of a box without one."""
    width, height = size
    mask = np.zeros((height, width), dtype=np.uint8)
    if track.segmentations[index]:
        where = f"{track.where}, frame {index}"
        rle = to_rle(track.segmentations[index], medium.height, medium.width, where)
        mask = decode_rle(rle).astype(np.uint8)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    elif index in track.boxes:
        x, y, box_width, box_height = track.boxes[index]
        corners = np.array([[x, y], [x + box_width, y + box_height]])
        corners = corners * size / (medium.width, medium.height)
        first, last = np.rint(corners).astype(int).tolist()
        cv2.rectangle(mask, first, [last[0] - 1, last[1] - 1], 1, thickness=2)
    return mask.astype(bool)
