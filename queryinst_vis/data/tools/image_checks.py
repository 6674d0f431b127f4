"""Whether the images on disk are those that an annotation file speaks of."""

from __future__ import annotations

from pathlib import Path

from queryinst_vis.data.tools.annotation_set import Medium, leaves_folder
from queryinst_vis.data.tools.findings import Finding
from queryinst_vis.errors import InputError
from queryinst_vis.utils.images import read_image


def check_images(medium: Medium, images: Path, found: list[Finding]) -> None:
    """Read every frame; those that are missing, damaged or of another size go to ``found``.

    Files that lie outside of the image folder are not opened.

    Args:
        medium: a video or an image.
        images: the folder that its file names are relative to.
        found: where findings go.
    """
    missing = []
    for frame, name in enumerate(medium.file_names):
        if leaves_folder(name):
            continue
        place = medium.place if medium.kind == "image" else {**medium.place, "frame": frame}
        if not (images / name).is_file():
            missing.append(name)
            continue
        try:
            height, width = read_image(images / name).shape[:2]
        except InputError as error:
            found.append(Finding("unreadable image", place, str(error)))
            continue
        if (height, width) != (medium.height, medium.width):
            message = (
                f"{name} has {width}x{height} pixels, the file says {medium.width}x{medium.height}"
            )
            found.append(Finding("image size", place, message))
    if missing:
        message = f"{_count(missing, medium)}, e.g. {images / missing[0]}"
        found.append(Finding("missing image", medium.place, message + _shift_hint(medium, images)))


def _count(missing: list[str], medium: Medium) -> str:
    if medium.length == 1:
        return "its image is not there"
    return f"{len(missing)} of {medium.length} frames are not there"


def _shift_hint(medium: Medium, images: Path) -> str:
    """Says what a video's folder holds instead, where that is about as many files."""
    folder = images / Path(medium.file_names[0]).parent
    if medium.length == 1 or not folder.is_dir():
        return ""
    files = sorted(file.name for file in folder.iterdir() if file.is_file())
    listed = sorted(Path(name).name for name in medium.file_names)
    if abs(len(files) - len(listed)) > 1:
        return ""
    return (
        f"; the list has {len(listed)} files, {listed[0]} to {listed[-1]}, the folder "
        f"{len(files)}, {files[0]} to {files[-1]}: is the list one frame off?"
    )
