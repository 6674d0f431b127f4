"""Masks that are probably not meant so, and boxes and areas that do not fit them."""

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
"""A box may differ from its mask's by this many pixels, or this share of its longer side: polygons
end between pixels, and some tools count the last pixel and some do not."""

AREA_SLACK = 32.0, 0.1
"""An area may differ from its mask's by this many pixels, or this share of it."""

Masks = list[RLE | None]
"""One compressed RLE per frame, None where there is no mask or a broken one."""


def check_annotation(entry: dict[str, Any], video: Video, report: Report) -> Masks:
    """Check one annotation of a video or an image, and return its masks.

    Args:
        entry: of ``AnnotationSet.entries``.
        video: that it belongs to.
        report: takes the findings.

    Returns:
        No mask at all if there is not one entry for each frame.
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
        is_broken = mask is None and annotation.segmentations[frame] is not None
        if not is_broken:
            here = video.frame_place(place, frame)
            _check_box(_value(annotation, "boxes", video, frame), mask, here, report)
            _check_area(_value(annotation, "areas", video, frame), mask, size, here, report)
    return masks


_KEYS = {"boxes": ("bboxes", "bbox"), "areas": ("areas", "area")}
_ABSENT = object()
"""Stands for a box or an area about which nothing is said: the file gives none, or a broken one."""


def _value(annotation: Annotation, name: str, video: Video, frame: int) -> Any:
    values = getattr(annotation, name)
    of_video, of_image = _KEYS[name]
    if values is None or (video.kind == "image" and annotation.entry.get(of_image) is None):
        return _ABSENT
    given = annotation.entry[of_video][frame] if video.kind == "video" else values[0]
    return _ABSENT if values[frame] is None and given is not None else values[frame]


def check_masks(
    segmentations: list[Any], video: Video, place: Place, report: Report
) -> tuple[Masks, np.ndarray]:
    """Decode one track's masks, of which there is one or None for each frame.

    Returns:
        The masks, and ``(frames,)`` their areas in pixels.
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
            message = "the mask has no pixel; where the object is absent, write null"
            report(Finding("empty mask", here, message))
    return masks, sizes


def _check_extent(polygons: list, video: Video, place: Place, report: Report) -> None:
    x = [value for points in polygons for value in points[::2]]
    y = [value for points in polygons for value in points[1::2]]
    if min(*x, *y) < -1 or max(x) > video.width + 1 or max(y) > video.height + 1:
        message = (
            f"reaches from {min(x):g}, {min(y):g} to {max(x):g}, {max(y):g}, "
            f"its frame is {video.width}x{video.height}"
        )
        report(Finding("polygon outside", place, message))


def check_repetitions(tracks: Sequence[tuple[Place, Masks]], report: Report) -> None:
    """Report tracks of one video that have a mask, pixel by pixel, in common with another."""
    first: dict[tuple[int, str | bytes], int] = {}
    for number, (place, masks) in enumerate(tracks):
        shown = [(frame, mask["counts"]) for frame, mask in enumerate(masks) if mask]
        owners = Counter(
            owner for key in shown if (owner := first.setdefault(key, number)) != number
        )
        for owner, count in owners.items():
            other = describe_place(
                {k: v for k, v in tracks[owner][0].items() if k not in place or v != place[k]}
            )
            message = f"{count} of its {len(shown)} masks are those of {other}"
            report(Finding("repeated masks", place, message))


def _check_attributes(entry: dict[str, Any], video: Video, place: Place, report: Report) -> None:
    if entry.get("iscrowd") == 1:
        message = "a group or a region to ignore: neither trained on nor counted"
        report(Finding("crowd", place, message))
    for key in ("height", "width", "length"):
        own = getattr(video, key)
        if entry.get(key, own) != own:
            message = f"`{key}` is {entry[key]!r:.40}, its {video.kind}'s is {own}"
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
        around = coco_mask.toBbox(mask).tolist()
        slack = max(BOX_SLACK[0], BOX_SLACK[1] * max(around[2:]))
        corners = [(x, y, x + width, y + height) for x, y, width, height in (box, around)]
        if any(abs(own - other) > slack for own, other in zip(*corners, strict=True)):
            own, other = ([round(number, 1) for number in one] for one in (box, around))
            report(Finding("box differs", place, f"box {own}, its mask's is {other}"))


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
        report(Finding("area differs", place, f"area {area:g}, its mask's is {size}"))
