"""YouTube-VIS ground truth to MOTS: instance maps or their text form."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.data.convert.folders import IMAGE_SUFFIXES
from queryinst_vis.data.convert.mots import IDS_PER_CLASS, IGNORE_CLASS
from queryinst_vis.data.convert.normalise import category_names, read_normalised
from queryinst_vis.errors import InputError
from queryinst_vis.formats.fields import check_unique
from queryinst_vis.formats.names import sequence_names
from queryinst_vis.masks import RLE, decode_rle, encode_rle
from queryinst_vis.utils.files import new_folder
from queryinst_vis.utils.progress import show_progress

MOTS_CLASSES = {"car": 1, "person": 2, "ignore": IGNORE_CLASS, "none": None}
"""What a class can become: an object of MOTS, a region to ignore, or nothing."""

IGNORE_ID = IGNORE_CLASS * IDS_PER_CLASS
_SAME_AS = {"car": "car", "person": "person", "pedestrian": "person"}


@dataclass
class _Sequence:
    """One video on its way to MOTS.

    Attributes:
        name: its folder in MOTS.
        files: the frames' paths, relative to the image folder.
        numbers: the frames' numbers in MOTS.
        height, width: size of a frame in pixels.
        shown: for each frame, pairs of MOTS object id and mask.
    """

    name: str
    files: list[str]
    numbers: list[int]
    height: int
    width: int
    shown: list[list[tuple[int, RLE]]]

    def objects(self) -> set[int]:
        """The ids that occur in it, without the regions to ignore."""
        return {number for frame in self.shown for number, _ in frame} - {IGNORE_ID}


def convert_to_mots(
    src: str | Path,
    dst: str | Path,
    *,
    form: str = "png",
    images: str | Path | None = None,
    classes: Mapping[str, str] | None = None,
) -> str:
    """Write a YouTube-VIS annotation file as a MOTS folder.

    ``DST/instances/SEQUENCE/NUMBER.png`` are uint16 maps of class * 1000 + number, with classes
    car 1 and person 2; ``iscrowd`` tracks become 10000, the region to ignore. A sequence is named
    by the folder of its video's frames (and by the video's id as well where several videos share
    the folder), frames by the numbers in their file names or else counted from 1. Objects are
    counted from 1 for each class of a video, in the order of the file.

    In MOTS a pixel has one owner. Where masks overlap, the smaller one of the frame is taken to
    lie in front and keeps the pixel; instances go before regions to ignore. The line that is
    returned says how many pixels and masks were lost.

    Args:
        src: YouTube-VIS annotation file.
        dst: folder to write, new or empty.
        form: ``"png"`` for instance maps, ``"txt"`` for ``DST/instances_txt/SEQUENCE.txt``.
        images: the folder that the file names are relative to; copies the frames to
            ``DST/images/SEQUENCE``, so that ``convert_mots`` reads the folder back.
        classes: what other classes become, by name: one of ``MOTS_CLASSES``.

    Returns:
        A line that says what was written.

    Raises:
        InputError: a broken file or one without annotations, a class that MOTS lacks and
            ``classes`` does not name, more than 999 objects of a class in a video, a missing
            frame, a folder that is not empty.
    """
    if form not in ("png", "txt"):
        raise InputError(f"MOTS form '{form}': choose png or txt")
    content, _ = read_normalised(src)
    if content["annotations"] is None:
        raise InputError(f"{src}: holds no annotations, as public test files do")
    labels = _mots_labels(content, classes or {}, str(src))
    lost: Counter[str] = Counter()
    sequences = _sequences(content, labels, lost, str(src))
    with new_folder(dst) as folder:
        for sequence in show_progress(sequences, "writing MOTS"):
            maps = _instance_maps(sequence, lost)
            if form == "png":
                _write_maps(folder / "instances" / sequence.name, sequence.numbers, maps)
            else:
                _write_text(folder / "instances_txt", sequence.name, sequence.numbers, maps)
            if images is not None:
                _copy_frames(Path(images), sequence, folder / "images" / sequence.name)
    objects = sum(len(sequence.objects()) for sequence in sequences)
    notes = "".join(f"; {what}: {number}" for what, number in lost.items())
    return f"wrote {dst}: {len(sequences)} sequences, {objects} objects{notes}"


def _mots_labels(
    content: dict[str, Any], classes: Mapping[str, str], where: str
) -> dict[int, int | None]:
    """MOTS class of each category id in use; None for those to leave out."""
    names = category_names(content, where)
    for name, target in classes.items():
        if name not in names.values():
            raise InputError(f"{where}: has no class '{name}', only {', '.join(names.values())}")
        if target not in MOTS_CLASSES:
            raise InputError(f"class '{name}' as '{target}': choose {', '.join(MOTS_CLASSES)}")
    labels = {}
    for identity in sorted({track["category_id"] for track in content["annotations"]}):
        name = names[identity]
        target = classes.get(name) or _SAME_AS.get(name.lower())
        if target is None:
            raise InputError(
                f"{where}: class '{name}' is none of MOTS (car, person); say what it becomes, "
                f"e.g. --class {name}=none"
            )
        labels[identity] = MOTS_CLASSES[target]
    return labels


def _sequences(
    content: dict[str, Any], labels: dict[int, int | None], lost: Counter[str], where: str
) -> list[_Sequence]:
    """One sequence a video, with the masks of its tracks under their MOTS ids.

    Boxes without a mask are counted in ``lost``.
    """
    names = sequence_names(content["videos"])
    check_unique(names, "sequence name", where)
    sequences = {
        video["id"]: _Sequence(
            name,
            video["file_names"],
            frame_numbers(video["file_names"]),
            video["height"],
            video["width"],
            [[] for _ in video["file_names"]],
        )
        for video, name in zip(content["videos"], names, strict=True)
    }
    counts: Counter[tuple[int, int]] = Counter()
    for track in content["annotations"]:
        label = labels[track["category_id"]]
        if label is None:
            continue
        number = IGNORE_ID
        if label != IGNORE_CLASS and not track["iscrowd"]:
            counts[track["video_id"], label] += 1
            number = label * IDS_PER_CLASS + counts[track["video_id"], label]
            if number // IDS_PER_CLASS != label:
                raise InputError(
                    f"{where}: video {track['video_id']} has more than {IDS_PER_CLASS - 1} "
                    f"objects of MOTS class {label}, which its ids cannot tell apart"
                )
        sequence = sequences[track["video_id"]]
        frames = zip(sequence.shown, track["segmentations"], track["bboxes"], strict=True)
        for shown, rle, box in frames:
            if rle is not None:
                shown.append((number, rle))
            elif box is not None:
                lost["boxes without a mask left out"] += 1
    return list(sequences.values())


def frame_numbers(file_names: list[str]) -> list[int]:
    """The numbers in the file names where these count upwards, else 1, 2, 3, ..."""
    stems = [Path(name).stem for name in file_names]
    if all(re.fullmatch("[0-9]{1,9}", stem) for stem in stems):
        numbers = [int(stem) for stem in stems]
        if all(a < b for a, b in pairwise(numbers)):
            return numbers
    return list(range(1, len(file_names) + 1))


def _instance_maps(sequence: _Sequence, lost: Counter[str]) -> Iterator[np.ndarray]:
    """The map of each frame; what overlaps take away is counted in ``lost``."""
    for shown in sequence.shown:
        yield _instance_map(shown, sequence.height, sequence.width, lost)


def _instance_map(
    shown: list[tuple[int, RLE]], height: int, width: int, lost: Counter[str]
) -> np.ndarray:
    """``(height, width)`` uint16 ids of one frame."""
    ids = np.zeros((height, width), np.uint16)
    # Later ones are in front: regions to ignore first, then from the largest to the smallest.
    for number, rle in sorted(
        shown, key=lambda entry: (entry[0] != IGNORE_ID, -int(coco_mask.area(entry[1])), -entry[0])
    ):
        mask = decode_rle(rle)
        hidden = np.count_nonzero(mask & (ids > 0) & (ids != IGNORE_ID))
        if hidden:
            lost["pixels lost where instances overlap"] += hidden
        ids[mask] = number
    gone = {number for number, _ in shown} - set(np.unique(ids).tolist())
    if gone:
        lost["masks that lie wholly under others"] += len(gone)
    return ids


def _write_maps(folder: Path, numbers: list[int], maps: Iterator[np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for number, ids in zip(numbers, maps, strict=True):
        encoded = cv2.imencode(".png", ids)[1]
        (folder / f"{number:06d}.png").write_bytes(encoded.tobytes())


def _write_text(folder: Path, name: str, numbers: list[int], maps: Iterator[np.ndarray]) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.txt").open("w", encoding="utf-8") as file:
        for number, ids in zip(numbers, maps, strict=True):
            height, width = ids.shape
            for identity in np.unique(ids[ids > 0]).tolist():
                counts = encode_rle(ids == identity)["counts"]
                label = identity // IDS_PER_CLASS
                file.write(f"{number} {identity} {label} {height} {width} {counts}\n")


def _copy_frames(source: Path, sequence: _Sequence, target: Path) -> None:
    target.mkdir(parents=True)
    for name, number in zip(sequence.files, sequence.numbers, strict=True):
        suffix = Path(name).suffix.lower()
        if suffix not in IMAGE_SUFFIXES or not (source / name).is_file():
            raise InputError(f"image {source / name}: no such .jpg or .png file")
        suffix = ".jpg" if suffix == ".jpeg" else suffix  # the one that MOTS' readers look for
        shutil.copyfile(source / name, target / f"{number:06d}{suffix}")
