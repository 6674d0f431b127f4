"""Dataset formats of other packages, by their entry points in ``queryinst_vis.dataset_formats``."""

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
    """Write a dataset that a package's entry point reads as one YouTube-VIS annotation file.

    The entry point is a function of the source's path that returns, or yields, its
    ``LabelledVideo``s. File names are relative to the folder that ``data.*.images`` will name.

    Args:
        name: of the entry point.
        src: what it reads.
        dst: annotation file to write.
        coco_json: COCO annotation file of the same frames to write as well.

    Returns:
        A line that says what was written.

    Raises:
        InputError: no installed package has that format, there is nothing at ``src``, or what the
            entry point returns is no set of videos.
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
            f"{src}: the format '{name}' must give queryinst_vis.data.convert.LabelledVideo, gives "
            f"{kinds}"
        )
    try:
        video_set = build_video_set(videos, f"{name}, {src.name}")
    except ValueError as error:
        raise InputError(f"{src}: the format '{name}' gives a broken video ({error})") from error
    return write_video_set(dst, video_set, coco_json=coco_json)
