"""Opening several videos, with unique names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import natural_key
from queryinst_vis.video.decoders import PYAV
from queryinst_vis.video.frames import ALL_FRAMES, Selection
from queryinst_vis.video.image_sequence import is_image
from queryinst_vis.video.source import Source, open_source

VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".mov",
        ".m4v",
        ".mkv",
        ".webm",
        ".avi",
        ".ts",
        ".mts",
        ".m2ts",
        ".mpg",
        ".mpeg",
        ".flv",
        ".wmv",
        ".ogv",
        ".3gp",
    ]
)
"""Suffixes of video files in a folder, in lower case."""

_DEEPEST = 20  # maximum number of folders in a name


def open_sources(
    sources: Sequence[str | Path],
    selection: Selection = ALL_FRAMES,
    *,
    live: bool = False,
    decoder: str = PYAV,
    fps: float | None = None,
    strict: bool = False,
    allow_partial: bool = False,
) -> list[Source]:
    """Open the videos given on a command line, with unique names.

    Several images (a glob expanded by the shell) are the frames of one video. A folder or a
    glob of videos stands for all of them. Videos with the same name are prefixed with their folder
    (``a_clip``, ``b_clip``) or suffixed with their extension (``clip_mp4``, ``clip_mov``).

    Args:
        sources: as for ``open_source``.
        selection: frames selected in each.
        live, decoder, fps, strict, allow_partial: as for ``open_source``.

    Raises:
        InputError: as for ``open_source``; a video is given twice, or live sources and recordings
            are mixed.
    """
    if len(sources) > 1 and all(is_image(word) and Path(word).is_file() for word in sources):
        files = sorted(map(Path, sources), key=natural_key)
        if live:
            raise InputError(f"{files[0]}: --live: images are not a live source")
        return [open_source(files, selection, decoder=decoder, fps=fps, strict=strict)]
    words = [str(word) for source in sources for word in _videos_in(str(source))]
    opened = []
    for word in words:
        source = open_source(
            word,
            selection,
            live=live,
            decoder=decoder,
            fps=fps,
            strict=strict,
            allow_partial=allow_partial,
        )
        opened.append(source)
    cameras = [source.name for source in opened if source.is_live]
    if cameras and len(cameras) < len(opened):
        raise InputError(
            f"{cameras[0]} is live, but other sources are recordings; track them separately"
        )
    return tell_apart(opened)


def tell_apart(sources: list[Source]) -> list[Source]:
    """Make the names of sources unique, using their folders or suffixes.

    Raises:
        InputError: a source occurs twice.
    """
    names = distinct_names([source.name for source in sources], [each.origin for each in sources])
    for source, name in zip(sources, names, strict=True):
        source.name = name
    return sources


def distinct_names(names: Sequence[str], origins: Sequence[str]) -> list[str]:
    """Unique names, ignoring case.

    Equal names are prefixed with as many folders as necessary (``a_clip``, ``b_clip``), or
    suffixed with their extensions (``clip_mp4``, ``clip_mov``), otherwise numbered.

    Args:
        names: of sources.
        origins: their paths or URLs.

    Raises:
        InputError: a source occurs twice.
    """
    for origin, count in Counter(origins).items():
        if count > 1:
            raise InputError(f"{origin} is given {count} times")
    distinct = list(names)
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name.casefold(), []).append(index)
    for group in groups.values():
        if len(group) > 1:
            longer = _longer_names([(names[index], origins[index]) for index in group])
            for index, name in zip(group, longer, strict=True):
                distinct[index] = name
    if len({name.casefold() for name in distinct}) < len(distinct):
        return [f"{number}_{name}" for number, name in enumerate(distinct, 1)]
    return distinct


def _longer_names(sources: list[tuple[str, str]]) -> list[str]:
    """Longer names of sources, given by name and origin, which differ if their paths do."""
    names: list[str] = []
    for depth in range(_DEEPEST):
        for has_suffix in (False, True):
            names = []
            for name, origin in sources:
                path = Path(origin)
                above = path.parts[bool(path.anchor) : -1]
                folders = above[max(len(above) - depth, 0) :]
                suffix = path.suffix.replace(".", "_") if has_suffix else ""
                names.append("_".join([*folders, name]) + suffix)
            if len({each.casefold() for each in names}) == len(names):
                return names
    return names


def _videos_in(source: str) -> list[str | Path]:
    """The videos of a folder without images, or of a glob; otherwise the source itself."""
    if "://" in source or (Path(source).exists() and not Path(source).is_dir()):
        return [source]
    if Path(source).is_dir():
        found = list(Path(source).iterdir())
    elif has_magic(source):
        found = [Path(path) for path in glob(source, recursive=True)]
    else:
        return [source]
    videos = sorted((p for p in found if p.suffix.lower() in VIDEO_SUFFIXES), key=natural_key)
    return [source] if any(map(is_image, found)) or not videos else list(videos)
