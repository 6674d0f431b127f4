"""Which videos a number was measured on: names and a checksum that two people can compare."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any


def video_name(video: dict[str, Any]) -> str:
    """Name of a YouTube-VIS video entry: the folder of its frames.

    Clips that were cut from one sequence share its folder, and so its name. Without a folder it
    is the first file's name, which is also the name of a COCO image; without files ``video ID``.
    """
    path = PurePosixPath(_first_file(video) or f"video {video.get('id')}")
    is_video = "file_names" in video and path.parent.name
    return str(path.parent if is_video else path)


def videos_checksum(videos: Iterable[dict[str, Any]]) -> str:
    """Twelve hexadecimal digits (of a SHA-256) that stand for a set of YouTube-VIS videos.

    They depend on each video's first file name, length and size, not on ids nor on the order.
    COCO images count as videos of one frame.
    """
    lines = sorted(_line(video) for video in videos)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


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
