"""Annotation files from others: a part of one, other classes, several in one.

All functions return the content of a new file and leave what they are given as it is. Classes are
told by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet, Video
from queryinst_vis.formats.annotations import parse_annotation
from queryinst_vis.formats.findings import ignore
from queryinst_vis.formats.names import list_names, nearest_name


def keep_videos(annotation_set: AnnotationSet, kept: Collection[int]) -> dict[str, Any]:
    """The file with some of its videos or images and what is annotated in them; ids stay.

    ``info.filtered`` names the ids that were left out, so that evaluation knows their results.
    """
    kind, content = annotation_set.kind, annotation_set.content
    part = {**content, f"{kind}s": [e for e in content[f"{kind}s"] if e["id"] in kept]}
    record_filtered(part, annotation_set, f"{kind}s", set(annotation_set.videos) - set(kept))
    if annotation_set.annotated:
        entries = content["annotations"]
        part["annotations"] = [entry for entry in entries if entry[f"{kind}_id"] in kept]
    return part


def record_filtered(
    part: dict[str, Any], whole: AnnotationSet, key: str, removed: Collection[int]
) -> None:
    """Note in a part's ``info.filtered`` ids that it lacks, beside those that the whole lacked."""
    info = part.get("info")
    info = info if isinstance(info, dict) else {}
    noted = info.get("filtered")
    noted = noted if isinstance(noted, dict) else {}
    ids = sorted({*removed, *whole.filtered.get(key, ())})
    if ids:
        part["info"] = {**info, "filtered": {**noted, key: ids}}


def filter_set(
    annotation_set: AnnotationSet,
    *,
    classes: Sequence[str] | None = None,
    min_length: int = 0,
    videos: Sequence[str] | None = None,
    drop_empty: bool = False,
) -> dict[str, Any]:
    """A part of a file; all ids stay as they are, so that results still belong to it.

    Args:
        annotation_set: to take a part of.
        classes: names of the classes to keep; None keeps all.
        min_length: keep tracks that are visible in at least this many frames.
        videos: names or ids of the videos or images to keep; None keeps all. A name that several
            clips share keeps all of them.
        drop_empty: also leave out videos or images in which nothing is left.

    Raises:
        InputError: a class or a video that the file lacks, or nothing is left.
    """
    names = set(annotation_set.categories.values() if classes is None else classes)
    _check_classes(names, annotation_set)
    content = annotation_set.content
    kept_ids = {identity for identity, name in annotation_set.categories.items() if name in names}
    kept_annotations = {
        entry["id"]
        for id_, entries in annotation_set.entries.items()
        for entry in entries
        if entry["category_id"] in kept_ids
        and (not min_length or _visible_frames(entry, annotation_set.videos[id_]) >= min_length)
    }
    kept_videos = (
        set(annotation_set.videos) if videos is None else find_videos(annotation_set, videos)
    )
    if drop_empty:
        kept_videos = {
            identity
            for identity in kept_videos
            if any(entry["id"] in kept_annotations for entry in annotation_set.entries[identity])
        }
    if not kept_videos:
        raise InputError("nothing is left: no video has a matching annotation")
    part = keep_videos(annotation_set, kept_videos)
    part["categories"] = [e for e in content["categories"] if e["id"] in kept_ids]
    record_filtered(part, annotation_set, "categories", set(annotation_set.categories) - kept_ids)
    if annotation_set.annotated:
        part["annotations"] = [e for e in part["annotations"] if e["id"] in kept_annotations]
    return part


def _visible_frames(entry: dict[str, Any], video: Video) -> int:
    annotation = parse_annotation(entry, video, ignore)
    return annotation.visible_frames() if annotation else 0


def find_videos(annotation_set: AnnotationSet, wanted: Sequence[str]) -> set[int]:
    """Ids of the videos or images that have one of the names or ids ``wanted``.

    ``*``, ``?``, ``[abc]`` and ``[!abc]`` are wildcards, as for files in a shell.

    Raises:
        InputError: there is none such.
    """
    found: set[int] = set()
    for word in wanted:
        matching = {
            identity
            for identity, video in annotation_set.videos.items()
            if any(word == own or fnmatchcase(own, word) for own in (video.name, str(identity)))
        }
        if not matching:
            names = [video.name for video in annotation_set.videos.values()]
            raise InputError(
                f"no {annotation_set.kind} has the name or id '{word}'{_suggest(word, names)}"
            )
        found |= matching
    return found


def remap_set(
    annotation_set: AnnotationSet, mapping: Mapping[str, str], *, drop: bool = False
) -> dict[str, Any]:
    """Rename classes, or make one of several.

    Videos and annotations keep their ids. A new name takes over the category id of the class
    that had it already, or else of the first class of the file that is renamed to it.

    Args:
        annotation_set: whose classes to rename.
        mapping: new name by old name.
        drop: leave out classes that ``mapping`` names neither as old nor as new, and their
            annotations.

    Raises:
        InputError: a class that the file lacks.
    """
    _check_classes(mapping, annotation_set)
    content = annotation_set.content
    new_names = {
        identity: mapping.get(name, name)
        for identity, name in annotation_set.categories.items()
        if not drop or name in mapping or name in mapping.values()
    }
    owners: dict[str, int] = {}  # category id of each new name
    for identity, name in new_names.items():
        if annotation_set.categories[identity] == name or name not in owners:
            owners[name] = identity
    changed = {
        **content,
        "categories": [
            {**entry, "name": new_names[entry["id"]]}
            for entry in content["categories"]
            if entry["id"] in owners.values()
        ],
    }
    if annotation_set.annotated:
        changed["annotations"] = [
            {**entry, "category_id": owners[new_names[entry["category_id"]]]}
            for entry in content["annotations"]
            if entry["category_id"] in new_names
        ]
    return changed


def merge_sets(
    annotation_sets: Sequence[AnnotationSet], prefixes: Sequence[str] | None = None
) -> dict[str, Any]:
    """Several files in one, classes of the same name in one class; ids are counted anew from 1.

    Args:
        annotation_sets: at least one, all of videos or all of images, all with annotations.
        prefixes: one for each file, put before its file names: the path to its image folder
            from the folder that the merged file will be used with; None for equal folders.

    Raises:
        InputError: files of different kinds or without annotations, another number of
            prefixes, or frames that stand in two files.
    """
    prefixes = [""] * len(annotation_sets) if prefixes is None else prefixes
    if len(prefixes) != len(annotation_sets):
        raise InputError(
            f"{len(prefixes)} prefixes for {len(annotation_sets)} files: give one for each"
        )
    kind = annotation_sets[0].kind
    if any(one.kind != kind for one in annotation_sets):
        raise InputError("cannot merge a file of videos with one of images")
    categories: dict[str, dict[str, Any]] = {}
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    frames: set[str] = set()
    for number, (one, prefix) in enumerate(zip(annotation_sets, prefixes, strict=True), start=1):
        if not one.annotated:
            raise InputError(
                f"file {number} has no annotations: in the merged file its {kind}s would "
                "seem to show nothing"
            )
        for entry in one.content["categories"]:
            categories.setdefault(entry["name"], {**entry, "id": len(categories) + 1})
        own = {file for video in one.videos.values() for file in _prefixed(video, prefix)}
        if not frames.isdisjoint(own):
            raise InputError(
                f"file {number} has frames of an earlier file, e.g. {min(frames & own)}; "
                "if they are different images, distinguish the folders with --prefix"
            )
        frames |= own
        new_ids = {identity: len(videos) + k for k, identity in enumerate(one.videos, start=1)}
        videos += [
            _moved(entry, one.videos[entry["id"]], new_ids[entry["id"]], prefix)
            for entry in one.content[f"{kind}s"]
        ]
        for entry in one.content["annotations"]:
            ids = {
                "id": len(annotations) + 1,
                f"{kind}_id": new_ids[entry[f"{kind}_id"]],
                "category_id": categories[one.categories[entry["category_id"]]]["id"],
            }
            annotations.append({**entry, **ids})
    return {
        "info": {"description": f"{len(annotation_sets)} files merged"},
        "licenses": _common([one.content.get("licenses", []) for one in annotation_sets]),
        f"{kind}s": videos,
        "annotations": annotations,
        "categories": list(categories.values()),
    }


def _common(lists: Sequence[list]) -> list:
    """The list if all are equal, else an empty one."""
    return lists[0] if all(one == lists[0] for one in lists) else []


def _prefixed(video: Video, prefix: str) -> list[str]:
    return [f"{prefix}{file}" for file in video.file_names]


def _moved(entry: dict[str, Any], video: Video, identity: int, prefix: str) -> dict[str, Any]:
    """The entry of a video or an image with another id and longer file names."""
    entry = {**entry, "id": identity}
    if video.kind == "video" and video.file_names:
        entry["file_names"] = _prefixed(video, prefix)
    elif video.file_names:
        entry["file_name"] = _prefixed(video, prefix)[0]
    return entry


def _check_classes(names: Collection[str], annotation_set: AnnotationSet) -> None:
    known = list(annotation_set.categories.values())
    for name in names:
        if name not in known:
            raise InputError(f"no class has the name '{name}'{_suggest(name, known)}")


def _suggest(word: str, known: Sequence[str]) -> str:
    close = nearest_name(word, known)
    return f"; did you mean '{close}'?" if close else f"; there are {list_names(known)}"
