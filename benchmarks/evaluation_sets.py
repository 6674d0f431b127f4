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
    """What a generated set looks like.

    Attributes:
        name: heading in the table.
        videos: how many.
        classes: how many.
        lengths: fewest and most frames of a video.
        size: height and width of a frame in pixels.
        tracks: ground-truth tracks of the whole set.
        predictions: fewest and most predictions of a video.
        shown: frames that show a track, on average; at most the video's length.
        radius: of an object in pixels, the median; half to twice that are usual.
    """

    name: str
    videos: int
    classes: int
    lengths: tuple[int, int]
    size: tuple[int, int]
    tracks: int
    predictions: tuple[int, int]
    shown: int
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
    step: np.ndarray  # pixels a frame
    radii: np.ndarray  # one for each direction of the outline

    def mask(self, frame: int, size: tuple[int, int], rng: np.random.Generator) -> dict | None:
        """Compressed run lengths, or None where the object is out of sight."""
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
    """Somewhere in the frame, of any direction and size."""
    height, width = size.size
    radius = size.radius * np.exp(rng.normal(0, 0.5))
    return Blob(
        start=rng.uniform((0, 0), (width, height)),
        step=rng.normal(0, radius / 30, 2),
        radii=radius * rng.uniform(0.7, 1.3, 24),
    )


def perturbed(blob: Blob, rng: np.random.Generator) -> Blob:
    """Nearly the same object, as a good or a mediocre detector would see it."""
    error = rng.choice([0.02, 0.1, 0.3])
    scale = blob.radii.mean() * error
    return Blob(
        start=blob.start + rng.normal(0, scale, 2),
        step=blob.step + rng.normal(0, scale / 30, 2),
        radii=(blob.radii + rng.normal(0, scale, len(blob.radii))).clip(1),
    )


def track_entry(
    blob: Blob, first: int, last: int, length: int, size: SetSize, rng: np.random.Generator
) -> list[dict | None]:
    """One mask or None for each frame; the blob is seen from ``first`` to before ``last``."""
    return [
        blob.mask(frame - first, size.size, rng) if first <= frame < last else None
        for frame in range(length)
    ]


def generate(size: SetSize, seed: int, folder: Path) -> None:
    """Write ``gt.json`` and ``results.json`` into ``folder``, one video at a time."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(*size.lengths, size.videos, endpoint=True).tolist()
    classes = range(1, size.classes + 1)
    shares = np.bincount(rng.integers(0, size.videos, size.tracks), minlength=size.videos)
    annotations = []
    with (folder / "results.json").open("w") as file:
        for video_id, (length, share) in enumerate(zip(lengths, shares.tolist(), strict=True), 1):
            seen = []
            for _ in range(share):
                first = int(rng.integers(0, max(length - size.shown // 2, 1)))
                last = min(first + 1 + int(rng.exponential(size.shown)), length)
                seen.append((random_blob(size, rng), first, last, int(rng.choice(classes))))
            annotations += [
                {
                    "id": len(annotations) + number,
                    "video_id": video_id,
                    "category_id": category,
                    "iscrowd": 0,
                    "segmentations": track_entry(blob, first, last, length, size, rng),
                }
                for number, (blob, first, last, category) in enumerate(seen, start=1)
            ]
            for entry in _predictions(video_id, seen, length, size, rng):
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
    seen: list[tuple[Blob, int, int, int]],
    length: int,
    size: SetSize,
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    """Four of five follow an object, of these some with a wrong class; the rest see things."""
    for _ in range(int(rng.integers(*size.predictions, endpoint=True))):
        category = int(rng.integers(1, size.classes, endpoint=True))
        if seen and rng.random() < 0.8:
            blob, first, last, true_category = seen[rng.integers(len(seen))]
            blob = perturbed(blob, rng)
            first, last = first + int(rng.integers(0, 3)), last - int(rng.integers(0, 3))
            category = true_category if rng.random() < 0.6 else category
        else:
            blob, first = random_blob(size, rng), int(rng.integers(0, length))
            last = min(first + 1 + int(rng.exponential(size.shown)), length)
        yield {
            "video_id": video_id,
            "category_id": category,
            "score": round(float(rng.random()), 3),
            "segmentations": track_entry(blob, first, last, length, size, rng),
        }
