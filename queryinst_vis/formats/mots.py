"""The MOTS format (MOTSChallenge, KITTI MOTS): object ids, text files, masks without overlap.

A sequence is a text file with one mask per line, ``frame id class height width rle``, or a folder
of 16-bit PNGs whose pixel values are ids. An id is class * 1000 + number; masks do not overlap.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet, Video
from queryinst_vis.formats.names import frame_numbers, sequence_names
from queryinst_vis.masks import RLE, decode_rle, encode_rle, to_rle
from queryinst_vis.masks.rle import as_text

CLASS_NAMES = ("car", "person")
"""MOTS classes 1 and 2, with the names used in COCO and YouTube-VIS."""

CLASS_NUMBERS = {"car": 1, "person": 2, "pedestrian": 2}
"""MOTS class by lower-case class name."""

IDS_PER_CLASS = 1000
IGNORE_CLASS = 10
IGNORE_ID = IGNORE_CLASS * IDS_PER_CLASS
"""Class and id of the ignore region."""

_NUMBER = re.compile("[0-9]{1,9}")

FrameMasks = dict[int, RLE]
"""The masks of one frame by object id."""


class MotsSequence(NamedTuple):
    """A video with its MOTS name.

    Attributes:
        name: of its text file, without suffix, or of its folder.
        video: its id and size.
        frames: the MOTS number of each frame.
    """

    name: str
    video: Video
    frames: Sequence[int]


def mots_sequences(videos: AnnotationSet, first_frame: int | None = None) -> list[MotsSequence]:
    """Names and frame numbers of all videos, in file order.

    Args:
        videos: named by ``names.sequence_names``.
        first_frame: number of the first frame of every video (KITTI MOTS: 0, MOTSChallenge: 1);
            None: ``names.frame_numbers``.

    Raises:
        InputError: two videos would have the same name.
    """
    sequences = []
    names = sequence_names(videos.content["videos"])
    for name, video in zip(names, videos.videos.values(), strict=True):
        frames: Sequence[int] = frame_numbers(video.file_names or [""] * video.length)
        if first_frame is not None:
            frames = range(first_frame, first_frame + video.length)
        sequences.append(MotsSequence(name, video, frames))
    return sequences


class MotsLine(NamedTuple):
    """One mask of a MOTS text file.

    Attributes:
        where: file and line, for error messages.
        frame: frame number.
        object_id: class * 1000 + number in ground truth; any number in results.
        label: MOTS class.
        mask: compressed RLE.
    """

    where: str
    frame: int
    object_id: int
    label: int
    mask: RLE


def read_mots_text(path: Path, size: tuple[int, int] | None = None) -> Iterator[MotsLine]:
    """Read the masks of a MOTS text file, in line order.

    Args:
        path: the file.
        size: required ``(height, width)`` of all masks in pixels; None: any.

    Raises:
        InputError: an unreadable file, an invalid line or mask, or a duplicate object in
            a frame (each with file and line number).
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as text ({error})") from error
    seen: set[tuple[int, int]] = set()
    for line_number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        where = f"{path}, line {line_number}"
        if len(fields) != 6 or not all(_NUMBER.fullmatch(field) for field in fields[:5]):
            raise InputError(f"{where}: expected 'frame id class height width rle'")
        frame, object_id, label, height, width = map(int, fields[:5])
        if (frame, object_id) in seen:
            raise InputError(f"{where}: object {object_id} occurs twice in frame {frame}")
        seen.add((frame, object_id))
        rle = {"size": [height, width], "counts": fields[5]}
        mask = to_rle(rle, *(size or (height, width)), where)
        yield MotsLine(where, frame, object_id, label, mask)


def write_mots_text(path: Path, frames: Iterable[tuple[int, FrameMasks]]) -> None:
    """Write a MOTS text file.

    Args:
        path: the file, in an existing folder.
        frames: number and masks of each frame, in order; ids are class * 1000 + number.
    """
    with path.open("w", encoding="utf-8") as file:
        for number, masks in frames:
            for object_id, rle in sorted(masks.items()):
                height, width = rle["size"]
                label, counts = object_id // IDS_PER_CLASS, as_text(rle["counts"])
                file.write(f"{number} {object_id} {label} {height} {width} {counts}\n")


class ObjectIds:
    """Assigns the object ids of one video, starting at 1 in each class."""

    def __init__(self) -> None:
        self._used: Counter[int] = Counter()

    def assign(self, label: int, where: str) -> int:
        """The next free id of MOTS class ``label``.

        Raises:
            InputError: all 999 ids of the class are taken; ``where`` names the track.
        """
        self._used[label] += 1
        if self._used[label] >= IDS_PER_CLASS:
            raise InputError(
                f"{where}: more than {IDS_PER_CLASS - 1} objects of MOTS class {label} in one "
                "video, which MOTS ids cannot tell apart; leave some out"
            )
        return label * IDS_PER_CLASS + self._used[label]


def remove_overlap(masks: FrameMasks) -> FrameMasks:
    """Make the masks of a frame disjoint.

    Args:
        masks: by id, of equal size, the foremost first.

    Returns:
        The visible part of each mask, without completely hidden ones.
        A mask that loses no pixels is returned as it is.
    """
    areas = {object_id: int(coco_mask.area(mask)) for object_id, mask in masks.items()}
    if coco_mask.area(coco_mask.merge(list(masks.values()))) == sum(areas.values()):
        return masks
    free: np.ndarray | None = None
    visible = {}
    for object_id, mask in masks.items():
        pixels = decode_rle(mask)
        free = np.ones_like(pixels) if free is None else free
        pixels &= free
        free &= ~pixels
        left = np.count_nonzero(pixels)
        if left:
            visible[object_id] = mask if left == areas[object_id] else encode_rle(pixels)
    return visible
