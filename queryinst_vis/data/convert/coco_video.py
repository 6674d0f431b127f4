"""COCO images to pseudo-videos, by simulating a camera that moves over each image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from queryinst_vis.data.convert.builder import (
    LabelledTrack,
    LabelledVideo,
    build_video_set,
    describe,
    write_both,
)
from queryinst_vis.data.convert.images import write_jpeg
from queryinst_vis.data.frames import apply_view, load_pixels
from queryinst_vis.data.records import ImageRecord, Instance, TrainingSet
from queryinst_vis.data.transforms import fit_size
from queryinst_vis.data.views import View
from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import parse_categories
from queryinst_vis.formats.findings import refuse_faults
from queryinst_vis.formats.reading import read_annotations
from queryinst_vis.masks import RLE, encode_region
from queryinst_vis.utils.files import new_folder
from queryinst_vis.utils.progress import show_progress

FRAMES_PER_MOVE = 8
"""Number of frames between two random windows."""


def convert_coco_video(
    annotations: str | Path,
    images: str | Path,
    dst: str | Path,
    *,
    frames: int = 10,
    size: tuple[int, int] = (640, 360),
    crop: tuple[float, float] = (0.5, 0.9),
    seed: int = 0,
    allow_outside: bool = False,
) -> str:
    """Write every image of a COCO set as a short video in which the camera moves.

    Each frame is a window of the image that moves smoothly between random windows, so that
    instances move, change scale, enter and leave. They all move together, so there is no new
    occlusion as in real videos. Masks are cropped to the window and resized with nearest-neighbour
    interpolation. Crowds stay ``iscrowd``.

    ``DST`` gets ``frames/IMAGE_ID/00000.jpg``, ``youtube_vis.json`` and ``coco.json`` (the same
    frames as images), as for synthetic videos. Clip n depends on the seed, the options and n.

    Args:
        annotations: COCO annotation file.
        images: folder of the images.
        dst: folder to write, new or empty.
        frames: frames per video.
        size: maximum long and short side of a frame in pixels.
        crop: minimum and maximum side of a window, as fractions of the image's.
        seed: random seed; the output is deterministic.
        allow_outside: allow file names outside the image folder.

    Returns:
        One-line summary.

    Raises:
        InputError: an invalid annotation file, one without annotations, an unreadable image,
            an annotation without a mask, options out of range, a folder that is not empty.
    """
    _check(frames, size, crop, seed)
    content = read_annotations(annotations)
    classes = list(parse_categories(content, refuse_faults(str(annotations))).values())
    source = TrainingSet(annotations, images, classes, "image", content, allow_outside)
    records, crowds = _read_images(source, Path(images), str(annotations))
    videos = []
    with new_folder(dst) as folder:
        for number, record in enumerate(show_progress(records, "writing pseudo-videos")):
            height, width = fit_size(record.height, record.width, min(size), max(size))
            windows = draw_camera_path(np.random.default_rng([seed, number]), frames, crop)
            views = [_view(window, record, height, width) for window in windows]
            name = f"{record.id:012d}"
            names = [f"{name}/{index:05d}.jpg" for index in range(frames)]
            tracks = _write_clip(folder / "frames", names, record, views, classes, crowds)
            videos.append(LabelledVideo(names, height, width, tracks))
        description = f"{Path(annotations).name} as pseudo-videos, seed {seed}"
        video_set = build_video_set(videos, description, classes)
        write_both(folder, video_set)
    return describe(dst, video_set)


def _check(frames: int, size: tuple[int, int], crop: tuple[float, float], seed: int) -> None:
    if frames < 1:
        raise InputError(f"pseudo-videos of {frames} frames: must be at least 1")
    if min(size) < 1:
        raise InputError(f"pseudo-videos of {size[0]}x{size[1]} pixels are not possible")
    if not 0 < crop[0] <= crop[1] <= 1:
        raise InputError(f"windows of {crop[0]:g} to {crop[1]:g}: expected 0 < low <= high <= 1")
    if seed < 0:
        raise InputError(f"pseudo-videos: seed {seed} is negative; use 0 or more")


def _read_images(
    source: TrainingSet, images: Path, where: str
) -> tuple[list[ImageRecord], set[int]]:
    """All images, with crowds among the instances, and the ids of the crowds."""
    if not source.annotation_set.annotated:
        raise InputError(f"{where}: contains no annotations to make videos of")
    records: list[ImageRecord] = []
    crowds: set[int] = set()
    for image in source.annotation_set.videos.values():
        record = ImageRecord(image.id, images / image.file_names[0], image.height, image.width)
        records.append(record)
        for annotation, label in source.annotations(image):
            [mask] = annotation.segmentations
            if mask is None:
                raise InputError(
                    f"{where}: annotation {annotation.id}: has a box but no mask; pseudo-videos "
                    "need masks, so leave it out"
                )
            record.instances.append(Instance(annotation.id, label, None, mask))
            if annotation.crowd:
                crowds.add(annotation.id)
    if not records:
        raise InputError(f"{where}: contains no images")
    return records, crowds


def draw_camera_path(
    rng: np.random.Generator, frames: int, crop: tuple[float, float]
) -> np.ndarray:
    """Windows that move smoothly between random ones.

    Args:
        rng: random generator.
        frames: number F of windows.
        crop: minimum and maximum side of a window.

    Returns:
        ``(F, 3)``: side, top and left of each window, all in 0..1 of the image's sides.
    """
    moves = -(-frames // FRAMES_PER_MOVE)
    sides = rng.uniform(*crop, moves + 1)
    corners = rng.uniform(0, 1, (moves + 1, 2)) * (1 - sides[:, None])
    keys = np.column_stack([sides, corners])
    move, phase = np.divmod(np.arange(frames) / FRAMES_PER_MOVE, 1)
    eased = (phase**2 * (3 - 2 * phase))[:, None]
    start = move.astype(int)
    return (1 - eased) * keys[start] + eased * keys[start + 1]


def _view(window: np.ndarray, record: ImageRecord, height: int, width: int) -> View:
    side, top, left = window
    rows = max(round(side * record.height), 1)
    columns = max(round(side * record.width), 1)
    first_row = min(round(top * record.height), record.height - rows)
    first_column = min(round(left * record.width), record.width - columns)
    return View(first_row, first_column, first_row + rows, first_column + columns, height, width)


def _write_clip(
    folder: Path,
    names: list[str],
    record: ImageRecord,
    views: list[View],
    classes: list[str],
    crowds: set[int],
) -> list[LabelledTrack]:
    """Write the frames; returns the instances that are visible in any of them."""
    image = load_pixels(record)
    shown: list[dict[int, RLE]] = []  # by annotation id
    for name, view in zip(names, views, strict=True):
        frame = apply_view(image, record, view)
        write_jpeg(folder / name, frame.image)
        shown.append(
            {
                instance.id: encode_region(
                    instance.mask.pixels == 1, instance.mask.left, instance.mask.top, frame.size
                )
                for instance in frame.instances
                if instance.mask is not None  # always true: annotations without a mask are rejected
            }
        )
    tracks = [
        LabelledTrack(
            classes[instance.label],
            [frame.get(instance.id) for frame in shown],
            crowd=instance.id in crowds,
        )
        for instance in record.instances
    ]
    return [track for track in tracks if any(track.masks)]
