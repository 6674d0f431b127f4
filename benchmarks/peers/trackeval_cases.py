"""Ground truth and imperfect results for the comparison with trackeval."""

from __future__ import annotations

from typing import Any

import numpy as np

from queryinst_vis.data.convert import LabelledTrack, LabelledVideo, build_video_set
from queryinst_vis.masks import RLE, decode_rle, encode_rle

HEIGHT, WIDTH, LENGTH = 48, 64, 12
CLASSES = ("car", "person")

Masks = list[RLE | None]


def generate_ground_truth(seed: int, videos: int = 3) -> dict[str, Any]:
    """YouTube-VIS annotations of moving discs that disappear and reappear, disjoint as in MOTS.

    Every video has an ignore region. The last has a single object, so that a class is absent.
    """
    rng = np.random.default_rng(seed)
    clips = []
    for video in range(videos):
        names = [f"{video:04d}/{frame:06d}.jpg" for frame in range(LENGTH)]
        taken = np.zeros((LENGTH, HEIGHT, WIDTH), dtype=bool)
        tracks = [
            LabelledTrack(CLASSES[number % 2], _disc(rng, taken))
            for number in range(1 if video == videos - 1 else 6)
        ]
        region = np.zeros((HEIGHT, WIDTH), dtype=bool)
        region[: HEIGHT // 2, : WIDTH // 3] = True
        ignored: Masks = [encode_rle(region & ~frame) for frame in taken]
        tracks.append(LabelledTrack("person", ignored, crowd=True))
        clips.append(LabelledVideo(names, HEIGHT, WIDTH, tracks))
    return build_video_set(clips, "discs for the comparison with trackeval", CLASSES)


def _disc(rng: np.random.Generator, taken: np.ndarray) -> Masks:
    """Masks of a moving disc, without the pixels in ``taken``, which is updated in place."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    position, speed = rng.uniform((8, 8), (HEIGHT - 8, WIDTH - 8)), rng.uniform(-2, 2, 2)
    radius = rng.uniform(5, 10)
    masks: Masks = []
    for occupied in taken:
        mask = (y - position[0]) ** 2 + (x - position[1]) ** 2 <= radius**2
        mask &= ~occupied
        hidden = rng.random() < 0.15 or mask.sum() < 10
        masks.append(None if hidden else encode_rle(mask))
        if not hidden:
            occupied |= mask
        position += speed
    return masks


def perturb(gt: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Results with errors of every kind: shifted, missing masks; split, swapped, false tracks."""
    rng = np.random.default_rng(seed)
    results = []
    for video in gt["videos"]:
        tracks = [
            (annotation["category_id"], _shift(annotation["segmentations"], rng))
            for annotation in gt["annotations"]
            if annotation["video_id"] == video["id"] and not annotation["iscrowd"]
        ]
        tracks = _swap(_split(tracks, rng), rng)
        tracks += [(category, _shift(masks, rng, 12)) for category, masks in tracks[::3]]
        results += [
            {
                "video_id": video["id"],
                "category_id": category,
                "score": round(float(rng.uniform(0.05, 1)), 3),
                "segmentations": masks,
            }
            for category, masks in tracks
            if any(masks)
        ]
    return results


def _shift(masks: Masks, rng: np.random.Generator, max_shift: int = 1) -> Masks:
    """Shift a track by up to ``max_shift`` pixels and each mask by one more; drop every 7th."""
    bias = rng.integers(-max_shift, max_shift + 1, 2)
    moved = []
    for mask in masks:
        shift = bias + rng.integers(-1, 2, 2)
        lost = mask is None or rng.random() < 1 / 7
        pixels = None if lost else np.roll(decode_rle(mask), shift, axis=(0, 1))
        moved.append(None if lost else encode_rle(pixels))
    return moved


def _split(tracks: list[tuple[int, Masks]], rng: np.random.Generator) -> list[tuple[int, Masks]]:
    """Split every third track in two."""
    parts = []
    for number, (category, masks) in enumerate(tracks):
        frame = int(rng.integers(1, len(masks))) if number % 3 == 0 else len(masks)
        rest = len(masks) - frame
        parts.append((category, masks[:frame] + [None] * rest))
        parts.append((category, [None] * frame + masks[frame:]))
    return parts


def _swap(tracks: list[tuple[int, Masks]], rng: np.random.Generator) -> list[tuple[int, Masks]]:
    """Swap the masks of some pairs of tracks from a frame on, regardless of class."""
    swapped = [(category, list(masks)) for category, masks in tracks]
    for (_, first), (_, second) in zip(swapped[::4], swapped[2::4], strict=False):
        frame = int(rng.integers(0, len(first)))
        first[frame:], second[frame:] = second[frame:], first[frame:]
    return swapped


def without_crowd(gt: dict[str, Any]) -> dict[str, Any]:
    """The ground truth without ignore regions."""
    kept = [annotation for annotation in gt["annotations"] if not annotation["iscrowd"]]
    return {**gt, "annotations": kept}
