"""Everything that is wrong with an annotation file, in one go."""

from __future__ import annotations

from pathlib import Path

from queryinst_vis.data.tools.annotation_set import AnnotationSet, Medium, parse_set
from queryinst_vis.data.tools.findings import Finding
from queryinst_vis.data.tools.image_checks import check_images
from queryinst_vis.data.tools.mask_checks import check_annotation, check_repetitions
from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotations import read_annotations
from queryinst_vis.utils.progress import show_progress


def validate_set(path: str | Path, images: str | Path | None = None) -> list[Finding]:
    """Look for every known pitfall of a YouTube-VIS or COCO file.

    The file is read as a whole, its masks and images video after video.

    Args:
        path: the annotation file; one without annotations (public validation and test sets)
            is fine, a note says so.
        images: the folder that its file names are relative to; None leaves images alone.

    Returns:
        All findings in the order of the file; ``SEVERITIES`` says how grave each kind is.

    Raises:
        InputError: the file is no JSON object, or the image folder does not exist.
    """
    if images is not None and not Path(images).is_dir():
        raise InputError(f"image folder {images}: no such folder")
    found: list[Finding] = []
    annotation_set = parse_set(read_annotations(path), found)
    _check_use(annotation_set, found)
    media = list(annotation_set.media.values())
    for medium in show_progress(media, "checking"):
        _check_masks(annotation_set, medium, found)
        if images is not None:
            check_images(medium, Path(images), found)
    return found


def _check_use(annotation_set: AnnotationSet, found: list[Finding]) -> None:
    """Note classes without annotations, and videos or images without any."""
    if not annotation_set.annotated:
        return
    used = {
        annotation.entry["category_id"]
        for entries in annotation_set.annotations.values()
        for annotation in entries
    }
    for identity, name in annotation_set.categories.items():
        if identity not in used:
            found.append(
                Finding("unused class", {"category": identity, "name": name}, "no annotation")
            )
    for identity, entries in annotation_set.annotations.items():
        if not entries:
            place = annotation_set.media[identity].place
            found.append(Finding("nothing annotated", place, "has no annotation"))


def _check_masks(annotation_set: AnnotationSet, medium: Medium, found: list[Finding]) -> None:
    tracks = []
    for annotation in annotation_set.annotations[medium.id]:
        place = {**medium.place, "annotation": annotation.entry["id"]}
        tracks.append((place, check_annotation(annotation, medium, found)))
    check_repetitions(tracks, found)
