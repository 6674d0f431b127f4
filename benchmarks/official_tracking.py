"""HOTA, IDF1 and CLEAR MOT of a YouTube-VIS set by trackeval, the reference of ``evaluation.py``.

trackeval expects uncompressed run lengths in the ground truth and its own folder layout.
``prepare`` writes both and is not timed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from trackeval.datasets import YouTubeVIS
from trackeval.metrics import CLEAR, HOTA, Identity

from queryinst_vis.masks.run_lengths import decode_runs

SCORES = {name: (0, name) for name in ("HOTA", "DetA", "AssA", "LocA")}
SCORES |= {name: (1, name) for name in ("IDF1", "IDR", "IDP")}
SCORES |= {name: (2, name) for name in ("MOTA", "sMOTA", "MOTP", "IDSW", "Frag")}
"""Our name of each metric, and index of trackeval's metric family and its name there."""


def prepare(folder: Path) -> None:
    """Write ``gt.json`` and ``results.json`` of ``folder`` in trackeval's folder layout."""
    gt = json.loads((folder / "gt.json").read_text())
    sizes = {video["id"]: (video["height"], video["width"]) for video in gt["videos"]}
    for track in gt["annotations"]:
        track["height"], track["width"] = sizes[track["video_id"]]
        track["areas"] = [mask and int(coco_mask.area(mask)) for mask in track["segmentations"]]
        track["segmentations"] = [mask and _uncompressed(mask) for mask in track["segmentations"]]
    for video in gt["videos"]:
        video["file_names"] = [f"{video['id']}/{k:05d}.jpg" for k in range(video["length"])]
    gt_path = folder / "youtube_vis_generated" / "gt.json"
    found = folder / "trackers" / "youtube_vis_generated" / "ours" / "data" / "results.json"
    for path in (gt_path, found):
        path.parent.mkdir(parents=True, exist_ok=True)
    gt_path.write_text(json.dumps(gt))
    found.unlink(missing_ok=True)
    found.symlink_to((folder / "results.json").resolve())


def _uncompressed(mask: dict[str, Any]) -> dict[str, Any]:
    """A mask with uncompressed run lengths."""
    return {"size": mask["size"], "counts": decode_runs(mask["counts"]).tolist()}


def evaluate(folder: Path) -> dict[str, float]:
    """The class-averaged metrics of ``SCORES`` for a prepared folder."""
    dataset = YouTubeVIS(
        {
            "GT_FOLDER": f"{folder}/",
            "TRACKERS_FOLDER": f"{folder}/trackers/",
            "SPLIT_TO_EVAL": "generated",
            "PRINT_CONFIG": False,
        }
    )
    metrics = [metric({"PRINT_CONFIG": False}) for metric in (HOTA, Identity, CLEAR)]
    found: dict[str, dict[str, list]] = {label: {} for label in dataset.class_list}
    for sequence in dataset.seq_list:
        raw = dataset.get_raw_seq_data("ours", sequence)
        for label, sequences in found.items():
            data = dataset.get_preprocessed_seq_data(raw, label)
            sequences[sequence] = [metric.eval_sequence(data) for metric in metrics]
    averages = []
    for index, metric in enumerate(metrics):
        classes = {
            label: metric.combine_sequences({key: value[index] for key, value in parts.items()})
            for label, parts in found.items()
        }
        averages.append(metric.combine_classes_class_averaged(classes, ignore_empty_classes=True))
    return {ours: float(np.mean(averages[at][name])) for ours, (at, name) in SCORES.items()}
