"""Dataset formats of other packages: entry points in ``queryinst_vis.dataset_formats``."""

from __future__ import annotations

from pathlib import Path

from queryinst_vis.data.convert.builder import (
    LabelledVideo,
    build_video_set,
    check_two_names,
    write_video_set,
)
from queryinst_vis.errors import InputError
from queryinst_vis.utils.plugins import DATASET_FORMATS, find_entry
from queryinst_vis.utils.progress import show_progress


def convert_installed(
    name: str, src: str | Path, dst: str | Path, coco_json: str | Path | None = None
) -> str:
    """Convert a data set with a package's entry point to one YouTube-VIS annotation file.

    The entry point is a function that takes the source path and returns or yields
    ``LabelledVideo``s. File names are relative to the future ``data.*.images``.

    Args:
        name: of the entry point.
        src: the source.
        dst: annotation file to write.
        coco_json: also write a COCO annotation file of the frames.

    Returns:
        One-line summary.

    Raises:
        InputError: no installed package has the format, ``src`` does not exist, or the
            entry point does not return videos.
    """
    check_two_names(dst, coco_json)
    read = find_entry(name, DATASET_FORMATS, "dataset format: no installed package has", {})
    src = Path(src)
    if not src.exists():
        raise InputError(f"{src}: no such file or folder")
    videos = list(show_progress(read(src), f"reading {name}"))
    if not videos or not all(isinstance(video, LabelledVideo) for video in videos):
        kinds = ", ".join({type(video).__name__ for video in videos}) or "nothing"
        raise InputError(
            f"{src}: the format '{name}' must return queryinst_vis.data.convert.LabelledVideo, got "
            f"{kinds}"
        )
    try:
        video_set = build_video_set(videos, f"{name}, {src.name}")
    except ValueError as error:
        raise InputError(
            f"{src}: the format '{name}' returns an invalid video ({error})"
        ) from error
    return write_video_set(dst, video_set, coco_json=coco_json)
