"""What can be wrong with a track's masks, and with the boxes and areas beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pycocotools import mask as coco_mask

from queryinst_vis.data.tools.annotation_set import (
    Annotation,
    Medium,
    boxes_alone,
)
from queryinst_vis.data.tools.findings import Finding, Place, describe_place
from queryinst_vis.formats.fields import is_box, is_finite
from queryinst_vis.masks import RLE, MaskError, to_rles

BOX_SLACK = 2.0, 0.05
"""A box may differ from its mask's by this many pixels, or this share of its longer side: polygons
end between pixels, and some tools count the last pixel and some do not."""

AREA_SLACK = 32.0, 0.1
"""An area may differ from its mask's by this many pixels, or this share of it."""


def check_annotation(
    annotation: Annotation, medium: Medium, found: list[Finding]
) -> list[RLE | None]:
    """Check one track or instance; faults go to ``found``.

    Returns:
        As ``check_masks``.
    """
    place = {**medium.place, "annotation": annotation.entry["id"]}
    _check_attributes(annotation.entry, medium, place, found)
    masks = _check_boxes_only(annotation, medium, place, found)
    if masks is not None:
        return masks
    masks = check_masks(annotation.segmentations, medium, place, found)
    for key, values, check in (
        ("bboxes", annotation.boxes, _check_box),
        ("areas", annotation.areas, _check_area),
    ):
        if values is None or (medium.kind == "image" and values == [None]):
            continue
        if _is_one_a_frame(values, key, medium, place, found):
            for frame, mask in enumerate(masks):
                is_broken = mask is None and annotation.segmentations[frame] is not None
                if not is_broken:
                    check(values[frame], mask, _at_frame(place, medium, frame), found)
    return masks


def _check_boxes_only(
    annotation: Annotation, medium: Medium, place: Place, found: list[Finding]
) -> list[None] | None:
    """Note an annotation that has boxes and no mask; returns one None per frame for it.

    Images may say so by ``[]``, as COCO-style files do; in videos evaluation refuses that.
    """
    boxes = boxes_alone(annotation)
    absent = [None] * medium.length
    if not boxes or annotation.segmentations not in (absent, [[]] * (medium.kind == "image")):
        return None
    frames = f" in {len(boxes)} of {medium.length} frames" if medium.kind == "video" else ""
    message = f"has a box and no mask{frames}: it trains classes and boxes, not masks"
    found.append(Finding("boxes only", place, message))
    for frame, box in enumerate(annotation.boxes):
        if frame not in boxes:
            _check_box(box, None, _at_frame(place, medium, frame), found)
    return absent


def check_masks(
    segmentations: Any, medium: Medium, place: Place, found: list[Finding]
) -> list[RLE | None]:
    """Check a list of masks, one or None per frame; faults go to ``found``.

    Returns:
        One compressed RLE per frame, None where there is no mask or a broken one; an empty list
        if there is not one entry a frame.
    """
    if not _is_one_a_frame(segmentations, "segmentations", medium, place, found):
        return []
    shown = [frame for frame, mask in enumerate(segmentations) if mask is not None]
    if not shown:
        found.append(Finding("never visible", place, "has no mask in any frame"))
    masks: list[RLE | None] = [None] * medium.length
    own = [segmentations[frame] for frame in shown]
    places = [_at_frame(place, medium, frame) for frame in shown]
    for frame, here, rle in zip(shown, places, _to_rles(own, medium, places, found), strict=True):
        masks[frame] = rle
        if rle is not None and coco_mask.area(rle) == 0:
            message = "the mask has no pixel; where the object is absent, write null"
            found.append(Finding("empty mask", here, message))
    return masks


def _to_rles(
    segmentations: list[Any], medium: Medium, places: list[Place], found: list[Finding]
) -> list[RLE | None]:
    """The masks as RLEs; None for those that are not masks of their frame, and why in ``found``."""
    try:  # together, which is faster, and nearly always possible
        rles, _ = to_rles(segmentations, medium.height, medium.width)
    except MaskError:
        rles = [
            _to_rle(segmentation, medium, place, found)
            for segmentation, place in zip(segmentations, places, strict=True)
        ]
    for segmentation, place, rle in zip(segmentations, places, rles, strict=True):
        if rle is not None and isinstance(segmentation, list):
            _check_extent(segmentation, medium, place, found)
    return rles


def _to_rle(segmentation: Any, medium: Medium, place: Place, found: list[Finding]) -> RLE | None:
    try:
        [rle], _ = to_rles([segmentation], medium.height, medium.width)
    except MaskError as error:
        found.append(Finding(error.kind, place, str(error)))
        return None
    return rle


def _check_extent(polygons: list, medium: Medium, place: Place, found: list[Finding]) -> None:
    x = [value for points in polygons for value in points[::2]]
    y = [value for points in polygons for value in points[1::2]]
    if min(*x, *y) < -1 or max(x) > medium.width + 1 or max(y) > medium.height + 1:
        message = (
            f"reaches from {min(x):g}, {min(y):g} to {max(x):g}, {max(y):g}, "
            f"its frame is {medium.width}x{medium.height}"
        )
        found.append(Finding("polygon outside", place, message))


def check_repetitions(
    tracks: list[tuple[Place, Sequence[RLE | None]]], found: list[Finding]
) -> None:
    """Report tracks of one video that have a mask, pixel by pixel, in common with another."""
    first: dict[tuple[int, str], int] = {}
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
            found.append(Finding("repeated masks", place, message))


def _is_one_a_frame(
    values: Any, key: str, medium: Medium, place: Place, found: list[Finding]
) -> bool:
    if isinstance(values, list) and len(values) == medium.length:
        return True
    has = f"has {len(values)}" if isinstance(values, list) else f"is {values!r:.40}"
    message = f"`{key}` must have {medium.length} entries, one a frame, {has}"
    if isinstance(values, list) and abs(len(values) - medium.length) == 1:
        message += "; is it one frame off?"
    found.append(Finding("list length", place, message))
    return False


def _at_frame(place: Place, medium: Medium, frame: int) -> Place:
    return place if medium.kind == "image" else {**place, "frame": frame}


def _check_attributes(
    entry: dict[str, Any], medium: Medium, place: Place, found: list[Finding]
) -> None:
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        found.append(Finding("crowd flag", place, f"`iscrowd` must be 0 or 1, is {crowd!r:.40}"))
    elif crowd:
        message = "a group or a region to ignore: neither trained on nor counted"
        found.append(Finding("crowd", place, message))
    for key in ("height", "width", "length"):
        own = getattr(medium, key)
        if entry.get(key, own) != own:
            message = f"`{key}` is {entry[key]!r:.40}, its {medium.kind}'s is {own}"
            found.append(Finding("annotation size", place, message))


def _check_box(box: Any, mask: RLE | None, place: Place, found: list[Finding]) -> None:
    if box is None:
        if mask is not None:
            found.append(Finding("mask without box", place, "has a mask, but the box is null"))
        return
    if not is_box(box):
        message = f"{box!r:.60} is not [x, y, width, height]"
        found.append(Finding("broken box", place, message))
    elif mask is None:
        found.append(Finding("box without mask", place, f"box {box}, but no mask"))
    elif min(box[2:]) <= 0:
        found.append(Finding("empty box", place, f"box {box} has no area"))
    else:
        _compare_boxes(box, coco_mask.toBbox(mask).tolist(), place, found)


def _compare_boxes(
    box: list[float], around: list[float], place: Place, found: list[Finding]
) -> None:
    slack = max(BOX_SLACK[0], BOX_SLACK[1] * max(around[2:]))
    corners = [(x, y, x + width, y + height) for x, y, width, height in (box, around)]
    if any(abs(own - other) > slack for own, other in zip(*corners, strict=True)):
        message = f"box {_short(box)}, its mask's is {_short(around)}"
        found.append(Finding("box differs", place, message))


def _short(numbers: list[float]) -> list[float]:
    return [round(number, 1) for number in numbers]


def _check_area(area: Any, mask: RLE | None, place: Place, found: list[Finding]) -> None:
    size = 0 if mask is None else int(coco_mask.area(mask))
    if area is None:
        if mask is not None:
            found.append(Finding("mask without area", place, "has a mask, but the area is null"))
    elif not is_finite(area) or area < 0:
        found.append(Finding("broken area", place, f"area {area!r:.40} is no number of pixels"))
    elif mask is None:
        if area:
            found.append(Finding("area without mask", place, f"area {area}, but no mask"))
    elif abs(area - size) > max(AREA_SLACK[0], AREA_SLACK[1] * size):
        found.append(Finding("area differs", place, f"area {area:g}, its mask's is {size}"))
