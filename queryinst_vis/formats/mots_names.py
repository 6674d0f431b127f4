"""What MOTS calls the videos, frames and classes of a YouTube-VIS file.

Sequences and frames have the names that ``convert_to_mots`` gives to the ground truth: a sequence
that of its frames' folder, with the video's id where several share it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from queryinst_vis.data.convert.mots import IGNORE_CLASS
from queryinst_vis.data.convert.to_mots import frame_numbers
from queryinst_vis.errors import InputError
from queryinst_vis.formats.mask_tracks import Video
from queryinst_vis.formats.names import sequence_names
from queryinst_vis.formats.video_list import VideoList

CLASS_NUMBERS = {"car": 1, "pedestrian": 2, "person": 2}
"""The classes of MOTS under their own name and that of COCO and YouTube-VIS."""


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
    files = videos.file_names
    names = sequence_names([{"id": id_, "file_names": files[id_]} for id_ in files])
    name, uses = Counter(names).most_common(1)[0] if names else ("", 1)
    if uses > 1:
        raise InputError(f"two videos would be sequence '{name}'; rename one of their folders")
    sequences = {}
    for (id_, video), name in zip(videos.videos.items(), names, strict=True):
        frames = frame_numbers(files[id_])
        if first_frame is not None:
            frames = list(range(first_frame, first_frame + video.length))
        sequences[id_] = MotsSequence(name, video, frames)
    return sequences


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
