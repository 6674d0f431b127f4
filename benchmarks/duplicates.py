"""Fraction of duplicate detections, as a basis for choosing ``inference.nms_threshold``.

Prints, for every score threshold, the fraction of detections that overlap a higher-scoring one of
the same frame with an IoU above 0.5: boxes of the same class, masks of the same class, and masks of
any class. Frames are those of a YouTube-VIS set::

    python benchmarks/duplicates.py people work/mots_val.json $QUERYINST_VIS_DATA/data/mots/images
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from pycocotools import mask as coco_mask
from torchvision.ops import box_iou

from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.config import DatasetConfig
from queryinst_vis.data.frames import load_pixels
from queryinst_vis.data.loader import open_dataset
from queryinst_vis.errors import run_script
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.optimize import optimize_for_inference
from queryinst_vis.structures import Detections

IOU = 0.5


def main() -> None:
    """Run the model over the set and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", help="weights, by name or file")
    parser.add_argument("annotations", help="YouTube-VIS JSON")
    parser.add_argument("images", help="folder of its frames")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.3, 0.05])
    parser.add_argument(
        "--frames", type=int, help="maximum number of frames per video (default: all)"
    )
    arguments = parser.parse_args()

    lowest = min(arguments.thresholds)
    model, config = load_model(arguments.weights, "cpu", [f"inference.score_threshold={lowest}"])
    inference = replace(config.inference, one_label_per_query=True, nms_threshold=None)
    config = replace(config, inference=inference)
    detector = Detector(*optimize_for_inference(model, config))
    source = DatasetConfig(arguments.annotations, arguments.images)
    dataset = open_dataset(source, config.model.classes)

    all_detections: list[Detections] = []
    for video in dataset.videos:
        for index in range(min(len(video), arguments.frames or len(video))):
            all_detections += detector.detect_frames(
                [load_pixels(video.frame(index))], embedding=None
            )
    print("score  detections  boxes  masks  masks of any class")
    for threshold in arguments.thresholds:
        flags = [duplicates(each[each.scores >= threshold]) for each in all_detections]
        fractions = np.concatenate(flags).mean(axis=0)
        row = "  ".join(f"{100 * fraction:5.1f} %" for fraction in fractions)
        print(f"{threshold:<5}  {sum(map(len, flags)):10}  {row}")


def duplicates(detections: Detections) -> np.ndarray:
    """``(N, 3)`` bool: duplicate by box, by mask, and by mask of any class.

    Detections are sorted by descending score.
    """
    count = len(detections)
    rles, labels = detections.rles(), detections.labels.numpy()
    same = labels[:, None] == labels[None, :]
    boxes = box_iou(detections.boxes, detections.boxes).numpy() > IOU
    masks = np.reshape(coco_mask.iou(rles, rles, [0] * count), (count, count)) > IOU
    pairs = np.stack([boxes & same, masks & same, masks], axis=-1)
    return (pairs & np.tri(count, k=-1, dtype=bool)[..., None]).any(axis=1)


if __name__ == "__main__":
    run_script(main)
