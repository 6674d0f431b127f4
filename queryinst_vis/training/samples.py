"""Images of a training run: training samples, and predictions next to the ground truth."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import supervision as sv
from torch import Tensor

from queryinst_vis.config import DatasetConfig, ModelConfig
from queryinst_vis.data.tools.shown_frames import (
    ShownTrack,
    annotated_tracks,
    read_frames,
)
from queryinst_vis.drawing import Overlay
from queryinst_vis.formats.annotation_set import Video, open_set
from queryinst_vis.structures import Batch, Target
from queryinst_vis.visualization.contact_sheet import ContactSheet

TRAINING_SHEET = "training.jpg"
"""Image of the first training samples; those of the evaluations are ``step_*.jpg``."""

SCORE = 0.3  # minimum score of drawn predictions
_TILE_WIDTH, _COLUMNS = 320, 4


class SampleSheet:
    """Draws images of a set with their annotations and predictions.

    The images are evenly spaced in the set and the same in every evaluation. The middle frame is
    used for a video.

    Args:
        data: the set; its files must exist.
        count: maximum number of images, at least 1.
    """

    def __init__(self, data: DatasetConfig, count: int) -> None:
        self._images, self._allow_outside = Path(str(data.images)), data.allow_outside
        self._set = open_set(str(data.annotations))
        videos = list(self._set.videos.values())
        chosen = np.linspace(0, len(videos) - 1, min(count, len(videos))).round().astype(int)
        self._shown = [videos[index] for index in chosen]

    def write(self, path: Path, entries: list[dict[str, Any]]) -> None:
        """Write the sheet.

        Args:
            path: a ``.jpg`` file.
            entries: entries of a COCO or YouTube-VIS result file for the set.

        Raises:
            InputError: an image cannot be read or the sheet cannot be written.
        """
        grouped: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for number, entry in enumerate(entries):
            grouped[entry[f"{self._set.kind}_id"]].append({**entry, "id": number})
        sheet = ContactSheet(_COLUMNS)
        for video in self._shown:
            predicted = self._predicted(grouped[video.id])
            annotated = annotated_tracks(self._set, video)
            for what, tracks in (
                ("ground truth", annotated),
                (f"predictions, score >= {SCORE}", predicted),
            ):
                sheet.add(self._draw(video, tracks), f"{Path(video.name).name}: {what}")
        path.parent.mkdir(exist_ok=True)
        sheet.write(path)

    def _predicted(self, entries: list[dict[str, Any]]) -> list[ShownTrack]:
        """The predictions for one video or image with a score of at least ``SCORE``."""
        confident = [entry for entry in entries if entry["score"] >= SCORE]
        return [
            ShownTrack(
                number,
                self._set.categories[entry["category_id"]],
                entry["score"],
                entry.get("segmentations", [entry.get("segmentation")]),
                {0: entry["bbox"]} if "bbox" in entry else {},
            )
            for number, entry in enumerate(confident)
        ]

    def _draw(self, video: Video, tracks: list[ShownTrack]) -> np.ndarray:
        class_names = sorted({track.class_name for track in tracks})
        middle = range(video.length // 2, video.length // 2 + 1)
        [(_, picture, found)] = read_frames(
            video, tracks, class_names, self._images, middle, _TILE_WIDTH, self._allow_outside
        )
        return Overlay(class_names, trace_length=1).draw(picture, found)


class TrainingSheet:
    """Draws training samples as seen by the network (augmented and resized) with annotations.

    For a pair, the key frame is next to its reference frame, with one colour per identity.
    Instances without a mask are shown by their box, and ignore regions are darkened.

    Args:
        model: provides the mean and standard deviation of the pixels, and the class names.
        count: number of samples.
    """

    def __init__(self, model: ModelConfig, count: int) -> None:
        self._mean, self._std = np.array(model.backbone.mean), np.array(model.backbone.std)
        self._classes = list(model.classes)
        self._count = count
        self._shown = 0
        self._sheet = ContactSheet(_COLUMNS)

    @property
    def is_full(self) -> bool:
        """Whether ``count`` samples have been drawn."""
        return self._shown >= self._count

    def add(self, batch: Batch) -> None:
        """Draw samples of a batch, up to ``count``."""
        for row, target in enumerate(batch.targets):
            if self.is_full:
                return
            paired = batch.reference
            kind = "sample" if paired is None else "key"
            self._draw(batch.images[row], target, f"{kind} {self._shown}")
            if paired is not None:
                self._draw(paired.images[row], paired.targets[row], f"reference {self._shown}")
            self._shown += 1

    def write(self, path: Path) -> None:
        """Write the sheet.

        Args:
            path: a ``.jpg``.

        Raises:
            InputError: the sheet cannot be written.
        """
        path.parent.mkdir(exist_ok=True)
        self._sheet.write(path)

    def _draw(self, image: Tensor, target: Target, caption: str) -> None:
        height, width = target.image_size
        pixels = image[:, :height, :width].permute(1, 2, 0).cpu().numpy()
        picture = (pixels * self._std + self._mean).round().clip(0, 255).astype(np.uint8)
        if target.ignore is not None:
            picture[target.ignore[:height, :width].cpu().numpy()] //= 3
        size = min(width, _TILE_WIDTH), max(round(height * min(1, _TILE_WIDTH / width)), 1)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        found = _shown_instances(target, size)
        self._sheet.add(Overlay(self._classes, trace_length=1).draw(picture, found), caption)


def _shown_instances(target: Target, size: tuple[int, int]) -> sv.Detections:
    """The instances of a target, in pixels of an image of ``size`` (width, height)."""
    height, width = target.image_size
    boxes = target.boxes.cpu().numpy() * (np.array(size * 2) / (width, height, width, height))
    masks = np.zeros((len(boxes), size[1], size[0]), dtype=np.uint8)
    for row, (mask, has_mask) in enumerate(zip(target.masks, target.has_mask, strict=True)):
        if has_mask:
            whole = mask[:height, :width].cpu().numpy().astype(np.uint8)
            masks[row] = cv2.resize(whole, size, interpolation=cv2.INTER_NEAREST)
        else:
            x0, y0, x1, y1 = boxes[row].round().astype(int).tolist()
            cv2.rectangle(masks[row], (x0, y0), (x1 - 1, y1 - 1), 1, thickness=2)
    return sv.Detections(
        xyxy=boxes.astype(np.float32).reshape(-1, 4),
        mask=masks.astype(bool),
        class_id=target.labels.cpu().numpy().astype(int),
        tracker_id=target.instance_ids.cpu().numpy().astype(int),
    )
