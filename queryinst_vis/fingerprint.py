"""Which videos a number was measured on: names and a checksum that two people can compare."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any


def video_name(video: dict[str, Any]) -> str:
    """Name of a YouTube-VIS video entry: the folder of its frames, or ``video ID`` without one.

    Clips that were cut from one sequence share its folder, and so its name.
    """
    names = video.get("file_names")
    first = names[0] if isinstance(names, list) and names else ""
    folder = str(PurePosixPath(first).parent) if isinstance(first, str) and first else "."
    return folder if folder != "." else f"video {video.get('id')}"


def videos_checksum(videos: Iterable[dict[str, Any]]) -> str:
    """Twelve hexadecimal digits (of a SHA-256) that stand for a set of YouTube-VIS videos.

    They depend on each video's first file name, length and size, not on ids nor on the order.
    """
    lines = sorted(_line(video) for video in videos)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _line(video: dict[str, Any]) -> str:
    names = video.get("file_names")
    first = names[0] if isinstance(names, list) and names else video_name(video)
    length = video.get("length", len(names) if isinstance(names, list) else None)
    return f"{first} {length} {video.get('width')}x{video.get('height')}"
