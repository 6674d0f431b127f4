"""COCO files as YouTube-VIS content, with images as videos of one frame.

Matching, AP, curves and error analysis are then the same as for videos.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.coco import evaluate_coco
from queryinst_vis.formats.reading import read_annotations, read_json_or_zip


def is_image_set(gt: Path) -> bool:
    """Whether an annotation file describes images.

    Raises:
        InputError: the file cannot be read.
    """
    content = read_annotations(gt, heavy="segmentations")
    return "images" in content and "videos" not in content


def evaluate_masks(gt: Path, results: Path) -> dict[str, Any]:
    """The mask metrics of ``evaluate_coco``.

    Raises:
        InputError: a file is invalid or has boxes only.
    """
    metrics = evaluate_coco(gt, results)
    if "segm" not in metrics:
        raise InputError(
            f"{results}: a report needs masks in both files; use 'eval-image' for boxes"
        )
    return metrics["segm"]


def annotations_as_videos(gt: Path) -> dict[str, Any]:
    """Convert a COCO annotation file that ``evaluate_coco`` has accepted."""
    content = read_annotations(gt)
    videos = [
        {
            **{key: image[key] for key in ("id", "height", "width")},
            "length": 1,
            **({"file_names": [image["file_name"]]} if image.get("file_name") else {}),
        }
        for image in content["images"]
    ]
    annotations = [
        {
            **{key: entry[key] for key in ("id", "category_id")},
            "video_id": entry["image_id"],
            "iscrowd": entry.get("iscrowd", 0),
            "segmentations": [entry["segmentation"]],
        }
        for entry in content["annotations"]
    ]
    return {"videos": videos, "annotations": annotations, "categories": content["categories"]}


def results_as_videos(results: Path) -> list[dict[str, Any]]:
    """Convert a COCO result file that ``evaluate_coco`` has accepted."""
    return [
        {
            "video_id": entry["image_id"],
            "category_id": entry["category_id"],
            "score": entry["score"],
            "segmentations": [entry["segmentation"]],
        }
        for entry in read_json_or_zip(results)
    ]
