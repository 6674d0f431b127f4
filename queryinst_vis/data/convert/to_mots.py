"""YouTube-VIS ground truth to MOTS, as instance maps or text."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.data.convert.outlines import unite
from queryinst_vis.data.convert.youtube_vis import read_repaired
from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet, Video, parse_set
from queryinst_vis.formats.findings import refuse_faults
from queryinst_vis.formats.mots import (
    CLASS_NUMBERS,
    IGNORE_CLASS,
    IGNORE_ID,
    FrameMasks,
    MotsSequence,
    ObjectIds,
    mots_sequences,
    remove_overlap,
    write_mots_text,
)
from queryinst_vis.formats.names import refuse_outside
from queryinst_vis.masks import RLE, decode_rle
from queryinst_vis.utils.files import new_folder
from queryinst_vis.utils.progress import show_progress

_FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")

MOTS_CLASSES = {"car": 1, "person": 2, "ignore": IGNORE_CLASS, "none": None}
"""Targets of the class mapping: a MOTS class, an ignore region, or none."""


def convert_to_mots(
    src: str | Path,
    dst: str | Path,
    *,
    form: str = "png",
    images: str | Path | None = None,
    classes: Mapping[str, str] | None = None,
    allow_outside: bool = False,
) -> str:
    """Write a YouTube-VIS annotation file as a MOTS folder.

    ``DST/instances/SEQUENCE/NUMBER.png`` are uint16 maps of class * 1000 + number, with classes
    car 1 and person 2; ``iscrowd`` tracks become the ignore region 10000. A sequence is named
    after the folder of its frames (and the video id, if several videos share the folder), frames
    by the numbers in their file names, otherwise counted from 1. Objects are numbered from 1 for
    each class of a video, in file order.

    MOTS masks must not overlap. Where masks of a frame do, the smaller one is assumed to be in
    front and keeps the pixels; instances are in front of ignore regions. The summary gives the
    number of lost pixels and masks.

    Args:
        src: YouTube-VIS annotation file.
        dst: folder to write, new or empty.
        form: ``"png"`` for instance maps, ``"txt"`` for ``DST/instances_txt/SEQUENCE.txt``.
        images: the folder of the frames; copies the frames to
            ``DST/images/SEQUENCE``, so that ``convert_mots`` can read the folder.
        classes: mapping of other classes, by name, to ``MOTS_CLASSES``.
        allow_outside: allow file names outside the image folder.

    Returns:
        One-line summary.

    Raises:
        InputError: an invalid file or one without annotations, a class that is neither in MOTS nor
            in ``classes``, more than 999 objects of a class in a video, a missing
            frame, a folder that is not empty.
    """
    if form not in ("png", "txt"):
        raise InputError(f"MOTS form '{form}': choose png or txt")
    content, _ = read_repaired(src)
    annotation_set = parse_set(content, refuse_faults(str(src)), str(src), "video")
    if not annotation_set.annotated:
        raise InputError(f"{src}: contains no annotations, as public test files do")
    if images is not None:
        names = (name for video in annotation_set.videos.values() for name in video.file_names)
        refuse_outside(names, str(src), allow_outside)
    labels = _mots_labels(annotation_set, classes or {})
    sequences = mots_sequences(annotation_set)
    lost: Counter[str] = Counter()
    objects = 0
    with new_folder(dst) as folder:
        for sequence in show_progress(sequences, "writing MOTS"):
            overlapping = _masks_by_frame(annotation_set, sequence.video, labels, lost)
            objects += len({number for frame in overlapping for number in frame} - {IGNORE_ID})
            masks = (_without_overlap(frame, lost) for frame in overlapping)
            frames = zip(sequence.frames, masks, strict=True)
            if form == "png":
                size = sequence.video.height, sequence.video.width
                _write_maps(folder / "instances" / sequence.name, frames, size)
            else:
                texts = folder / "instances_txt"
                texts.mkdir(exist_ok=True)
                write_mots_text(texts / f"{sequence.name}.txt", frames)
            if images is not None:
                _copy_frames(Path(images), sequence, folder / "images" / sequence.name)
    notes = "".join(f"; {what}: {number}" for what, number in lost.items() if number)
    return f"wrote {dst}: {len(sequences)} sequences, {objects} objects{notes}"


def _mots_labels(
    annotation_set: AnnotationSet, classes: Mapping[str, str]
) -> dict[int, int | None]:
    """MOTS class of each used category id; None: dropped."""
    names, where = annotation_set.categories, annotation_set.where
    for name, target in classes.items():
        if name not in names.values():
            raise InputError(f"{where}: has no class '{name}', only {', '.join(names.values())}")
        if target not in MOTS_CLASSES:
            raise InputError(f"class '{name}' as '{target}': choose {', '.join(MOTS_CLASSES)}")
    labels = {}
    used = {
        entry["category_id"] for entries in annotation_set.entries.values() for entry in entries
    }
    for identity in sorted(used):
        name = names[identity]
        if name in classes:
            labels[identity] = MOTS_CLASSES[classes[name]]
        elif name.lower() in CLASS_NUMBERS:
            labels[identity] = CLASS_NUMBERS[name.lower()]
        else:
            raise InputError(
                f"{where}: class '{name}' is not in MOTS (car, person); map it, e.g. "
                f"--class {name}=none"
            )
    return labels


def _masks_by_frame(
    annotation_set: AnnotationSet, video: Video, labels: dict[int, int | None], lost: Counter[str]
) -> list[dict[int, list[RLE]]]:
    """For each frame of a video the masks by MOTS id, which may overlap.

    Boxes without a mask are counted in ``lost``.
    """
    frames: list[dict[int, list[RLE]]] = [defaultdict(list) for _ in range(video.length)]
    ids = ObjectIds()
    for track in annotation_set.entries[video.id]:
        label = labels[track["category_id"]]
        if label is None:
            continue
        object_id = IGNORE_ID
        if label != IGNORE_CLASS and not track["iscrowd"]:
            object_id = ids.assign(label, f"{annotation_set.where}: video {video.id}")
        for frame, rle, box in zip(frames, track["segmentations"], track["bboxes"], strict=True):
            if rle is not None:
                frame[object_id].append(rle)
            elif box is not None:
                lost["boxes without a mask left out"] += 1
    return frames


def _without_overlap(frame: dict[int, list[RLE]], lost: Counter[str]) -> FrameMasks:
    """The masks of a frame without overlaps; pixels and masks removed are counted in ``lost``."""
    united = unite(frame)
    areas = {object_id: int(coco_mask.area(rle)) for object_id, rle in united.items()}
    in_front = sorted(
        areas, key=lambda object_id: (object_id == IGNORE_ID, areas[object_id], object_id)
    )
    masks = remove_overlap({object_id: united[object_id] for object_id in in_front})
    lost["pixels lost to overlapping instances"] += sum(
        area - int(coco_mask.area(masks[object_id])) if object_id in masks else area
        for object_id, area in areas.items()
        if object_id != IGNORE_ID
    )
    lost["masks completely covered by others"] += len(areas) - len(masks)
    return masks


def _write_maps(
    folder: Path, frames: Iterable[tuple[int, FrameMasks]], size: tuple[int, int]
) -> None:
    """Write uint16 maps of object ids, ``(height, width)`` each."""
    folder.mkdir(parents=True)
    for number, masks in frames:
        ids = np.zeros(size, np.uint16)
        for object_id, rle in masks.items():
            ids[decode_rle(rle)] = object_id
        encoded = cv2.imencode(".png", ids)[1]
        (folder / f"{number:06d}.png").write_bytes(encoded.tobytes())


def _copy_frames(source: Path, sequence: MotsSequence, target: Path) -> None:
    target.mkdir(parents=True)
    for name, number in zip(sequence.video.file_names, sequence.frames, strict=True):
        suffix = Path(name).suffix.lower()
        if suffix not in _FRAME_SUFFIXES or not (source / name).is_file():
            raise InputError(f"image {source / name}: no such .jpg or .png file")
        suffix = ".jpg" if suffix == ".jpeg" else suffix  # the suffix expected by MOTS readers
        shutil.copyfile(source / name, target / f"{number:06d}{suffix}")
