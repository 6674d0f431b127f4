"""What MOTS calls the videos, frames and classes of a YouTube-VIS file.

A sequence is named by its frames' folder, where videos share one (clips of a sequence) with their
id behind a dash, as ``convert_to_mots`` names the ground truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.inputs import GroundTruth
from queryinst_vis.evaluation.mask_tracks import Video
from queryinst_vis.interchange.video_list import videos_of

CLASS_NUMBERS = {"car": 1, "pedestrian": 2, "person": 2}
"""The classes of MOTS under their own name and that of COCO and YouTube-VIS."""

IDS_PER_CLASS = 1000
"""The track numbered n of class c has the id ``c * 1000 + n``."""

IGNORE_CLASS = 10


@dataclass(frozen=True)
class MotsSequence:
    """A video as MOTS names it.

    Attributes:
        name: of its text file, without suffix.
        video: its id and sizes.
        frames: the number of each frame.
    """

    name: str
    video: Video
    frames: list[int]


class MotsNames:
    """What MOTS calls the videos, frames and classes of a YouTube-VIS file.

    Attributes:
        sequences: the videos in the order of the file.
        classes: MOTS class by category id; only those of ``CLASS_NUMBERS`` and ``chosen``.
        names: class name by category id.
    """

    def __init__(
        self, truth: GroundTruth, first_frame: int | None, chosen: Mapping[str, int]
    ) -> None:
        """Name and number everything.

        Args:
            truth: videos and categories.
            first_frame: number of each video's first frame, from which on the others are counted
                (KITTI MOTS: 0, MOTSChallenge: 1); None takes the numbers in the file names where
                they count upwards, else 1, 2, 3, ...
            chosen: MOTS classes by class name, beside or instead of ``CLASS_NUMBERS``.

        Raises:
            InputError: an unknown class name, 10 (regions to ignore), a number given twice, or
                two videos that would share a file.
        """
        self.sequences = _sequences(truth, first_frame)
        self.classes = _class_numbers(truth, chosen)
        self.names = truth.categories


def _sequences(truth: GroundTruth, first_frame: int | None) -> list[MotsSequence]:
    videos = videos_of(truth)
    files = {id_: [PurePosixPath(str(file)) for file in _files(truth, id_)] for id_ in videos}
    folders = {id_: paths[0].parent.name if paths else "" for id_, paths in files.items()}
    uses = Counter(folders.values())
    sequences = []
    for id_, video in videos.items():
        folder = folders[id_] if folders[id_] != ".." else ""
        name = folder if folder and uses[folder] == 1 else f"{folder}-{id_}".lstrip("-")
        first = 1 if first_frame is None else first_frame
        counted = list(range(first, first + video.length))
        named = _numbers(files[id_]) if first_frame is None else None
        sequences.append(MotsSequence(name, video, named or counted))
    names = Counter(sequence.name for sequence in sequences)
    if len(names) < len(sequences):
        name = names.most_common(1)[0][0]
        raise InputError(f"two videos would be sequence '{name}'; rename one of their folders")
    return sequences


def _files(truth: GroundTruth, video_id: int) -> list[str]:
    return truth.media[video_id].get("file_names") or []


def _numbers(files: list[PurePosixPath]) -> list[int] | None:
    """The numbers in the file names, None where they do not count upwards."""
    if not all(file.stem.isdecimal() for file in files):
        return None
    numbers = [int(file.stem) for file in files]
    return numbers if all(a < b for a, b in pairwise(numbers)) else None


def _class_numbers(truth: GroundTruth, chosen: Mapping[str, int]) -> dict[int, int]:
    unknown = set(chosen) - set(truth.categories.values())
    if unknown:
        raise InputError(f"class '{min(unknown)}' is not in the video set")
    known = {**CLASS_NUMBERS, **chosen}
    numbers = {id_: known[name] for id_, name in truth.categories.items() if name in known}
    if IGNORE_CLASS in numbers.values():
        raise InputError("class 10 of MOTS is for regions to ignore; choose another number")
    for number, uses in Counter(numbers.values()).items():
        if uses > 1:
            names = [truth.categories[id_] for id_ in numbers if numbers[id_] == number]
            raise InputError(
                f"classes {' and '.join(names)} are both class {number} of MOTS; give one of them"
                f" another number, e.g. --class {names[-1]}={max(numbers.values()) + 1}"
            )
    return numbers
