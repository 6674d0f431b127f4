"""Checks for suspicious masks, and for boxes and areas that do not match them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.formats.annotation_set import Video
from queryinst_vis.formats.annotations import Annotation, decode_track, parse_annotation
from queryinst_vis.formats.findings import Finding, Place, Report, describe_place
from queryinst_vis.masks import RLE

BOX_SLACK = 2.0, 0.05
"""Tolerance between a box and its mask's bounding box, in pixels or as a fraction of the longer
side: polygons end between pixels, and tools differ in whether they count the last pixel."""

AREA_SLACK = 32.0, 0.1
"""Tolerance between an area and its mask's, in pixels or as a fraction of the area."""

Masks = list[RLE | None]
"""One compressed RLE per frame; None if there is no mask, or an invalid one."""


def check_annotation(entry: dict[str, Any], video: Video, report: Report) -> Masks:
    """Check one annotation of a video or an image.

    Args:
        entry: an entry of ``AnnotationSet.entries``.
        video: its video or image.
        report: called with each finding.

    Returns:
        Its masks; empty if the entries are not one per frame.
    """
    place = {**video.place, "annotation": entry["id"]}
    _check_attributes(entry, video, place, report)
    annotation = parse_annotation(entry, video, report)
    if annotation is None:
        return []
    if annotation.boxes_alone() and not any(annotation.segmentations):
        return [None] * video.length
    masks, sizes = check_masks(annotation.segmentations, video, place, report)
    for frame, (mask, size) in enumerate(zip(masks, sizes.tolist(), strict=True)):
        is_invalid = mask is None and annotation.segmentations[frame] is not None
        if not is_invalid:
            here = video.frame_place(place, frame)
            _check_box(_value(annotation, "boxes", video, frame), mask, here, report)
            _check_area(_value(annotation, "areas", video, frame), mask, size, here, report)
    return masks


_KEYS = {"boxes": ("bboxes", "bbox"), "areas": ("areas", "area")}
_ABSENT = object()
"""Marks a box or an area that the file does not contain, or that is invalid."""


def _value(annotation: Annotation, name: str, video: Video, frame: int) -> Any:
    values = getattr(annotation, name)
    video_key, image_key = _KEYS[name]
    if values is None or (video.kind == "image" and annotation.entry.get(image_key) is None):
        return _ABSENT
    given = annotation.entry[video_key][frame] if video.kind == "video" else values[0]
    return _ABSENT if values[frame] is None and given is not None else values[frame]


def check_masks(
    segmentations: list[Any], video: Video, place: Place, report: Report
) -> tuple[Masks, np.ndarray]:
    """Decode and check the masks of a track, one per frame or None.

    Returns:
        The masks, and their ``(frames,)`` areas in pixels.
    """
    masks, sizes = decode_track(segmentations, video, place, report)
    if not any(mask is not None for mask in segmentations):
        report(Finding("never visible", place, "has no mask in any frame"))
    for frame, (segmentation, mask) in enumerate(zip(segmentations, masks, strict=True)):
        if mask is None:
            continue
        here = video.frame_place(place, frame)
        if isinstance(segmentation, list):
            _check_extent(segmentation, video, here, report)
        if not sizes[frame]:
            message = "the mask has no pixels; use null for frames without the object"
            report(Finding("empty mask", here, message))
    return masks, sizes


def _check_extent(polygons: list, video: Video, place: Place, report: Report) -> None:
    x = [value for points in polygons for value in points[::2]]
    y = [value for points in polygons for value in points[1::2]]
    if min(*x, *y) < -1 or max(x) > video.width + 1 or max(y) > video.height + 1:
        message = (
            f"extends from {min(x):g}, {min(y):g} to {max(x):g}, {max(y):g}, "
            f"but its frame is {video.width}x{video.height}"
        )
        report(Finding("polygon outside", place, message))


def check_repetitions(tracks: Sequence[tuple[Place, Masks]], report: Report) -> None:
    """Report tracks of a video that share identical masks with another track."""
    first: dict[tuple[int, str | bytes], int] = {}
    for number, (place, masks) in enumerate(tracks):
        keys = [(frame, mask["counts"]) for frame, mask in enumerate(masks) if mask]
        owners = Counter(
            owner for key in keys if (owner := first.setdefault(key, number)) != number
        )
        for owner, count in owners.items():
            other = describe_place(
                {k: v for k, v in tracks[owner][0].items() if k not in place or v != place[k]}
            )
            message = f"{count} of its {len(keys)} masks are identical to those of {other}"
            report(Finding("repeated masks", place, message))


def _check_attributes(entry: dict[str, Any], video: Video, place: Place, report: Report) -> None:
    if entry.get("iscrowd") == 1:
        message = "a group or an ignore region: not used as an instance in training or evaluation"
        report(Finding("crowd", place, message))
    for key in ("height", "width", "length"):
        expected = getattr(video, key)
        if entry.get(key, expected) != expected:
            message = f"`{key}` is {entry[key]!r:.40}, but that of its {video.kind} is {expected}"
            report(Finding("annotation size", place, message))


def _check_box(box: Any, mask: RLE | None, place: Place, report: Report) -> None:
    if box is _ABSENT:
        return
    if box is None:
        if mask is not None:
            report(Finding("mask without box", place, "has a mask, but the box is null"))
    elif mask is None:
        report(Finding("box without mask", place, f"box {box}, but no mask"))
    elif min(box[2:]) <= 0:
        report(Finding("empty box", place, f"box {box} has no area"))
    else:
        tight = coco_mask.toBbox(mask).tolist()
        slack = max(BOX_SLACK[0], BOX_SLACK[1] * max(tight[2:]))
        corners = [(x, y, x + width, y + height) for x, y, width, height in (box, tight)]
        if any(abs(given - expected) > slack for given, expected in zip(*corners, strict=True)):
            given, expected = ([round(number, 1) for number in one] for one in (box, tight))
            report(Finding("box differs", place, f"box {given}, but its mask has {expected}"))


def _check_area(area: Any, mask: RLE | None, size: int, place: Place, report: Report) -> None:
    if area is _ABSENT:
        return
    if area is None:
        if mask is not None:
            report(Finding("mask without area", place, "has a mask, but the area is null"))
    elif mask is None:
        if area:
            report(Finding("area without mask", place, f"area {area}, but no mask"))
    elif abs(area - size) > max(AREA_SLACK[0], AREA_SLACK[1] * size):
        report(Finding("area differs", place, f"area {area:g}, but its mask has {size}"))
