"""Annotation files as a whole: YouTube-VIS sets of videos and COCO sets of images."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeGuard

from queryinst_vis.errors import InputError
from queryinst_vis.formats.fields import shortened
from queryinst_vis.formats.findings import Finding, Place, Report, refuse_faults
from queryinst_vis.formats.names import video_name
from queryinst_vis.formats.reading import read_annotations
from queryinst_vis.utils.numbers import is_integer

Kind = Literal["video", "image"]

_MAX_SIDE = 65_535  # pixels; larger values are mistakes, and would exhaust the memory
_MAX_PIXELS = 2**28  # per frame; converters allocate maps of this size
_MAX_LENGTH = 1_000_000  # frames: nine hours


@dataclass(frozen=True)
class Video:
    """A video of an annotation file; an image counts as a video of one frame.

    Attributes:
        kind: "video" or "image".
        id: id in the file.
        name: ``names.video_name``; not unique.
        height, width: of a frame, in pixels.
        length: number of frames.
        file_names: one per frame, relative to the image folder; may be empty.
    """

    kind: Kind
    id: int
    name: str
    height: int
    width: int
    length: int
    file_names: list[str]

    @cached_property
    def place(self) -> Place:
        """Its place in the file."""
        return _place(self.kind, self.id, self.name if self.file_names else "")

    def frame_place(self, place: Place, frame: int) -> Place:
        """``place`` with the frame; not needed for an image."""
        return place if self.kind == "image" else {**place, "frame": frame}


def _place(kind: Kind, id_: int, name: str) -> Place:
    return {kind: id_, "name": name} if name else {kind: id_}


@dataclass(frozen=True)
class AnnotationSet:
    """The valid parts of a YouTube-VIS or COCO file.

    Attributes:
        where: the file, for error messages.
        kind: "video" (YouTube-VIS) or "image" (COCO).
        content: the whole content of the file.
        categories: class name by category id, in file order.
        videos: videos or images by id, in file order.
        entries: annotations with valid ids, by id of the video or image, each of which has
            a list; parsed further by ``annotations.parse_annotation``.
        annotated: False for public validation and test files without annotations.
    """

    where: str
    kind: Kind
    content: dict[str, Any]
    categories: dict[int, str]
    videos: dict[int, Video]
    entries: dict[int, list[dict[str, Any]]]
    annotated: bool

    @property
    def filtered(self) -> dict[str, frozenset[int]]:
        """Ids removed by ``data filter``, by "categories", "videos" and "images"."""
        info = self.content.get("info")
        noted = info.get("filtered") if isinstance(info, dict) else None
        if not isinstance(noted, dict):
            return {}
        return {
            key: frozenset(filter(is_integer, ids))
            for key, ids in noted.items()
            if isinstance(ids, list)
        }


def open_set(path: str | Path) -> AnnotationSet:
    """Read a YouTube-VIS or COCO file, and validate its ids and sizes.

    Annotations are not parsed further.

    Raises:
        InputError: the file cannot be read, or an entry is invalid.
    """
    remedy = f"'queryinst-vis data validate {path}' lists all findings"
    report = refuse_faults(str(path), remedy=remedy)
    return parse_set(read_annotations(path), report, str(path))


def parse_set(
    content: dict[str, Any], report: Report, where: str = "", kind: Kind | None = None
) -> AnnotationSet:
    """Parse the content of a file; invalid parts are left out and reported.

    Args:
        content: of the file.
        report: receives the findings.
        where: the file, for later error messages.
        kind: kind of the set; None: images if there are no videos.
    """
    if kind is None:
        kind = "image" if "images" in content and "videos" not in content else "video"
    categories = parse_categories(content, report)
    known = _entries_by_id(content, f"{kind}s", report)
    parsed = (parse_video(entry, kind, report) for entry in known.values())
    videos = {video.id: video for video in parsed if video is not None}
    annotated = content.get("annotations") is not None
    entries: dict[int, list[dict[str, Any]]] = {id_: [] for id_ in videos}
    if annotated:
        for entry in _entries_by_id(content, "annotations", report).values():
            if _has_known_ids(entry, kind, known, categories, report):
                entries.get(entry[f"{kind}_id"], []).append(entry)
    else:
        message = (
            "has no `annotations`, like public validation and test files: it can be used for "
            "inference, but not for training or evaluation"
        )
        report(Finding("no annotations", {}, message))
    return AnnotationSet(where, kind, content, categories, videos, entries, annotated)


def _entries_by_id(content: dict[str, Any], name: str, report: Report) -> dict[int, dict[str, Any]]:
    """The objects of the list ``name`` with a unique id."""
    items = content.get(name)
    if not isinstance(items, list):
        found = f"is a {type(items).__name__}" if name in content else "is missing"
        report(Finding("missing list", {}, f"`{name}` must be a list, {found}"))
        return {}
    entries: dict[int, dict[str, Any]] = {}
    for number, item in enumerate(items):
        place = {"entry": f"{name}[{number}]"}
        fault = _fault_of_id(item)
        if fault:
            report(Finding("broken entry", place, fault))
        elif item["id"] in entries:
            report(Finding("duplicate id", place, f"id {item['id']} is used twice"))
        else:
            entries[item["id"]] = item
    return entries


def _fault_of_id(item: object) -> str:
    """Why an entry cannot be identified; empty if it can."""
    if not isinstance(item, dict):
        return f"must be an object, is a {type(item).__name__}"
    if "id" not in item:
        return "has no `id`"
    if not is_integer(item["id"]):
        return f"`id` must be an integer, is {shortened(item['id'])}"
    return ""


def parse_categories(content: dict[str, Any], report: Report) -> dict[int, str]:
    """Class name by category id; those without a unique id or name are reported."""
    entries = _entries_by_id(content, "categories", report)
    if content.get("categories") == []:
        report(Finding("missing list", {}, "`categories` is empty"))
    names: dict[int, str] = {}
    taken: set[str] = set()
    for id_, entry in entries.items():
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            message = f"needs a `name`, has {shortened(name)}"
        elif name in taken:
            message = f"`name` '{name}' is used twice"
        else:
            names[id_] = name
            taken.add(name)
            continue
        report(Finding("class name", {"category": id_}, message))
    return names


def parse_video(entry: dict[str, Any], kind: Kind, report: Report) -> Video | None:
    """An entry of ``videos`` or ``images``, which has an ``id``; None if it is invalid."""
    name = video_name(entry)
    files, length = _file_names(entry, kind)
    place = _place(kind, entry["id"], name if files else "")
    if files is None:
        report(Finding("frame list", place, "`file_names` must list one path per frame"))
        return None
    if not files:
        key = "file_name" if kind == "image" else "file_names"
        report(Finding("no file names", place, f"has no `{key}`, so no images"))
    elif len(files) != length:
        message = f"`length` is {shortened(length)} but there are {len(files)} `file_names`"
        report(Finding("frame list", place, message))
        return None
    sides = {"height": entry.get("height"), "width": entry.get("width"), "length": length}
    for key, value in sides.items():
        largest = _MAX_LENGTH if key == "length" else _MAX_SIDE
        if not is_integer(value) or not 1 <= value <= largest:
            message = (
                f"`{key}` is {shortened(value)}: must be a positive integer, at most {largest}"
            )
            report(Finding("frame size", place, message))
            return None
    if sides["height"] * sides["width"] > _MAX_PIXELS:
        message = f"{sides['width']}x{sides['height']} pixels: a frame has at most {_MAX_PIXELS}"
        report(Finding("frame size", place, message))
        return None
    return Video(kind, entry["id"], name, entry["height"], entry["width"], length, files)


def _file_names(entry: dict[str, Any], kind: Kind) -> tuple[list[str] | None, Any]:
    """File names of an entry (may be empty; None if invalid), and its length."""
    if kind == "image":
        paths = [entry.get("file_name")]
        return (paths if _are_paths(paths) else []), 1
    files = entry.get("file_names")
    if files is None:
        return [], entry.get("length")
    if not isinstance(files, list) or not files or not _are_paths(files):
        return None, entry.get("length")
    return files, entry.get("length", len(files))


def _are_paths(values: list[Any]) -> TypeGuard[list[str]]:
    """Whether all are nonempty strings that are valid file names."""
    if not all(isinstance(value, str) and value for value in values):
        return False
    try:
        "".join(values).encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can contain
        return False
    return True


def _has_known_ids(
    entry: dict[str, Any],
    kind: Kind,
    videos: Container[int],
    categories: Container[int],
    report: Report,
) -> bool:
    place = {"annotation": entry["id"]}
    if entry["id"] == 0:
        message = "the reference code of YouTube-VIS and COCO never matches id 0; count from 1"
        report(Finding("id 0", place, message))
    return check_ids(
        entry, {f"{kind}_id": videos, "category_id": categories}, "in the file", place, report
    )


def check_ids(
    entry: dict[str, Any],
    tables: Mapping[str, Container[int]],
    whose: str,
    place: Place,
    report: Report,
) -> bool:
    """Whether an entry's ids are known; others are reported.

    Args:
        entry: an annotation or a result.
        tables: known ids by key of the entry, such as ``video_id``.
        whose: "in the file", or where else the ids must be.
        place: of the entry.
        report: receives the findings.
    """
    known = True
    for key, ids in tables.items():
        value = entry.get(key)
        if not is_integer(value) or value not in ids:
            report(Finding("unknown id", place, f"{key} {shortened(value)} is not {whose}"))
            known = False
    return known


def open_ground_truth(
    gt: str | Path | dict[str, Any], kind: Kind, use: str, heavy: str | None = None
) -> AnnotationSet:
    """Ground truth of ``kind`` for one of ``findings.REFUSED``'s uses.

    Args:
        gt: path of the JSON file, or its content.
        kind: the required kind.
        use: the use of the file.
        heavy: as for ``reading.read_annotations``.

    Raises:
        InputError: the file is unreadable, of another kind, without annotations, or
            inconsistent.
    """
    where = f"ground truth {gt}" if isinstance(gt, str | Path) else "ground truth"
    content = read_annotations(gt, "ground truth", heavy)
    other = {"image": "video", "video": "image"}[kind]
    if f"{kind}s" not in content and f"{other}s" in content:
        raise InputError(f"{where}: describes {other}s, not {kind}s; evaluate it with eval-{other}")
    return parse_set(content, refuse_faults(where, use), where, kind)
