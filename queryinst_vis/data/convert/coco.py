"""Completion of COCO files from other tools for training and evaluation."""

from __future__ import annotations

from typing import Any

from queryinst_vis.data.convert.builder import boxes_and_areas
from queryinst_vis.formats.annotation_set import Video, parse_set
from queryinst_vis.formats.annotations import decode_track, has_area, parse_annotation
from queryinst_vis.formats.findings import Report, refuse_faults


def complete_coco(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Fill in missing fields of COCO files from other tools.

    A missing ``iscrowd`` is 0, a missing ``bbox`` is that of the mask, a missing ``area``
    that of the mask or, without one, of the box. Annotation ids are renumbered from 1, since
    some tools start at 0, which COCO evaluation never matches. Masks are not changed.

    Args:
        content: the parsed file, with annotations.
        where: the file, for error messages.

    Raises:
        InputError: an entry is invalid, or an annotation has neither a mask nor a box.
    """
    report = refuse_faults(where, "training")
    annotations = content.get("annotations")
    if isinstance(annotations, list):
        annotations = [
            {**entry, "id": number} if isinstance(entry, dict) else entry
            for number, entry in enumerate(annotations, start=1)
        ]
    annotation_set = parse_set({**content, "annotations": annotations}, report, where, "image")
    completed = [
        _complete(entry, image, report)
        for image in annotation_set.videos.values()
        for entry in annotation_set.entries[image.id]
    ]
    return {**content, "annotations": completed}


def _complete(entry: dict[str, Any], image: Video, report: Report) -> dict[str, Any]:
    annotation = parse_annotation(entry, image, report)
    assert annotation is not None  # an image's always has one mask, or None
    [mask] = annotation.segmentations
    [box] = annotation.boxes or [None]
    area = entry.get("area")
    if mask is not None and (area is None or not has_area(box)):
        place = {**image.place, "annotation": entry["id"]}
        rles, _ = decode_track([mask], image, place, report)
        [mask_box], [mask_area] = boxes_and_areas(rles)
        box = box if has_area(box) else mask_box
        area = mask_area if area is None else area
    if area is None and box is not None:
        area = box[2] * box[3]
    return {
        **entry,
        "iscrowd": int(annotation.crowd),
        "segmentation": [] if mask is None else mask,
        "bbox": box,
        "area": area,
    }
