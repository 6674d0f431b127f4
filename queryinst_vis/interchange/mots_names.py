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
from queryinst_vis.evaluation.mask_tracks import Video
from queryinst_vis.interchange.video_list import VideoList

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
        sequences: by video id, in the order of the file.
        classes: MOTS class by category id; only those of ``CLASS_NUMBERS`` and ``chosen``.
        categories: class name by category id.
    """

    def __init__(
        self, videos: VideoList, first_frame: int | None, chosen: Mapping[str, int]
    ) -> None:
        """Name and number everything.

        Args:
            videos: and categories.
            first_frame: number of each video's first frame, from which on the others are counted
                (KITTI MOTS: 0, MOTSChallenge: 1); None takes the numbers in the file names where
                they count upwards, else 1, 2, 3, ...
            chosen: MOTS classes by class name, beside or instead of ``CLASS_NUMBERS``.

        Raises:
            InputError: an unknown class name, 10 (regions to ignore), a number given twice, or
                two videos that would share a file.
        """
        self.sequences = _sequences(videos, first_frame)
        self.classes = _class_numbers(videos, chosen)
        self.categories = videos.categories


def _sequences(videos: VideoList, first_frame: int | None) -> dict[int, MotsSequence]:
    folders = {id_: _folder(names) for id_, names in videos.file_names.items()}
    uses = Counter(folders.values())
    sequences = {}
    for id_, video in videos.videos.items():
        shared = not folders[id_] or uses[folders[id_]] > 1
        name = f"{folders[id_]}-{id_}".lstrip("-") if shared else folders[id_]
        first = 1 if first_frame is None else first_frame
        frames = _numbers(videos.file_names[id_]) if first_frame is None else None
        frames = frames or list(range(first, first + video.length))
        sequences[id_] = MotsSequence(name, video, frames)
    names = Counter(sequence.name for sequence in sequences.values())
    if len(names) < len(sequences):
        name = names.most_common(1)[0][0]
        raise InputError(f"two videos would be sequence '{name}'; rename one of their folders")
    return sequences


def _folder(file_names: list[str]) -> str:
    """The folder of a video's frames, "" where there is none to speak of."""
    name = PurePosixPath(file_names[0]).parent.name if file_names else ""
    return name.lstrip(".")


def _numbers(file_names: list[str]) -> list[int] | None:
    """The numbers in the file names, None where they do not count upwards."""
    stems = [PurePosixPath(name).stem for name in file_names]
    if not all(stem.isdecimal() for stem in stems):
        return None
    numbers = [int(stem) for stem in stems]
    return numbers if all(a < b for a, b in pairwise(numbers)) else None


def _class_numbers(videos: VideoList, chosen: Mapping[str, int]) -> dict[int, int]:
    unknown = set(chosen) - set(videos.categories.values())
    if unknown:
        raise InputError(f"class '{min(unknown)}' is not in the video set")
    known = {**CLASS_NUMBERS, **chosen}
    numbers = {id_: known[name] for id_, name in videos.categories.items() if name in known}
    if IGNORE_CLASS in numbers.values():
        raise InputError("class 10 of MOTS is for regions to ignore; choose another number")
    for number, uses in Counter(numbers.values()).items():
        if uses > 1:
            names = [videos.categories[id_] for id_ in numbers if numbers[id_] == number]
            raise InputError(
                f"classes {' and '.join(names)} are both class {number} of MOTS; give one of them"
                f" another number, e.g. --class {names[-1]}={max(numbers.values()) + 1}"
            )
    return numbers
