"""Generated ground truth and results of two sizes, for ``evaluation.py``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


@dataclass(frozen=True)
class SetSize:
    """Properties of a generated set.

    Attributes:
        name: label in the table.
        videos: number of videos.
        classes: number of classes.
        lengths: minimum and maximum number of frames per video.
        size: height and width of the frames in pixels.
        tracks: number of ground-truth tracks in the set.
        predictions: minimum and maximum number of predictions per video.
        track_length: mean number of frames of a track, before it is cut at the end of the video.
        radius: median radius of the objects in pixels; most have half to twice that.
    """

    name: str
    videos: int
    classes: int
    lengths: tuple[int, int]
    size: tuple[int, int]
    tracks: int
    predictions: tuple[int, int]
    track_length: int
    radius: float


SETS = (
    SetSize("KITTI-MOTS", 21, 2, (80, 1000), (375, 1242), 750, (20, 75), 51, 30.0),
    SetSize("YouTube-VIS", 300, 40, (20, 36), (720, 1280), 510, (10, 100), 30, 100.0),
)
QUICK_SETS = (
    SetSize("long videos", 2, 2, (60, 80), (90, 160), 12, (8, 10), 20, 10.0),
    SetSize("many classes", 4, 5, (5, 9), (90, 160), 8, (5, 12), 7, 15.0),
)


@dataclass(frozen=True)
class Blob:
    """A star-shaped object that moves in a straight line."""

    start: np.ndarray  # (x, y) in pixels
    step: np.ndarray  # pixels per frame
    radii: np.ndarray  # one per direction of the outline

    def mask(self, frame: int, size: tuple[int, int], rng: np.random.Generator) -> dict | None:
        """The mask in a frame as compressed RLE, or None where the object is outside the image."""
        angles = np.linspace(0, 2 * np.pi, len(self.radii), endpoint=False)
        radii = self.radii * rng.normal(1, 0.05, len(self.radii))
        outline = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
        outline += self.start + frame * self.step
        outline = outline.clip(0, (size[1], size[0]))
        [rle] = coco_mask.frPyObjects([outline.ravel().tolist()], *size)
        if coco_mask.area(rle) == 0:
            return None
        return {"size": list(size), "counts": rle["counts"].decode("ascii")}


def random_blob(size: SetSize, rng: np.random.Generator) -> Blob:
    """An object of random position, direction and size."""
    height, width = size.size
    radius = size.radius * np.exp(rng.normal(0, 0.5))
    return Blob(
        start=rng.uniform((0, 0), (width, height)),
        step=rng.normal(0, radius / 30, 2),
        radii=radius * rng.uniform(0.7, 1.3, 24),
    )


def perturbed(blob: Blob, rng: np.random.Generator) -> Blob:
    """The object with a random localisation error of 2, 10 or 30 % of its size."""
    error = rng.choice([0.02, 0.1, 0.3])
    scale = blob.radii.mean() * error
    return Blob(
        start=blob.start + rng.normal(0, scale, 2),
        step=blob.step + rng.normal(0, scale / 30, 2),
        radii=(blob.radii + rng.normal(0, scale, len(blob.radii))).clip(1),
    )


def track_masks(
    blob: Blob, first: int, last: int, length: int, size: SetSize, rng: np.random.Generator
) -> list[dict | None]:
    """A mask or None per frame; the object is visible from ``first`` to ``last`` (exclusive)."""
    return [
        blob.mask(frame - first, size.size, rng) if first <= frame < last else None
        for frame in range(length)
    ]


def generate(size: SetSize, seed: int, folder: Path) -> None:
    """Write ``gt.json`` and ``results.json`` into ``folder``, one video at a time."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(*size.lengths, size.videos, endpoint=True).tolist()
    classes = range(1, size.classes + 1)
    num_tracks = np.bincount(rng.integers(0, size.videos, size.tracks), minlength=size.videos)
    annotations = []
    with (folder / "results.json").open("w") as file:
        for video_id, (length, count) in enumerate(
            zip(lengths, num_tracks.tolist(), strict=True), 1
        ):
            objects = []
            for _ in range(count):
                first = int(rng.integers(0, max(length - size.track_length // 2, 1)))
                last = min(first + 1 + int(rng.exponential(size.track_length)), length)
                objects.append((random_blob(size, rng), first, last, int(rng.choice(classes))))
            annotations += [
                {
                    "id": len(annotations) + number,
                    "video_id": video_id,
                    "category_id": category,
                    "iscrowd": 0,
                    "segmentations": track_masks(blob, first, last, length, size, rng),
                }
                for number, (blob, first, last, category) in enumerate(objects, start=1)
            ]
            for entry in _predictions(video_id, objects, length, size, rng):
                file.write("[" if file.tell() == 0 else ",\n")
                json.dump(entry, file)
        file.write("]")
    height, width = size.size
    gt = {
        "videos": [
            {"id": number, "height": height, "width": width, "length": length}
            for number, length in enumerate(lengths, start=1)
        ],
        "categories": [{"id": number, "name": f"class {number}"} for number in classes],
        "annotations": annotations,
    }
    (folder / "gt.json").write_text(json.dumps(gt))


def _predictions(
    video_id: int,
    objects: list[tuple[Blob, int, int, int]],
    length: int,
    size: SetSize,
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    """80 % follow an object, with a wrong class in some; the others are false positives."""
    for _ in range(int(rng.integers(*size.predictions, endpoint=True))):
        category = int(rng.integers(1, size.classes, endpoint=True))
        if objects and rng.random() < 0.8:
            blob, first, last, true_category = objects[rng.integers(len(objects))]
            blob = perturbed(blob, rng)
            first, last = first + int(rng.integers(0, 3)), last - int(rng.integers(0, 3))
            category = true_category if rng.random() < 0.6 else category
        else:
            blob, first = random_blob(size, rng), int(rng.integers(0, length))
            last = min(first + 1 + int(rng.exponential(size.track_length)), length)
        yield {
            "video_id": video_id,
            "category_id": category,
            "score": round(float(rng.random()), 3),
            "segmentations": track_masks(blob, first, last, length, size, rng),
        }
