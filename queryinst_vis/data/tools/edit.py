"""Editing annotation files: filter, rename classes, merge.

All functions return the content of a new file and do not modify their arguments. Classes are
identified by name.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet, Video
from queryinst_vis.formats.annotations import parse_annotation
from queryinst_vis.formats.findings import ignore
from queryinst_vis.formats.names import list_names, nearest_name


def keep_videos(annotation_set: AnnotationSet, kept: Collection[int]) -> dict[str, Any]:
    """Keep some videos or images with their annotations; ids do not change.

    ``info.filtered`` lists the removed ids, so that evaluation can tell their results from errors.
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
    """Record the removed ids in ``info.filtered``, in addition to those removed before."""
    info = part.get("info")
    info = info if isinstance(info, dict) else {}
    filtered = info.get("filtered")
    filtered = filtered if isinstance(filtered, dict) else {}
    ids = sorted({*removed, *whole.filtered.get(key, ())})
    if ids:
        part["info"] = {**info, "filtered": {**filtered, key: ids}}


def filter_set(
    annotation_set: AnnotationSet,
    *,
    classes: Sequence[str] | None = None,
    min_length: int = 0,
    videos: Sequence[str] | None = None,
    drop_empty: bool = False,
) -> dict[str, Any]:
    """Keep a part of a file; ids do not change, so that existing results remain valid.

    Args:
        annotation_set: the file.
        classes: names of the classes to keep; None: all.
        min_length: minimum length of tracks in visible frames.
        videos: names or ids of the videos or images to keep, with wildcards as for
            ``find_videos``; None: all. A name shared by several clips keeps all of them.
        drop_empty: remove videos or images without remaining annotations.

    Raises:
        InputError: an unknown class or video, or nothing is left.
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


def find_videos(annotation_set: AnnotationSet, patterns: Sequence[str]) -> set[int]:
    """Ids of the videos or images whose name or id matches one of the patterns.

    ``*``, ``?``, ``[abc]`` and ``[!abc]`` are wildcards, as in a shell.

    Raises:
        InputError: a pattern without a match.
    """
    found: set[int] = set()
    for word in patterns:
        matching = {
            identity
            for identity, video in annotation_set.videos.items()
            if any(word == name or fnmatchcase(name, word) for name in (video.name, str(identity)))
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
    """Rename or merge classes.

    Videos and annotations keep their ids. A new name gets the category id of the existing class
    with this name, otherwise of the first class in the file that is renamed to it.

    Args:
        annotation_set: the file.
        mapping: new name by old name.
        drop: remove classes that are neither an old nor a new name in ``mapping``, and their
            annotations.

    Raises:
        InputError: an unknown class.
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
    """Merge files; classes are matched by name, and all ids are renumbered from 1.

    Images that are frames of videos (``video_id``, ``track_id``) keep to the frames of theirs.

    Args:
        annotation_sets: at least one, all of videos or all of images, all with annotations.
        prefixes: prefix of the file names of each file, i.e. the path of its image folder relative
            to that of the merged file; None: the folder is the same.

    Raises:
        InputError: files of different kinds or without annotations, a wrong number of prefixes, or
            frames that occur in two files.
    """
    prefixes = [""] * len(annotation_sets) if prefixes is None else prefixes
    _check_mergeable(annotation_sets, prefixes)
    kind = annotation_sets[0].kind
    categories: dict[str, dict[str, Any]] = {}
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    sequences = _SequenceNumbers()
    for one, prefix in zip(annotation_sets, prefixes, strict=True):
        for entry in one.content["categories"]:
            categories.setdefault(entry["name"], {**entry, "id": len(categories) + 1})
        new_ids = {identity: len(videos) + k for k, identity in enumerate(one.videos, start=1)}
        entries = [
            _renumbered(entry, one.videos[entry["id"]], new_ids[entry["id"]], prefix)
            for entry in one.content[f"{kind}s"]
        ]
        added = len(annotations)
        for entry in one.content["annotations"]:
            ids = {
                "id": len(annotations) + 1,
                f"{kind}_id": new_ids[entry[f"{kind}_id"]],
                "category_id": categories[one.categories[entry["category_id"]]]["id"],
            }
            annotations.append({**entry, **ids})
        if kind == "image":
            sequences.renumber(entries, annotations[added:])
        videos += entries
    return {
        "info": {"description": f"{len(annotation_sets)} files merged"},
        "licenses": _common([one.content.get("licenses", []) for one in annotation_sets]),
        f"{kind}s": videos,
        "annotations": annotations,
        "categories": list(categories.values()),
    }


def _check_mergeable(annotation_sets: Sequence[AnnotationSet], prefixes: Sequence[str]) -> None:
    """Refuse what ``merge_sets`` refuses."""
    if len(prefixes) != len(annotation_sets):
        raise InputError(
            f"{len(prefixes)} prefixes for {len(annotation_sets)} files: give one for each"
        )
    if len({one.kind for one in annotation_sets}) > 1:
        raise InputError("cannot merge a file of videos with one of images")
    frames: set[str] = set()
    for number, (one, prefix) in enumerate(zip(annotation_sets, prefixes, strict=True), start=1):
        if not one.annotated:
            raise InputError(
                f"file {number} has no annotations: in the merged file, its {one.kind}s would "
                "appear to be empty"
            )
        added = {file for video in one.videos.values() for file in _prefixed(video, prefix)}
        if not frames.isdisjoint(added):
            raise InputError(
                f"file {number} has frames of an earlier file, e.g. {min(frames & added)}; "
                "if they are different images, distinguish the folders with --prefix"
            )
        frames |= added


class _SequenceNumbers:
    """New ``video_id`` and ``track_id`` of images that are frames of videos.

    Equal numbers in different files are different videos, unless the frames are in the same folder,
    as in parts of one file.
    """

    def __init__(self) -> None:
        self._in_folders: dict[tuple[str, Any], int] = {}
        self._tracks: dict[tuple[int, Any], int] = {}
        self._count = 0

    def renumber(
        self, images: Sequence[dict[str, Any]], annotations: Sequence[dict[str, Any]]
    ) -> None:
        """Change the entries of a file."""
        numbers: dict[Any, int] = {}
        video_of: dict[int, int] = {}
        for image in images:
            old = image.get("video_id")
            if isinstance(old, int | float | str):
                place = posixpath.dirname(image["file_name"]), old
                if old not in numbers:
                    self._count += place not in self._in_folders
                    numbers[old] = self._in_folders.get(place, self._count)
                self._in_folders.setdefault(place, numbers[old])
                image["video_id"] = video_of[image["id"]] = numbers[old]
        for annotation in annotations:
            video = video_of.get(annotation["image_id"])
            if video is not None and isinstance(annotation.get("track_id"), int | str):
                key = video, annotation["track_id"]
                annotation["track_id"] = self._tracks.setdefault(key, len(self._tracks) + 1)


def _common(lists: Sequence[list]) -> list:
    """The list if all are equal, otherwise an empty list."""
    return lists[0] if all(one == lists[0] for one in lists) else []


def _prefixed(video: Video, prefix: str) -> list[str]:
    return [f"{prefix}{file}" for file in video.file_names]


def _renumbered(entry: dict[str, Any], video: Video, identity: int, prefix: str) -> dict[str, Any]:
    """The entry of a video or an image with a new id and prefixed file names."""
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
