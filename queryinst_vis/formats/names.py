"""Video names, frame numbers, and a checksum of a set of videos."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import PurePosixPath
from typing import Any

from queryinst_vis.errors import InputError


def video_name(video: dict[str, Any]) -> str:
    """Name of an entry of ``videos`` (YouTube-VIS) or ``images`` (COCO).

    A video is named after the folder of its frames, so clips of the same sequence share
    a name. Without a folder, the name of the first file is used, as for images;
    without files ``video ID``.
    """
    path = PurePosixPath(_first_file(video) or f"video {video.get('id')}")
    is_video = "file_names" in video and path.parent.name
    return str(path.parent if is_video else path)


def named_categories(
    categories: Mapping[int, str], names: Collection[str] | None
) -> dict[int, str]:
    """The categories with one of these names, in the same order; None: all."""
    return {id_: name for id_, name in categories.items() if names is None or name in names}


def leaves_folder(file_name: str) -> bool:
    """Whether a file name is absolute, contains ``..``, or is a Windows path."""
    path = PurePosixPath(file_name)
    return path.is_absolute() or ".." in path.parts or "\\" in file_name


def refuse_outside(file_names: Iterable[str], where: str, allow_outside: bool = False) -> None:
    """Reject file names outside the image folder.

    Args:
        file_names: relative to the image folder.
        where: the annotation file, or a video of it, for the message.
        allow_outside: the user trusts the file.

    Raises:
        InputError: a name is absolute or contains ``..``.
    """
    stray = None if allow_outside else next(filter(leaves_folder, file_names), None)
    if stray is not None:
        raise InputError(
            f"{where}: '{stray}' is not a plain path below the image folder; if the file is to be "
            "trusted, allow it with --allow-outside (data.SET.allow_outside=true in configs)"
        )


def sequence_names(videos: Sequence[dict[str, Any]]) -> list[str]:
    """Names of videos for files and folders, such as MOTS sequences.

    The last part of ``video_name``, without leading dots. If several videos share it, the id
    is appended; if the frames are not in a folder, or its name is not printable, the
    name is the id.

    Raises:
        InputError: two videos would have the same name.
    """
    folders = [PurePosixPath(_first_file(v) or "").parent.name.lstrip(".") for v in videos]
    uses = Counter(folders)
    names = []
    for video, folder in zip(videos, folders, strict=True):
        if not folder or not folder.isprintable():
            names.append(str(video["id"]))
        else:
            names.append(folder if uses[folder] == 1 else f"{folder}-{video['id']}")
    for name, times in Counter(names).items():
        if times > 1:
            raise InputError(f"two videos would be sequence '{name}'; rename one of their folders")
    return names


def frame_numbers(file_names: Sequence[str]) -> list[int]:
    """The numbers in the frames' file names if these are increasing, otherwise 1, 2, 3, ..."""
    stems = [PurePosixPath(name).stem for name in file_names]
    if all(re.fullmatch("[0-9]{1,9}", stem) for stem in stems):
        numbers = [int(stem) for stem in stems]
        if all(a < b for a, b in pairwise(numbers)):
            return numbers
    return list(range(1, len(file_names) + 1))


def first_image_ids(lengths: Mapping[int, int]) -> dict[int, int]:
    """Image ids of the first frame of every video, if all frames are numbered from 1.

    Args:
        lengths: number of frames by video id, in file order.
    """
    ends = accumulate(lengths.values(), initial=1)
    return dict(zip(lengths, ends, strict=False))


def videos_checksum(videos: Iterable[dict[str, Any]]) -> str:
    """Checksum of a set of YouTube-VIS videos: twelve hexadecimal digits of a SHA-256.

    It depends on each video's first file name, length and size, but not on ids or order.
    COCO images count as videos of one frame.
    """
    lines = sorted(_line(video) for video in videos)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def nearest_name(word: str, known: Iterable[str]) -> str | None:
    """The known name most similar to a word, ignoring case and white space; or None."""
    plain = {" ".join(name.split()).casefold(): name for name in known}
    close = difflib.get_close_matches(" ".join(word.split()).casefold(), plain, n=1)
    return plain[close[0]] if close else None


def list_names(names: Sequence[str], limit: int = 10) -> str:
    """The first few names, in quotes to make white space visible."""
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return (", ".join(f"'{name}'" for name in names[:limit]) + more) if names else "(none)"


def _line(video: dict[str, Any]) -> str:
    names = video.get("file_names")
    first = _first_file(video) or video_name(video)
    length = video.get("length", len(names) if isinstance(names, list) else None)
    return f"{first} {length} {video.get('width')}x{video.get('height')}"


def _first_file(video: dict[str, Any]) -> str | None:
    """The first of a video's file names, or an image's only one."""
    names = video.get("file_names", [video.get("file_name")])
    first = names[0] if isinstance(names, list) and names else None
    return first if isinstance(first, str) and first else None
