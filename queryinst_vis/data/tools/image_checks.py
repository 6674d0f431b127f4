"""Checks of the images on disk against an annotation file."""

from __future__ import annotations

from pathlib import Path

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import Video
from queryinst_vis.formats.findings import Finding, Report
from queryinst_vis.formats.names import leaves_folder
from queryinst_vis.utils.images import inspect_image


def check_images(video: Video, images: Path, report: Report) -> None:
    """Read every frame, and report those that are missing, damaged or of another size.

    Files outside the image folder are not opened.

    Args:
        video: a video or an image.
        images: folder of the images; file names are relative to it.
        report: called with each finding.
    """
    missing, ambiguous, scaled = [], [], []
    for frame, name in enumerate(video.file_names):
        if leaves_folder(name):
            continue
        place = video.frame_place(video.place, frame)
        if not (images / name).is_file():
            missing.append(name)
            continue
        try:
            orientation, bits = inspect_image(images / name)
        except InputError as error:
            report(Finding("unreadable image", place, str(error)))
            continue
        size = video.height, video.width
        if size not in (orientation.upright, orientation.stored):
            message = f"{name} has {orientation}, the file says {size[1]}x{size[0]}"
            report(Finding("image size", place, message))
        elif orientation.is_ambiguous:
            ambiguous.append(f"{name} (orientation {orientation.exif})")
        if bits in (10, 12, 14):
            scaled.append(f"{name} ({bits} bits)")
    if missing:
        message = f"{_count(missing, video)}, e.g. {images / missing[0]}"
        report(Finding("missing image", video.place, message + _shift_hint(video, images)))
    if ambiguous:
        message = (
            f"{len(ambiguous)} of {video.length} files have an EXIF orientation but the same size "
            f"upright as stored, e.g. {ambiguous[0]}: annotations are assumed to refer to the "
            "upright image; otherwise, remove the tag"
        )
        report(Finding("image orientation", video.place, message))
    if scaled:
        message = (
            f"{len(scaled)} of {video.length} files use only some of their 16 bits, "
            f"e.g. {scaled[0]}: the bit range in use in a folder is scaled to 8 bits"
        )
        report(Finding("image bits", video.place, message))


def _count(missing: list[str], video: Video) -> str:
    if video.length == 1:
        return "its image does not exist"
    return f"{len(missing)} of {video.length} frames do not exist"


def _shift_hint(video: Video, images: Path) -> str:
    """The content of the video's folder, if it has about the same number of files."""
    folder = images / Path(video.file_names[0]).parent
    if video.length == 1 or not folder.is_dir():
        return ""
    files = sorted(file.name for file in folder.iterdir() if file.is_file())
    listed = sorted(Path(name).name for name in video.file_names)
    if abs(len(files) - len(listed)) > 1:
        return ""
    return (
        f"; the list has {len(listed)} files, {listed[0]} to {listed[-1]}, the folder "
        f"{len(files)}, {files[0]} to {files[-1]}: is the list one frame off?"
    )
