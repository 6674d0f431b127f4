"""MOTS result folders: one text file per sequence, without scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet
from queryinst_vis.formats.mots import (
    CLASS_NUMBERS,
    IGNORE_CLASS,
    FrameMasks,
    MotsSequence,
    ObjectIds,
    mots_sequences,
    read_mots_text,
    remove_overlap,
    write_mots_text,
)
from queryinst_vis.formats.video_set import MaskTrack, VideoSet, VideoTracks
from queryinst_vis.masks import RLE
from queryinst_vis.utils.progress import show_progress


def mots_classes(categories: Mapping[int, str], chosen: Mapping[str, int]) -> dict[int, int]:
    """MOTS class by category id, for the categories that have one.

    Args:
        categories: class name by category id.
        chosen: MOTS classes by class name, in addition to or instead of ``mots.CLASS_NUMBERS``.

    Raises:
        InputError: an unknown class name, class 10 (ignore regions), or a duplicate number.
    """
    unknown = set(chosen) - set(categories.values())
    if unknown:
        raise InputError(f"class '{min(unknown)}' is not in the video set")
    numbers = {
        id_: number
        for id_, name in sorted(categories.items())
        if (number := chosen.get(name, CLASS_NUMBERS.get(name.lower()))) is not None
    }
    check_mots_classes(numbers, categories)
    return numbers


def check_mots_classes(numbers: Mapping[int, int], categories: Mapping[int, str]) -> None:
    """Raise an InputError for class 10 (ignore regions) or a duplicate.

    Args:
        numbers: MOTS class by category id.
        categories: class name by category id.
    """
    if IGNORE_CLASS in numbers.values():
        raise InputError("class 10 of MOTS is for ignore regions; choose another number")
    for number, uses in Counter(numbers.values()).items():
        if uses > 1:
            names = [categories[id_] for id_ in numbers if numbers[id_] == number]
            raise InputError(
                f"classes {' and '.join(names)} are both class {number} of MOTS; give one of them"
                f" another number, e.g. --class {names[-1]}={max(numbers.values()) + 1}"
            )


@dataclass
class Overlaps:
    """The number of masks that lost some or all pixels to a track with a higher score."""

    cut: int = 0
    hidden: int = 0

    def remove(self, shown: FrameMasks) -> FrameMasks:
        """``mots.remove_overlap``, with counts of the losses."""
        visible = remove_overlap(shown)
        self.hidden += len(shown) - len(visible)
        self.cut += sum(mask is not shown[object_id] for object_id, mask in visible.items())
        return visible

    def __str__(self) -> str:
        return (
            f"where tracks overlap, {self.cut} masks lost pixels to a track with a higher score and"
            f" {self.hidden} were lost completely"
        )


def write_mots(
    folder: Path,
    videos: AnnotationSet,
    results: VideoSet,
    first_frame: int | None = None,
    classes: Mapping[str, int] | None = None,
) -> Overlaps:
    """Write results as one text file per video, including videos without results.

    Where masks of a frame overlap, regardless of class, the track with the higher score keeps
    the pixels (ties: the earlier one). Ids start at 1 in each class of each video.

    Args:
        folder: output folder.
        videos: the set of the results.
        results: for its videos.
        first_frame: as for ``mots_sequences``.
        classes: class numbers, as for ``mots_classes``.

    Raises:
        InputError: a class without a MOTS number, more than 999 tracks of a class in a video,
            two videos of the same name, or an invalid mask.
    """
    overlaps = Overlaps()
    labels = mots_classes(videos.categories, classes or {})
    sequences = {sequence.video.id: sequence for sequence in mots_sequences(videos, first_frame)}
    for tracks in show_progress(results, "Writing MOTS"):
        sequence = sequences[tracks.video.id]
        ids = _object_ids(tracks.detections, labels, videos.categories)
        frames = _disjoint_frames(tracks, ids, overlaps)
        numbered = zip(sequence.frames, frames, strict=True)
        write_mots_text(folder / f"{sequence.name}.txt", numbered)
    return overlaps


def _object_ids(
    tracks: list[MaskTrack], labels: Mapping[int, int], categories: Mapping[int, str]
) -> dict[int, int]:
    """MOTS ids of the tracks of a video, by position in the file."""
    object_ids = ObjectIds()
    ids = {}
    for track in tracks:
        where = f"results: entry {track.id}"
        if track.category_id not in labels:
            name = categories[track.category_id]
            raise InputError(
                f"{where}: class '{name}' has no MOTS number; give it one, e.g. --class '{name}=3'"
            )
        ids[track.id] = object_ids.assign(labels[track.category_id], where)
    return ids


def _disjoint_frames(
    tracks: VideoTracks, ids: Mapping[int, int], overlaps: Overlaps
) -> Iterator[FrameMasks]:
    """The masks of each frame of a video, with losses counted in ``overlaps``."""
    by_score = sorted(tracks.detections, key=lambda track: -track.score)
    for index in range(tracks.video.length):
        shown = {
            ids[track.id]: mask
            for track in by_score
            if track.sizes[index] and (mask := track.masks[index]) is not None
        }
        yield overlaps.remove(shown)


def read_mots(
    folder: Path,
    videos: AnnotationSet,
    first_frame: int | None = None,
    classes: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Read a result folder as YouTube-VIS results with score 1, ordered by video and id.

    Args:
        folder: with a text file for every video.
        videos: the set of the results.
        first_frame, classes: as for ``write_mots``.

    Raises:
        InputError: a missing or unexpected file, an invalid line (with file and line number), an
            unknown frame or class, or a mask of the wrong size.
    """
    sequences = {f"{item.name}.txt": item for item in mots_sequences(videos, first_frame)}
    found = {path.name for path in folder.glob("*.txt")}
    stray, missing = found - sequences.keys(), sequences.keys() - found
    if stray:
        raise InputError(f"{folder / min(stray)}: the video set has no such sequence")
    if missing:
        raise InputError(
            f"{folder / min(missing)}: no such file; every sequence needs a file, which is empty if"
            " nothing was detected"
        )
    labels = mots_classes(videos.categories, classes or {})
    categories = {label: id_ for id_, label in labels.items()}
    return [
        entry
        for name, sequence in sequences.items()
        for entry in _read_sequence(folder / name, sequence, categories)
    ]


def _read_sequence(
    path: Path, sequence: MotsSequence, categories: dict[int, int]
) -> list[dict[str, Any]]:
    video = sequence.video
    index_of = {number: index for index, number in enumerate(sequence.frames)}
    tracks: dict[tuple[int, int], list[RLE | None]] = {}
    for line in read_mots_text(path, (video.height, video.width)):
        if line.frame not in index_of:
            raise InputError(
                f"{line.where}: video {video.id} has no frame {line.frame}, its {video.length}"
                f" frames are numbered {sequence.frames[0]} to {sequence.frames[-1]}"
            )
        if line.label == IGNORE_CLASS:
            raise InputError(
                f"{line.where}: class {IGNORE_CLASS} marks ignore regions, which only the"
                " ground truth has; convert it with convert-dataset mots"
            )
        if line.label not in categories:
            raise InputError(
                f"{line.where}: class {line.label} is not in the video set;"
                f" name it with --class NAME={line.label}"
            )
        masks = tracks.setdefault((line.label, line.object_id), [None] * video.length)
        masks[index_of[line.frame]] = line.mask
    return [
        {
            "video_id": video.id,
            "category_id": categories[label],
            "score": 1.0,
            "segmentations": masks,
        }
        for (label, _), masks in sorted(tracks.items(), key=lambda item: item[0])
    ]
