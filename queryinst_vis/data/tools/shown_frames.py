"""Frames of a set with their instances, for drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import supervision as sv

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet, Video
from queryinst_vis.formats.annotations import Box, decode_track, parse_annotation
from queryinst_vis.formats.findings import describe_place, refuse_faults
from queryinst_vis.formats.names import refuse_outside
from queryinst_vis.formats.video_set import parse_detections
from queryinst_vis.masks import RLE, decode_rle
from queryinst_vis.utils.images import read_image


@dataclass(frozen=True)
class ShownTrack:
    """A ground-truth or predicted track to draw.

    Attributes:
        id: annotation id, or position in the result file.
        class_name: with the suffix ``(crowd)`` for crowds.
        score: 0..1; None for ground truth.
        masks: one per frame; None if absent or if only the box is known.
        boxes: ``{frame: (x, y, width, height)}`` for frames in which only the box is known.
    """

    id: int
    class_name: str
    score: float | None
    masks: list[RLE | None]
    boxes: dict[int, Box] = field(default_factory=dict)


class ShownFrame(NamedTuple):
    """Frame ``number`` (0-based), its ``(H, W, 3)`` uint8 RGB pixels, and its instances."""

    number: int
    picture: np.ndarray
    found: sv.Detections


def annotated_tracks(annotation_set: AnnotationSet, video: Video) -> list[ShownTrack]:
    """The ground truth of a video or an image.

    Raises:
        InputError: a track does not have one mask or null per frame, or a mask is invalid.
    """
    report = refuse_faults(annotation_set.where)
    tracks = []
    for entry in annotation_set.entries[video.id]:
        annotation = parse_annotation(entry, video, report)
        if annotation is None:
            continue
        place = {**video.place, "annotation": annotation.id}
        masks, _ = decode_track(annotation.segmentations, video, place, report)
        name = annotation_set.categories[annotation.category_id]
        name += " (crowd)" if annotation.crowd else ""
        tracks.append(ShownTrack(annotation.id, name, None, masks, annotation.boxes_alone()))
    return tracks


def predicted_tracks(
    entries: list[dict[str, Any]],
    video: Video,
    categories: dict[int, str],
    min_score: float,
    where: str,
) -> list[ShownTrack]:
    """The predictions for a video with a score of at least ``min_score``.

    Raises:
        InputError: a prediction does not have one mask or null per frame, or a mask is invalid;
            ``where`` names the file.
    """
    confident = [entry for entry in entries if entry["score"] >= min_score]
    return [
        ShownTrack(track.id, categories[track.category_id], track.score, track.masks)
        for track in parse_detections(confident, video, refuse_faults(where))
    ]


def read_frames(
    video: Video,
    tracks: Sequence[ShownTrack],
    class_names: Sequence[str],
    images: Path,
    frames: Sequence[int],
    max_width: int | None = None,
    allow_outside: bool = False,
) -> Iterator[ShownFrame]:
    """Read frames of a video one by one.

    Args:
        video: a video or an image.
        tracks: the tracks to show.
        class_names: class names of the tracks; their indices are the class ids.
        images: folder of the images; file names are relative to it.
        frames: indices of the frames to read.
        max_width: downscale wider frames and their masks to this width in pixels.
        allow_outside: allow file names outside the image folder.

    Raises:
        InputError: the video has no file names or some outside the image folder, an image cannot
            be read or has another size than in the file, or a mask is invalid.
    """
    if not video.file_names:
        raise InputError(f"{describe_place(video.place)}: cannot be shown without file names")
    refuse_outside(video.file_names, describe_place(video.place), allow_outside)
    for index in frames:
        picture = read_image(images / video.file_names[index], (video.height, video.width))
        size = scaled_size(video, max_width)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        yield ShownFrame(index, picture, _instances(video, tracks, class_names, index, size))


def scaled_size(video: Video, max_width: int | None) -> tuple[int, int]:
    """``(width, height)`` of a video's frames in pixels, downscaled to ``max_width``."""
    if max_width is None or video.width <= max_width:
        return video.width, video.height
    return max_width, max(round(video.height * max_width / video.width), 1)


def _instances(
    video: Video,
    tracks: Sequence[ShownTrack],
    class_names: Sequence[str],
    index: int,
    size: tuple[int, int],
) -> sv.Detections:
    """The instances of a frame, in pixels of a picture of ``size`` (width, height)."""
    shown, masks = [], []
    for track in tracks:
        mask = _mask_to_draw(track, video, index, size)
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


def _mask_to_draw(track: ShownTrack, video: Video, index: int, size: tuple[int, int]) -> np.ndarray:
    """The scaled mask, ``(height, width)`` bool; the outline of the box if there is no mask."""
    width, height = size
    mask: np.ndarray = np.zeros((height, width), dtype=np.uint8)
    rle = track.masks[index]
    if rle:
        mask = decode_rle(rle).astype(np.uint8)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    elif index in track.boxes:
        x, y, box_width, box_height = track.boxes[index]
        corners = np.array([[x, y], [x + box_width, y + box_height]])
        corners = corners * size / (video.width, video.height)
        first, last = np.rint(corners).astype(int).tolist()
        cv2.rectangle(mask, first, [last[0] - 1, last[1] - 1], 1, thickness=2)
    return mask.astype(bool)
