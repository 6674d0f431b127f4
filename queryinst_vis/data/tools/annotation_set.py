"""An annotation file taken apart: its classes, its videos or images, and their annotations."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from queryinst_vis.data.tools.findings import Finding, Place, refuse_errors
from queryinst_vis.formats.annotations import read_annotations
from queryinst_vis.formats.fields import has_area, is_integer
from queryinst_vis.formats.names import video_name

_LAST_NUMBER = re.compile(r"(\d+)\D*$")
_MAX_SIDE = 65_535  # also the longest video: what is beyond is a slip, and would take all memory
_LIST_KEYS = {
    "video": ("segmentations", "bboxes", "areas"),
    "image": ("segmentation", "bbox", "area"),
}


@dataclass(frozen=True)
class Medium:
    """A video; an image counts as a video of one frame.

    Attributes:
        kind: "video" or "image".
        id: the file's id of it.
        name: the folder of a video's frames, an image's file name.
        height, width: of a frame, in pixels.
        length: number of frames.
        file_names: one a frame, relative to the image folder; empty where the file has none.
        entry: what the file holds.
    """

    kind: str
    id: int
    name: str
    height: int
    width: int
    length: int
    file_names: list[str]
    entry: dict[str, Any]

    @property
    def place(self) -> Place:
        """Where in the file it stands."""
        return {self.kind: self.id, "name": self.name}


@dataclass(frozen=True)
class Annotation:
    """One track of a video, or one instance of an image: lists with one item a frame.

    Attributes:
        entry: what the file holds.
        segmentations: masks as the file has them, None where there is none; all None where the
            file gives boxes alone.
        boxes: (x, y, width, height) or None; None where the file gives no boxes at all.
        areas: pixels or None; None where the file gives no areas at all.
    """

    entry: dict[str, Any]
    segmentations: Any
    boxes: Any
    areas: Any


@dataclass(frozen=True)
class AnnotationSet:
    """The usable parts of a YouTube-VIS or COCO file.

    Attributes:
        kind: "video" (YouTube-VIS) or "image" (COCO).
        content: the file's whole content.
        categories: class name by category id, in the file's order.
        media: videos or images by id, in the file's order.
        annotations: by id of the video or image, which all have a list.
        annotated: False for public validation and test files, which hold no annotations.
    """

    kind: str
    content: dict[str, Any]
    categories: dict[int, str]
    media: dict[int, Medium]
    annotations: dict[int, list[Annotation]]
    annotated: bool


def open_set(path: str | Path) -> AnnotationSet:
    """Read a YouTube-VIS or COCO file whose ids and sizes are in order.

    Masks are not looked at.

    Raises:
        InputError: the file cannot be read, or an entry is broken; says which.
    """
    found: list[Finding] = []
    annotation_set = parse_set(read_annotations(path), found)
    refuse_errors(found, path, f"'queryinst-vis data validate {path}' lists every fault")
    return annotation_set


def parse_set(content: dict[str, Any], found: list[Finding]) -> AnnotationSet:
    """Take a file's content apart; what cannot be used is left out and reported in ``found``."""
    kind = "image" if "images" in content and "videos" not in content else "video"
    categories = _parse_categories(content, found)
    entries = _entries_by_id(content, f"{kind}s", found)
    media = {}
    for entry in entries.values():
        medium = _parse_video(entry, found) if kind == "video" else _parse_image(entry, found)
        if medium is not None:
            media[medium.id] = medium
    _check_file_names(list(media.values()), found)
    annotated = content.get("annotations") is not None
    annotations: dict[int, list[Annotation]] = {identity: [] for identity in media}
    if not annotated:
        found.append(
            Finding("no annotations", {}, "it can be run on, not trained on or evaluated with")
        )
    else:
        for entry in _entries_by_id(content, "annotations", found).values():
            if _has_known_ids(entry, kind, entries, categories, found):
                annotations.get(entry[f"{kind}_id"], []).append(_parse_annotation(entry, kind))
    return AnnotationSet(kind, content, categories, media, annotations, annotated)


def _entries_by_id(content: dict[str, Any], name: str, found: list[Finding]) -> dict[int, dict]:
    """The objects of the list ``name`` that have an id of their own."""
    items = content.get(name)
    if not isinstance(items, list):
        is_what = f"is {type(items).__name__}" if name in content else "is missing"
        found.append(Finding("missing list", {}, f"`{name}` must be a list, {is_what}"))
        return {}
    entries: dict[int, dict] = {}
    for number, item in enumerate(items):
        place = {"entry": f"{name}[{number}]"}
        if not isinstance(item, dict):
            message = f"must be an object, is a {type(item).__name__}"
            found.append(Finding("broken entry", place, message))
        elif not is_integer(item.get("id")):
            message = f"`id` must be an integer, is {item.get('id')!r:.40}"
            found.append(Finding("broken entry", place, message))
        elif item["id"] in entries:
            found.append(Finding("duplicate id", place, f"id {item['id']} is used twice"))
        else:
            entries[item["id"]] = item
    return entries


def _parse_categories(content: dict[str, Any], found: list[Finding]) -> dict[int, str]:
    names: dict[int, str] = {}
    for identity, entry in _entries_by_id(content, "categories", found).items():
        name, place = entry.get("name"), {"category": identity}
        if not isinstance(name, str) or not name:
            found.append(Finding("class name", place, f"needs a `name`, has {name!r:.40}"))
        elif name in names.values():
            found.append(Finding("class name", place, f"`name` '{name}' is used twice"))
        else:
            names[identity] = name
    return names


def _parse_video(entry: dict[str, Any], found: list[Finding]) -> Medium | None:
    name = video_name(entry)
    place = {"video": entry["id"], "name": name}
    files = entry.get("file_names")
    length = entry.get("length", len(files) if isinstance(files, list) else None)
    if files is None:
        found.append(Finding("no file names", place, "has no `file_names`, so no images"))
    elif not isinstance(files, list) or not all(isinstance(file, str) and file for file in files):
        found.append(Finding("frame list", place, "`file_names` must list one path a frame"))
        return None
    elif len(files) != length:
        message = f"`length` is {length} but there are {len(files)} `file_names`"
        found.append(Finding("frame list", place, message))
        return None
    if not _has_size(entry, length, place, found):
        return None
    size = entry["height"], entry["width"], length
    return Medium("video", entry["id"], name, *size, files or [], entry)


def _parse_image(entry: dict[str, Any], found: list[Finding]) -> Medium | None:
    file, place = entry.get("file_name"), {"image": entry["id"]}
    files = [file] if isinstance(file, str) and file else []
    if not files:
        found.append(Finding("no file names", place, f"`file_name` is {file!r:.40}"))
    if not _has_size(entry, 1, place, found):
        return None
    size = entry["height"], entry["width"], 1
    return Medium("image", entry["id"], video_name(entry), *size, files, entry)


def _has_size(entry: dict[str, Any], length: Any, place: Place, found: list[Finding]) -> bool:
    sides = {"height": entry.get("height"), "width": entry.get("width"), "length": length}
    wrong = [
        f"`{key}` is {value!r:.40}"
        for key, value in sides.items()
        if not is_integer(value) or not 1 <= value <= _MAX_SIDE
    ]
    if wrong:
        message = f"{', '.join(wrong)}: must be a positive integer, at most {_MAX_SIDE}"
        found.append(Finding("frame size", place, message))
    return not wrong


def _check_file_names(media: list[Medium], found: list[Finding]) -> None:
    """Paths that lead astray, files named twice, frames that are not in order."""
    owners: dict[str, tuple[int, int]] = {}  # video and frame
    for medium in media:
        shared: dict[int, list[str]] = {}
        for frame, file in enumerate(medium.file_names):
            owner, first = owners.setdefault(file, (medium.id, frame))
            if owner != medium.id:
                shared.setdefault(owner, []).append(file)
            elif first != frame:
                message = f"{file} is also frame {first}"
                found.append(Finding("frame list", {**medium.place, "frame": frame}, message))
        for other, files in shared.items():
            message = (
                f"{len(files)} of its {medium.length} files, e.g. {files[0]}, "
                f"belong to {medium.kind} {other} as well"
            )
            found.append(Finding("shared frame", medium.place, message))
        stray = next(filter(leaves_folder, medium.file_names), None)
        if stray is not None:
            message = f"{stray} is not a plain path below the image folder"
            found.append(Finding("file path", medium.place, message))
        _check_frame_numbers(medium, found)


def leaves_folder(file_name: str) -> bool:
    """Whether a file name is absolute, goes up, or is written as on Windows."""
    path = PurePosixPath(file_name)
    return path.is_absolute() or ".." in path.parts or "\\" in file_name


def _check_frame_numbers(medium: Medium, found: list[Finding]) -> None:
    numbers = [_LAST_NUMBER.search(PurePosixPath(file).stem) for file in medium.file_names]
    if not all(numbers):
        return
    values = [int(number[1]) for number in numbers]
    steps = [later - earlier for earlier, later in pairwise(values)]
    for frame, step in enumerate(steps, start=1):
        if step < 0:
            message = f"{medium.file_names[frame]} comes after {medium.file_names[frame - 1]}"
            place = {**medium.place, "frame": frame}
            found.append(Finding("frame order", place, message))
            return
    if len(set(steps)) > 1:
        frame = 1 + next(k for k, step in enumerate(steps) if step != steps[0])
        message = f"the step of frame numbers changes from {steps[0]} to {steps[frame - 1]}"
        found.append(Finding("uneven frames", {**medium.place, "frame": frame}, message))


def _has_known_ids(
    entry: dict[str, Any],
    kind: str,
    media: Container[int],
    categories: Container[int],
    found: list[Finding],
) -> bool:
    place = {"annotation": entry["id"]}
    if entry["id"] == 0:
        message = "the reference code of YouTube-VIS and COCO never matches id 0; count from 1"
        found.append(Finding("id 0", place, message))
    known = True
    for key, ids in ((f"{kind}_id", media), ("category_id", categories)):
        value = entry.get(key)
        if not is_integer(value) or value not in ids:
            found.append(Finding("unknown id", place, f"{key} {value!r:.40} is not in the file"))
            known = False
    return known


def _parse_annotation(entry: dict[str, Any], kind: str) -> Annotation:
    lists = [entry.get(key) for key in _LIST_KEYS[kind]]
    if kind == "image":
        lists = [[value] for value in lists]
    segmentations, boxes, areas = lists
    if segmentations is None and isinstance(boxes, list):
        segmentations = [None] * len(boxes)
    return Annotation(entry, segmentations, boxes, areas)


def boxes_alone(annotation: Annotation) -> dict[int, list[float]]:
    """Boxes by frame, of the frames in which an object has a box with an area and no mask."""
    masks, boxes = annotation.segmentations, annotation.boxes
    if not isinstance(masks, list) or not isinstance(boxes, list) or len(masks) != len(boxes):
        return {}
    return {
        frame: box
        for frame, (mask, box) in enumerate(zip(masks, boxes, strict=True))
        if (mask is None or mask == []) and has_area(box)
    }
