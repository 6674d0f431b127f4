"""COCO average precision of boxes and masks, computed by pycocotools or hotcoco."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.evaluation.average_precision import METRICS, mean_defined, none_if_undefined
from queryinst_vis.formats.annotation_set import AnnotationSet, open_ground_truth
from queryinst_vis.formats.annotations import Annotation, decode_track, parse_annotation
from queryinst_vis.formats.findings import Finding, Report, refuse_faults
from queryinst_vis.formats.names import named_categories
from queryinst_vis.formats.predictions import check_boxes, file_name, open_predictions

Backend = Literal["pycocotools", "hotcoco"]


def evaluate_coco(
    gt: str | Path | dict,
    results: str | Path | list,
    backend: Backend = "pycocotools",
    classes: Collection[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """COCO average precision and recall of boxes and masks (paper section 4.3).

    All numbers are pycocotools'. Boxes are the results' ``bbox``, or, without it, the bounding
    boxes of the masks. Masks are evaluated without ``bbox``, as in mmdet and detectron2: with both,
    pycocotools would assign detected masks to area ranges by the area of their *box*, which
    changes APs, APm and APl of ``segm``.

    Args:
        gt: COCO instance annotations: a JSON path or its content.
        results: list of ``{image_id, category_id, score, bbox and/or segmentation}``, boxes
            as (x, y, width, height) in pixels: a JSON path, the path of a zip with
            ``results.json`` at its root, or the list itself.
        backend: "pycocotools" or "hotcoco", which is faster, uses all cores, and gives the same
            numbers.
        classes: names of the classes to evaluate, such as those of the model; None: all in ``gt``.

    Returns:
        ``{"bbox": metrics, "segm": metrics}``, ``segm`` only if both files have masks
        (an empty list of results is evaluated for both, and scores 0). Metrics are
        ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl``, ``AR1``, ``AR10``,
        ``AR100``, ``ARs``, ``ARm``, ``ARl`` as fractions 0..1, -1 without ground truth, and
        ``per_class_AP``: ``{class name: AP}``, None without ground truth.

    Raises:
        InputError: a file is invalid (the message names the entry), or the backend is not
            installed.

    Example::

        scores = queryinst_vis.evaluate_coco("instances.json", "detections.json")
        print(scores["segm"]["AP"], scores["bbox"]["AP"])
    """
    coco, coco_eval = _backend(backend)
    images = open_ground_truth(gt, "image", "evaluation of boxes")
    grouped = open_predictions(results, images)
    detections = sorted(chain.from_iterable(grouped.values()), key=lambda entry: entry["id"])
    report = refuse_faults(file_name(results))
    annotations = _parse_annotations(images)
    entries = [annotation.entry for annotation in annotations]
    has_boxes = _all_or_none(detections, "bbox", report)
    has_masks = _all_or_none(detections, "segmentation", report)
    if not has_boxes and not has_masks:
        message = "has neither `bbox` nor `segmentation`"
        report(Finding("broken entry", {"entry": detections[0]["id"]}, message))
    metrics = {}
    categories = named_categories(dict(sorted(images.categories.items())), classes)
    evaluate = partial(_evaluate, images, categories, coco=coco, coco_eval=coco_eval)
    if has_boxes:
        check_boxes(detections, report)
        metrics["bbox"] = evaluate(entries, _scored(detections, "bbox"), kind="bbox")
    if has_masks:
        masks = _scored(with_rles(detections, images, report), "segmentation")
        if not has_boxes:
            metrics["bbox"] = evaluate(entries, masks, kind="bbox")
        if _have_masks(annotations, images.where):
            masked = [_with_rle(annotation, images) for annotation in annotations]
            metrics["segm"] = evaluate(masked, masks, kind="segm")
    return metrics


def _backend(name: Backend) -> tuple[Any, Any]:
    """The classes ``COCO`` and ``COCOeval`` of a package."""
    if name == "pycocotools":
        return COCO, COCOeval
    try:
        import hotcoco
    except ImportError as error:
        raise InputError(
            "backend hotcoco: not installed; pip install 'queryinst-vis[hotcoco]'"
        ) from error
    return hotcoco.COCO, hotcoco.COCOeval


def _parse_annotations(images: AnnotationSet) -> list[Annotation]:
    """The ground truth, in file order."""
    report = refuse_faults(images.where, "evaluation of boxes")
    annotations = []
    for entry in images.content["annotations"]:
        annotation = parse_annotation(entry, images.videos[entry["image_id"]], report)
        if annotation is not None:
            annotations.append(annotation)
            if annotation.id == 0:
                warnings.warn(
                    f"{images.where}: annotation 0: pycocotools counts a match with id 0 as a"
                    " miss; number from 1",
                    InputWarning,
                    stacklevel=3,
                )
    return annotations


def _have_masks(annotations: list[Annotation], where: str) -> bool:
    """Whether the ground truth has masks; an InputError if only some objects have."""
    lacking = [annotation.id for annotation in annotations if annotation.segmentations == [None]]
    if lacking and len(lacking) < len(annotations):
        raise InputError(
            f"{where}: annotation {lacking[0]}: has no `segmentation`, but others in the file"
            " have; give all objects a mask, or none"
        )
    return not lacking


def _with_rle(annotation: Annotation, images: AnnotationSet) -> dict[str, Any]:
    """The entry with its mask as RLE."""
    image = images.videos[annotation.entry["image_id"]]
    place = {**image.place, "annotation": annotation.id}
    report = refuse_faults(images.where)
    [mask], _ = decode_track(annotation.segmentations, image, place, report)
    return {**annotation.entry, "segmentation": mask}


def _evaluate(
    images: AnnotationSet,
    categories: Mapping[int, str],
    annotations: list[dict[str, Any]],
    detections: list[dict[str, Any]],
    *,
    kind: Literal["bbox", "segm"],
    coco: Any,
    coco_eval: Any,
) -> dict[str, Any]:
    """Evaluate with a backend on copies, since pycocotools modifies its input."""
    dataset: dict[str, Any] = {
        "images": images.content["images"],
        "annotations": [{"iscrowd": 0, **annotation} for annotation in annotations],
        "categories": [{"id": id_, "name": name} for id_, name in categories.items()],
    }
    with (
        Console(stderr=True).status(f"Evaluating {kind}"),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        coco_gt = coco()
        coco_gt.dataset = dataset
        coco_gt.createIndex()
        coco_results = coco()
        if detections:
            coco_results = coco_gt.loadRes([dict(entry) for entry in detections])
        else:  # pycocotools cannot load empty results
            coco_results.dataset = dict(dataset, annotations=[])
            coco_results.createIndex()
        evaluation = coco_eval(coco_gt, coco_results, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # all areas, 100 detections
    metrics: dict[str, Any] = dict(zip(METRICS, evaluation.stats.tolist(), strict=True))
    metrics["per_class_AP"] = {
        name: none_if_undefined(mean_defined(precision[..., k]))
        for k, name in enumerate(categories.values())
    }
    return metrics


def _scored(entries: list[dict[str, Any]], shape: str) -> list[dict[str, Any]]:
    """The detections with only the keys needed to evaluate ``shape``: "bbox" or "segmentation"."""
    keys = ("image_id", "category_id", "score", shape)
    return [{key: entry[key] for key in keys} for entry in entries]


def with_rles(
    entries: Iterable[dict[str, Any]], images: AnnotationSet, report: Report
) -> list[dict[str, Any]]:
    """Copies of image results with validated RLE masks."""
    copies = []
    for entry in entries:
        image = images.videos[entry["image_id"]]
        place = {"entry": entry["id"], **image.place}
        [mask], _ = decode_track([entry["segmentation"]], image, place, report)
        copies.append({**entry, "segmentation": mask})
    return copies


def _all_or_none(entries: list[dict[str, Any]], key: str, report: Report) -> bool:
    """Whether the entries have ``key``; a finding if only some of them have."""
    lacking = [entry["id"] for entry in entries if not _is_filled(entry.get(key))]
    if lacking and len(lacking) < len(entries):
        message = f"has no `{key}`, but others in the file have"
        report(Finding("broken entry", {"entry": lacking[0]}, message))
    return not lacking


def _is_filled(value: Any) -> bool:
    return isinstance(value, list | tuple | dict) and len(value) > 0
