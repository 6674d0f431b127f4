"""Validation of annotation files, with a list of all problems."""

from __future__ import annotations

from pathlib import Path

from queryinst_vis.data.tools.file_names import check_file_names
from queryinst_vis.data.tools.image_checks import check_images
from queryinst_vis.data.tools.mask_checks import check_annotation, check_repetitions
from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet, parse_set
from queryinst_vis.formats.findings import Finding, Report
from queryinst_vis.formats.reading import read_annotations
from queryinst_vis.utils.progress import show_progress


def validate_set(path: str | Path, images: str | Path | None = None) -> list[Finding]:
    """Check a YouTube-VIS or COCO file for all known problems.

    The file is read as a whole; its masks and images video by video.

    Args:
        path: the annotation file; missing annotations (public validation and test sets) are only
            noted.
        images: folder of the images; file names are relative to it. None: images are not checked.

    Returns:
        All findings in file order; ``SEVERITIES`` gives the severity of each kind.

    Raises:
        InputError: the file is not a JSON object, or the image folder does not exist.
    """
    if images is not None and not Path(images).is_dir():
        raise InputError(f"image folder {images}: no such folder")
    found: list[Finding] = []
    report = found.append
    annotation_set = parse_set(read_annotations(path), report)
    videos = list(annotation_set.videos.values())
    check_file_names(videos, report)
    _check_use(annotation_set, report)
    for video in show_progress(videos, "checking"):
        tracks = [
            ({**video.place, "annotation": entry["id"]}, check_annotation(entry, video, report))
            for entry in annotation_set.entries[video.id]
        ]
        check_repetitions(tracks, report)
        if images is not None:
            check_images(video, Path(images), report)
    _check_masks_are_complete(annotation_set, found)
    return found


def _check_masks_are_complete(annotation_set: AnnotationSet, found: list[Finding]) -> None:
    """Warn about boxes without masks in a set that is evaluated by masks."""
    boxes = sum(finding.kind == "boxes only" for finding in found)
    annotations = sum(len(entries) for entries in annotation_set.entries.values())
    if boxes and (annotation_set.kind == "video" or boxes < annotations):
        message = (
            f"{boxes} of {annotations} annotations have a box but no mask: the file can be used "
            "for training, but not to evaluate masks"
        )
        found.append(Finding("masks missing", {}, message))


def _check_use(annotation_set: AnnotationSet, report: Report) -> None:
    """Note classes without annotations, and videos or images without any."""
    if not annotation_set.annotated:
        return
    used = {
        entry["category_id"] for entries in annotation_set.entries.values() for entry in entries
    }
    for id_, name in annotation_set.categories.items():
        if id_ not in used:
            report(Finding("unused class", {"category": id_, "name": name}, "no annotation"))
    for id_, entries in annotation_set.entries.items():
        if not entries:
            place = annotation_set.videos[id_].place
            report(Finding("nothing annotated", place, "has no annotation"))
