"""COCO average precision of boxes and masks, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.evaluation.average_precision import METRICS, mean_defined, none_if_undefined
from queryinst_vis.formats.fields import is_box, is_finite
from queryinst_vis.formats.inputs import (
    GroundTruth,
    PlacedEntries,
    load_ground_truth,
    load_results,
)
from queryinst_vis.masks import to_rle


def evaluate_coco(gt: str | Path | dict, results: str | Path | list) -> dict[str, dict[str, Any]]:
    """COCO average precision and recall of boxes and masks (paper section 4.3).

    Every number is pycocotools' own. Boxes are judged by the results' ``bbox``, or by the
    extents of their masks where they have none. Masks are judged without ``bbox``, as mmdet
    and detectron2 do: given both, pycocotools would sort detected masks into area ranges by
    the area of their *box*, which changes APs, APm and APl of ``segm`` and nothing else.

    Args:
        gt: COCO instance annotations: a JSON path or its content.
        results: list of ``{image_id, category_id, score, bbox and/or segmentation}``, boxes
            as (x, y, width, height) in pixels: a JSON path, the path of a zip with
            ``results.json`` at its root, or the list itself.

    Returns:
        ``{"bbox": metrics, "segm": metrics}``, ``segm`` only where both files have masks.
        Metrics are ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl``, ``AR1``, ``AR10``,
        ``AR100``, ``ARs``, ``ARm``, ``ARl`` as fractions 0..1, -1 where there is no ground
        truth, and ``per_class_AP``: ``{class name: AP}``, None where there is no ground truth.

    Raises:
        InputError: a file cannot be used; the message names the entry and what is wrong.
    """
    truth = load_ground_truth(gt, "image", ("bbox", "area"))
    detections = load_results(results, truth, "image")
    _check_annotations(truth)
    has_boxes = _all_or_none(detections, "bbox")
    has_masks = _all_or_none(detections, "segmentation")
    if not has_boxes and not has_masks:
        raise InputError(f"{detections[0][0]}: has neither `bbox` nor `segmentation`")
    annotations = [entry for _, entry in truth.annotations]
    metrics = {}
    if has_boxes:
        for place, entry in detections:
            _check_box(entry["bbox"], place)
        boxes = [_scored(entry, "bbox") for _, entry in detections]
        metrics["bbox"] = _evaluate(truth, annotations, boxes, "bbox")
    if has_masks:
        masks = [_scored(entry, "segmentation") for entry in with_rles(detections, truth)]
        if not has_boxes:
            metrics["bbox"] = _evaluate(truth, annotations, masks, "bbox")
        if _all_or_none(truth.annotations, "segmentation"):
            annotations = with_rles(truth.annotations, truth)
            metrics["segm"] = _evaluate(truth, annotations, masks, "segm")
    return metrics


def _evaluate(
    truth: GroundTruth, annotations: list[dict], detections: list[dict], kind: str
) -> dict[str, Any]:
    """Run pycocotools for ``kind`` "bbox" or "segm", on copies, for it writes into its input."""
    with (
        Console(stderr=True).status(f"Evaluating {kind}"),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        coco = COCO()
        coco.dataset = {
            "images": list(truth.media.values()),
            "annotations": [{"iscrowd": 0, **annotation} for annotation in annotations],
            "categories": [{"id": id_, "name": name} for id_, name in truth.categories.items()],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes([dict(entry) for entry in detections]), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # all areas, 100 detections
    metrics: dict[str, Any] = dict(zip(METRICS, evaluation.stats.tolist(), strict=True))
    metrics["per_class_AP"] = {
        name: none_if_undefined(mean_defined(precision[..., k]))
        for k, name in enumerate(truth.categories.values())
    }
    return metrics


def _scored(entry: dict, shape: str) -> dict:
    """The part of a detection that judging its ``shape`` "bbox" or "segmentation" needs."""
    return {key: entry[key] for key in ("image_id", "category_id", "score", shape)}


def with_rles(placed: PlacedEntries, truth: GroundTruth) -> list[dict]:
    """Copies of the entries with their masks as checked run lengths."""
    copies = []
    for place, entry in placed:
        image = truth.media[entry["image_id"]]
        sides = image.get("height"), image.get("width")
        if not all(isinstance(side, int) and side > 0 for side in sides):
            raise InputError(
                f"{truth.where}: image {image['id']} needs `height` and `width` in whole pixels"
            )
        copies.append({**entry, "segmentation": to_rle(entry["segmentation"], *sides, place)})
    return copies


def _all_or_none(placed: PlacedEntries, key: str) -> bool:
    """Whether the entries have ``key``; an error if only some of them do."""
    lacking = [place for place, entry in placed if not _is_filled(entry.get(key))]
    if lacking and len(lacking) < len(placed):
        raise InputError(f"{lacking[0]}: has no `{key}`, though others of the file have")
    return not lacking


def _is_filled(value: Any) -> bool:
    return isinstance(value, list | tuple | dict) and len(value) > 0


def _check_annotations(truth: GroundTruth) -> None:
    for place, annotation in truth.annotations:
        _check_box(annotation["bbox"], place)
        if not is_finite(annotation["area"]):
            raise InputError(f"{place}: `area` must be a number, is {annotation['area']!r}")
        if annotation["id"] == 0:
            warnings.warn(
                f"{place}: pycocotools counts a match with id 0 as a miss; number from 1",
                InputWarning,
                stacklevel=3,
            )


def _check_box(box: Any, place: str) -> None:
    if not is_box(box):
        raise InputError(
            f"{place}: `bbox` must be four finite numbers x, y, width, height, is {box!r}"
        )
