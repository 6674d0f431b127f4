"""Masks from predictions for annotations that have only a box (pseudo-labels)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet, Video, parse_set
from queryinst_vis.formats.findings import describe_place, refuse_faults
from queryinst_vis.formats.predictions import (
    Predictions,
    check_boxes,
    file_name,
    group_entries,
)
from queryinst_vis.formats.reading import read_json_or_zip
from queryinst_vis.masks import RLE
from queryinst_vis.masks.segmentation import to_rle
from queryinst_vis.utils.progress import show_progress

Entry = dict[str, Any]


@dataclass
class Filled:
    """What ``fill_masks`` did.

    Attributes:
        missing: number of annotations without a mask.
        filled: number of these that have one now.
        agreement: mask IoU of each matched prediction whose annotation has a mask already: an
            estimate of the quality of the new masks.
    """

    missing: int = 0
    filled: int = 0
    agreement: list[float] = field(default_factory=list)


def fill_masks(
    annotation_set: AnnotationSet, predictions: str | Path, min_iou: float = 0.7
) -> tuple[dict[str, Any], Filled]:
    """Give annotations without a mask that of the matching prediction.

    In every image the predictions and annotations of a class are matched one to one by the IoU of
    their boxes. Crowds and existing masks do not change.

    Args:
        annotation_set: a COCO set, in which some annotations have no ``segmentation``.
        predictions: COCO results on this set, or the file of ``queryinst-vis detect`` on its
            images, which are matched by file name.
        min_iou: minimum IoU of a predicted and an annotated box (0..1).

    Returns:
        the content of the new file, and what was filled.

    Raises:
        InputError: the set contains videos, or the predictions cannot be read, have no masks or
            belong to other images.
    """
    if annotation_set.kind != "image":
        raise InputError(f"{annotation_set.where}: contains videos; only images can be filled")
    found = _read_predictions(annotation_set, predictions)
    refuse_annotation = refuse_faults(annotation_set.where)
    refuse_prediction = refuse_faults(file_name(predictions))
    masks: dict[int, RLE] = {}
    filled = Filled()
    for id_, entries in show_progress(list(annotation_set.entries.items()), "matching"):
        entries = [entry for entry in entries if not entry.get("iscrowd")]
        image = annotation_set.videos[id_]
        filled.missing += sum(not entry.get("segmentation") for entry in entries)
        check_boxes(entries, refuse_annotation, "annotation")
        check_boxes(found[id_], refuse_prediction)
        for entry, prediction in _match(entries, found[id_], min_iou):
            mask = _rle(prediction, image)
            if entry.get("segmentation"):
                own = _rle(entry, image)
                agreement = np.asarray(coco_mask.iou([mask], [own], [0]))
                filled.agreement.append(float(agreement[0, 0]))
            else:
                masks[entry["id"]] = mask
    filled.filled = len(masks)
    annotations = [
        _with_mask(entry, masks[entry["id"]]) if entry["id"] in masks else entry
        for entry in annotation_set.content["annotations"]
    ]
    return {**annotation_set.content, "annotations": annotations}, filled


def _with_mask(entry: dict[str, Any], mask: RLE) -> dict[str, Any]:
    return {**entry, "segmentation": mask, "area": int(coco_mask.area(mask))}


def _read_predictions(annotation_set: AnnotationSet, path: str | Path) -> Predictions:
    """Predictions by image id, in the ids of the set."""
    content = read_json_or_zip(path)
    if isinstance(content, dict):
        content = _in_ids_of(
            annotation_set, parse_set(content, refuse_faults(str(path)), str(path))
        )
    report = refuse_faults(file_name(path))
    return group_entries(content, annotation_set, report, keys=("bbox", "segmentation"))


def _in_ids_of(annotation_set: AnnotationSet, detections: AnnotationSet) -> list[Entry]:
    """The detections in images of the set, as results: matched by file name and class name."""
    images = {
        name: id_ for id_, image in annotation_set.videos.items() for name in image.file_names
    }
    classes = {name: id_ for id_, name in annotation_set.categories.items()}
    found = [
        {**entry, "image_id": images[name], "category_id": classes[label]}
        for id_, image in detections.videos.items()
        for name in image.file_names
        if name in images
        for entry in detections.entries[id_]
        if (label := detections.categories[entry["category_id"]]) in classes
    ]
    if not found:
        raise InputError(
            f"{detections.where}: no detection in an image of {annotation_set.where} with one of "
            "its classes; images are matched by file name"
        )
    return found


def _match(
    entries: list[Entry], predictions: list[Entry], min_iou: float
) -> Iterator[tuple[Entry, Entry]]:
    """Pairs of annotation and prediction that maximise the total IoU of the boxes."""
    if not entries or not predictions:
        return
    boxes, others = (
        np.array([entry["bbox"] for entry in each], float) for each in (entries, predictions)
    )
    iou = np.asarray(coco_mask.iou(boxes, others, [0] * len(others)))
    labels, other_labels = (
        np.array([entry["category_id"] for entry in each]) for each in (entries, predictions)
    )
    iou[(iou < min_iou) | (labels[:, None] != other_labels)] = 0
    for row, column in zip(*linear_sum_assignment(-iou), strict=True):
        if iou[row, column] > 0:
            yield entries[row], predictions[column]


def _rle(entry: Entry, image: Video) -> RLE:
    return to_rle(entry["segmentation"], image.height, image.width, describe_place(image.place))
