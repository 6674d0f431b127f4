"""MOTS result folders: a text file per sequence, ``frame id class height width rle`` a line.

Masks of a frame never overlap; scores do not exist.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.data.convert.mots import IDS_PER_CLASS, IGNORE_CLASS
from queryinst_vis.errors import InputError
from queryinst_vis.formats.mask_tracks import MaskTrack
from queryinst_vis.formats.mots_names import MotsNames, MotsSequence
from queryinst_vis.formats.video_set import VideoSet
from queryinst_vis.masks import RLE, decode_rle, encode_rle, to_rle
from queryinst_vis.utils.progress import show_progress

_NUMBER = re.compile("[0-9]{1,9}")


@dataclass
class Overlaps:
    """Masks that had to give way to a track of higher score: in part, and altogether."""

    cut: int = 0
    hidden: int = 0

    def __str__(self) -> str:
        return (
            f"where tracks overlap, {self.cut} masks lost pixels to a track of higher score and"
            f" {self.hidden} vanished"
        )


def write_mots(folder: Path, results: VideoSet, names: MotsNames) -> Overlaps:
    """Write results as one text file per video, also where there are none.

    Where masks of a frame overlap, whatever their classes, the track with the higher score keeps
    the pixels, the earlier one among equals. Ids count from 1 in each class of each video.

    Raises:
        InputError: a class without a MOTS number, more than 999 tracks of a class in a video,
            or a mask that cannot be used.
    """
    overlaps = Overlaps()
    for video in show_progress(results, "Writing MOTS"):
        sequence = names.sequences[video.video.id]
        lines = _lines(sequence, video.detections, names, overlaps)
        (folder / f"{sequence.name}.txt").write_text("".join(lines), encoding="utf-8")
    return overlaps


def _lines(
    sequence: MotsSequence, tracks: list[MaskTrack], names: MotsNames, overlaps: Overlaps
) -> Iterator[str]:
    ids = _track_ids(tracks, names)
    in_order = sorted(tracks, key=lambda track: ids[track.id])
    for index, number in enumerate(sequence.frames):
        masks = _disjoint([track for track in tracks if track.sizes[index]], index, overlaps)
        for track in in_order:
            if track.id in masks:
                (height, width), counts = masks[track.id]["size"], masks[track.id]["counts"]
                label = names.classes[track.category_id]
                yield f"{number} {ids[track.id]} {label} {height} {width} {counts}\n"


def _track_ids(tracks: list[MaskTrack], names: MotsNames) -> dict[int, int]:
    """MOTS ids of the tracks of a video, by the track's position in its file."""
    used: Counter[int] = Counter()
    ids = {}
    for track in tracks:
        if track.category_id not in names.classes:
            name = names.categories[track.category_id]
            raise InputError(
                f"results: entry {track.id}: MOTS knows no class '{name}'; give it a number,"
                f" e.g. --class '{name}=3'"
            )
        label = names.classes[track.category_id]
        used[label] += 1
        if used[label] == IDS_PER_CLASS:
            raise InputError(
                f"results: entry {track.id}: track {IDS_PER_CLASS} of its class and video does not"
                " fit into MOTS ids; leave out tracks of low score"
            )
        ids[track.id] = label * IDS_PER_CLASS + used[label]
    return ids


def _disjoint(shown: list[MaskTrack], index: int, overlaps: Overlaps) -> dict[int, RLE]:
    """The masks of one frame without overlap, by the track's position in its file."""
    masks = {track.id: track.masks[index] for track in shown}
    if coco_mask.area(coco_mask.merge(list(masks.values()))) == sum(
        track.sizes[index] for track in shown
    ):
        return masks
    free: np.ndarray | None = None
    for track in sorted(shown, key=lambda track: -track.score):
        mask = decode_rle(masks[track.id])
        free = np.ones_like(mask) if free is None else free
        visible = mask & free
        free &= ~mask
        if not visible.any():
            overlaps.hidden += 1
            del masks[track.id]
        elif (visible != mask).any():
            overlaps.cut += 1
            masks[track.id] = encode_rle(visible)
    return masks


def read_mots(folder: Path, names: MotsNames) -> list[dict[str, Any]]:
    """Read a result folder as YouTube-VIS results of score 1, ordered by video and id.

    Raises:
        InputError: a missing or a stray file, a broken line (file and line number), an unknown
            frame or class, or a mask that is not of its video's size.
    """
    wanted = {f"{sequence.name}.txt" for sequence in names.sequences.values()}
    found = {path.name for path in folder.glob("*.txt")}
    if found - wanted:
        raise InputError(f"{folder / min(found - wanted)}: the video set has no such sequence")
    if wanted - found:
        raise InputError(
            f"{folder / min(wanted - found)}: no such file; every sequence needs its file, empty"
            " where nothing was found"
        )
    categories = {number: id_ for id_, number in names.classes.items()}
    return [
        entry
        for sequence in names.sequences.values()
        for entry in _read_sequence(folder / f"{sequence.name}.txt", sequence, categories)
    ]


def _read_sequence(
    path: Path, sequence: MotsSequence, categories: dict[int, int]
) -> list[dict[str, Any]]:
    video = sequence.video
    index_of = {number: index for index, number in enumerate(sequence.frames)}
    tracks: dict[tuple[int, int], list[RLE | None]] = {}
    seen: set[tuple[int, int]] = set()
    for where, (frame, number, label, height, width), counts in _read_lines(path):
        if frame not in index_of:
            raise InputError(
                f"{where}: video {video.id} has no frame {frame}, its {video.length} frames are"
                f" numbered {sequence.frames[0]} to {sequence.frames[-1]}"
            )
        if label == IGNORE_CLASS:
            raise InputError(
                f"{where}: class {label} marks regions to ignore, which only ground truth has;"
                " convert-dataset mots reads that"
            )
        if label not in categories:
            raise InputError(
                f"{where}: class {label} is none of the video set;"
                f" name it with --class NAME={label}"
            )
        if (frame, number) in seen:
            raise InputError(f"{where}: object {number} occurs twice in frame {frame}")
        seen.add((frame, number))
        masks = tracks.setdefault((label, number), [None] * video.length)
        rle = {"size": [height, width], "counts": counts}
        masks[index_of[frame]] = to_rle(rle, video.height, video.width, where)
    return [
        {
            "video_id": video.id,
            "category_id": categories[label],
            "score": 1.0,
            "segmentations": masks,
        }
        for (label, _), masks in sorted(tracks.items(), key=lambda item: item[0])
    ]


def _read_lines(path: Path) -> Iterator[tuple[str, list[int], str]]:
    """Place, the five numbers, and the run lengths of each line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as text ({error})") from error
    for line_number, line in enumerate(lines, start=1):
        where = f"{path}, line {line_number}"
        fields = line.split()
        if fields:
            if len(fields) != 6 or not all(_NUMBER.fullmatch(field) for field in fields[:5]):
                raise InputError(f"{where}: expected 'frame id class height width rle'")
            yield where, [int(field) for field in fields[:5]], fields[5]
