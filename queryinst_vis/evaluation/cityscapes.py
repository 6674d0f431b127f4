"""Average precision of Cityscapes, computed by cityscapesscripts."""

from __future__ import annotations

import copy
import math
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.average_precision import UNDEFINED
from queryinst_vis.evaluation.coco import with_rles
from queryinst_vis.formats.annotation_set import AnnotationSet, Video, open_ground_truth
from queryinst_vis.formats.findings import refuse_faults
from queryinst_vis.formats.predictions import file_name, open_predictions
from queryinst_vis.masks import decode_rle
from queryinst_vis.utils.files import atomic_path
from queryinst_vis.utils.progress import show_progress

IMAGE_SUFFIX = "_leftImg8bit.png"
MAP_SUFFIX = "_gtFine_instanceIds.png"
FIRST_INSTANCE = 1000
"""Values from 1000 are label id * 1000 + instance number; smaller ones are label ids: classes
without instances, groups of instances, or void."""

NamedEntry = tuple[str, dict]
"""Class name and result entry of a detection."""


def evaluate_cityscapes(
    gt: str | Path | dict, results: str | Path | list, gt_dir: str | Path
) -> dict[str, Any]:
    """Average precision as defined by the Cityscapes benchmark (paper 4.3, Table 2).

    Unlike COCO's, it ignores detections on void pixels and instances under 100 pixels, and
    integrates precision over all recall values. cityscapesscripts computes the curve and its
    average; the overlaps are computed here from the result file, since the package reads one PNG
    per detection and uses functions that NumPy 2 has removed.

    Args:
        gt: the output of ``convert-dataset cityscapes``: a JSON path or its content.
        results: COCO results with masks, as for ``evaluate_coco``.
        gt_dir: the folder of the split's instance maps, e.g. ``gtFine/val``.

    Returns:
        ``AP`` and ``AP50``, fractions 0..1, -1 without ground truth, and ``per_class_AP``:
        ``{class name: AP}``, None without ground truth.

    Raises:
        InputError: the package is not installed, a file is invalid, an instance map is missing or
            has another size, or a class is not a Cityscapes class.
    """
    package = _import_package()
    images, detections = _load(gt, results, package)
    settings = copy.copy(package.args)  # the original is global to the package
    package.setInstanceLabels(settings)
    void = [label.id for label in package.labels if label.ignoreInEval]
    matches = {
        image_id: _match(_read_map(Path(gt_dir), image), detections[image_id], package, void)
        for image_id, image in show_progress(list(images.videos.items()), "Evaluating Cityscapes")
    }
    precisions = package.evaluateMatches(matches, settings)[0]  # (classes, ten overlaps)
    defined = precisions[~np.isnan(precisions[:, 0])]
    return {
        "AP": float(defined.mean()) if len(defined) else UNDEFINED,
        "AP50": float(defined[:, 0].mean()) if len(defined) else UNDEFINED,
        "per_class_AP": {
            name: None if math.isnan(value) else value
            for name, value in zip(settings.instLabels, precisions.mean(1).tolist(), strict=True)
        },
    }


def write_cityscapes_zip(
    gt: str | Path | dict, results: str | Path | list, path: str | Path
) -> None:
    """Pack results for the Cityscapes evaluation server.

    A text file per image with a line ``mask file, label id, score`` per detection, and the masks as
    PNGs.

    Args:
        gt, results: as for ``evaluate_cityscapes``; ``gt`` may have no instances.
        path: zip file to write.

    Raises:
        InputError: the package is not installed, or a file is invalid.
    """
    package = _import_package()
    images, detections = _load(gt, results, package)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for image_id, image in show_progress(list(images.videos.items()), "Writing predictions"):
            stem = Path(image.name).stem
            lines = []
            for number, (name, detection) in enumerate(detections[image_id]):
                mask = decode_rle(detection["segmentation"]).astype(np.uint8) * 255
                file = f"masks/{stem}_{number}.png"
                archive.writestr(file, cv2.imencode(".png", mask)[1].tobytes())
                lines.append(f"{file} {package.name2label[name].id} {detection['score']!r}\n")
            archive.writestr(f"{stem}.txt", "".join(lines))


def _import_package() -> ModuleType:
    try:
        from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling
    except ImportError as error:
        raise InputError(
            f"Cityscapes' AP needs the package cityscapesscripts ({error}): "
            "pip install 'queryinst-vis[cityscapes]'"
        ) from error
    return evalInstanceLevelSemanticLabeling


def _load(
    gt: str | Path | dict, results: str | Path | list, package: ModuleType
) -> tuple[AnnotationSet, dict[int, list[NamedEntry]]]:
    """The ground truth, and the detections of each image with RLE masks."""
    images = open_ground_truth(gt, "image", "Cityscapes")
    names = [label.name for label in package.labels if _has_instances(label)]
    for name in images.categories.values():
        if name not in names:
            raise InputError(
                f"{images.where}: '{name}' is not a Cityscapes instance class; "
                f"choose from: {', '.join(names)}"
            )
    for image in images.videos.values():
        if not image.name.endswith(IMAGE_SUFFIX):
            raise InputError(
                f"{images.where}: image {image.id}: `file_name` does not end in {IMAGE_SUFFIX}"
            )
    grouped = open_predictions(results, images, ("segmentation",))
    report = refuse_faults(file_name(results))
    return images, {
        id_: [
            (images.categories[entry["category_id"]], entry)
            for entry in with_rles(grouped.get(id_, []), images, report)
        ]
        for id_ in images.videos
    }


def _has_instances(label: Any) -> bool:
    return label.hasInstances and not label.ignoreInEval


def _read_map(gt_dir: Path, image: Video) -> np.ndarray:
    """``(H, W)`` instance ids of an image."""
    path = gt_dir / (image.name.removesuffix(IMAGE_SUFFIX) + MAP_SUFFIX)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the folder of the split, e.g. gtFine/val")
    ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    size = image.height, image.width
    if ids is None or ids.shape != size:
        raise InputError(f"{path}: not an instance map of {size[1]}x{size[0]} pixels")
    return ids


def _match(
    ids: np.ndarray, detections: list[NamedEntry], package: ModuleType, void: list[int]
) -> dict[str, dict[str, list[dict]]]:
    """The overlaps in one image, in the format of the package.

    Args:
        ids: ``(H, W)`` instance ids.
        detections: the detections in this image.
        package: cityscapesscripts, which defines the labels.
        void: label ids whose pixels are ignored.
    """
    ground_truth = _ground_truth(ids, package)
    predictions: dict[str, list[dict]] = {name: [] for name in ground_truth}
    for name, detection in detections:
        overlaps = _count(ids[decode_rle(detection["segmentation"])])
        if not overlaps:
            continue
        own = {"confidence": detection["score"], "pixelCount": sum(overlaps.values())}
        matched = []
        for target in ground_truth[name]:
            shared = overlaps.get(target["instID"], 0)
            if shared:
                matched.append({**target, "intersection": shared})
                target["matchedPred"].append({**own, "intersection": shared})
        on_void = sum(overlaps.get(label, 0) for label in void)
        predictions[name].append({**own, "voidIntersection": on_void, "matchedGt": matched})
    return {"groundTruth": ground_truth, "prediction": predictions}


def _ground_truth(ids: np.ndarray, package: ModuleType) -> dict[str, list[dict]]:
    """Instances and groups of each class; distances are marked unknown, as in the package."""
    ground_truth: dict[str, list[dict]] = {
        label.name: [] for label in package.labels if _has_instances(label)
    }
    for number, count in _count(ids).items():
        label = number // FIRST_INSTANCE if number >= FIRST_INSTANCE else number
        name = package.id2label[label].name
        if name in ground_truth:
            unknown = {"medDist": -1, "distConf": 0.0}
            found = {"instID": number, "pixelCount": count, "matchedPred": []}
            ground_truth[name].append(found | unknown)
    return ground_truth


def _count(ids: np.ndarray) -> dict[int, int]:
    """Number of pixels of each id."""
    numbers, counts = np.unique(ids, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))
