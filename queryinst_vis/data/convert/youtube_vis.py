"""Normalisation of YouTube-VIS files and variants (OVIS, 2021, 2022, LV-VIS)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from queryinst_vis.data.convert.builder import (
    boxes_and_areas,
    check_two_names,
    write_video_set,
)
from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import Video, parse_set
from queryinst_vis.formats.annotations import decode_track, is_one_per_frame, parse_annotation
from queryinst_vis.formats.findings import Report, refuse_faults
from queryinst_vis.formats.reading import read_annotations
from queryinst_vis.utils.progress import show_progress


def convert_youtube_vis(
    src: str | Path, dst: str | Path, *, coco_json: str | Path | None = None
) -> str:
    """Normalise a file in YouTube-VIS format or a variant.

    For example, ``annotations_train.json`` of OVIS has the format of YouTube-VIS, with other
    classes and file names. See ``repair`` for what is normalised. Frames and file names are kept.

    Args:
        src: YouTube-VIS, OVIS or similar annotation file.
        dst: annotation file to write.
        coco_json: also write the same frames as a COCO image set to this file.

    Returns:
        One-line summary with the changes.

    Raises:
        InputError: a missing or invalid file, unknown or duplicate ids, lists whose length
            differs from the video's, an unreadable segmentation or one of another size; a COCO
            set is requested and there are no annotations.
    """
    content, repairs = read_repaired(src)
    check_two_names(dst, coco_json)
    if coco_json is not None and content["annotations"] is None:
        raise InputError(f"{src}: contains no annotations, as public test files do; drop --coco")
    return write_video_set(dst, content, repairs, coco_json)


def read_repaired(path: str | Path) -> tuple[dict[str, Any], Counter[str]]:
    """Read a file and ``repair`` it."""
    return repair(read_annotations(path), str(path))


def repair(content: dict[str, Any], where: str) -> tuple[dict[str, Any], Counter[str]]:
    """Validate and normalise a set in YouTube-VIS format.

    * every video gets its ``length``;
    * segmentations (polygons, uncompressed RLE) become compressed RLE; empty masks and
      empty lists become null, and a track without any mask or box is removed;
    * ``bboxes`` and ``areas`` are computed from the masks. In frames without a segmentation the
      box and area of the file are kept. ``iscrowd``, ``height``, ``width`` and
      ``length`` are filled in;
    * if annotation ids are missing, duplicate or below 1, all are renumbered, as nothing
      refers to them; video and category ids, used by result files, are kept;
    * all other keys are kept, including ``occlusion`` of OVIS (one level per frame).

    Args:
        content: the parsed file; ``annotations`` may be null or missing, and is null then.
        where: the file, for error messages.

    Returns:
        ``(set, repairs)``: the new content and the number of changes by kind.

    Raises:
        InputError: as for ``convert_youtube_vis``.
    """
    repairs: Counter[str] = Counter()
    report = refuse_faults(where, "training")
    changed = {"info": {}, "licenses": [], **content, "annotations": content.get("annotations")}
    if isinstance(content.get("videos"), list):
        changed["videos"] = [_with_length(entry, repairs) for entry in content["videos"]]
    entries = changed["annotations"]
    if isinstance(entries, list):  # the ids of the file are checked at the end
        changed["annotations"] = [
            {**entry, "id": number} if isinstance(entry, dict) else entry
            for number, entry in enumerate(entries, start=1)
        ]
    annotation_set = parse_set(changed, report, where, "video")
    if not annotation_set.annotated:
        return changed, repairs
    tracks = {}
    for video in show_progress(list(annotation_set.videos.values()), "reading tracks"):
        for entry in annotation_set.entries[video.id]:
            track = _track(entry, video, report, repairs)
            if any(box is not None for box in track["bboxes"]):
                tracks[entry["id"]] = track
            else:
                repairs["tracks without a mask left out"] += 1
    return changed | {"annotations": _with_ids(tracks, entries, repairs)}, repairs


def _with_length(video: Any, repairs: Counter[str]) -> Any:
    """An entry of ``videos`` with its length, if that can be derived."""
    if not isinstance(video, dict) or video.get("length") is not None:
        return video
    names = video.get("file_names")
    if not isinstance(names, list):
        return video
    repairs["lengths filled in"] += 1
    return video | {"length": len(names)}


def _with_ids(
    tracks: dict[int, dict[str, Any]], annotations: list[Any], repairs: Counter[str]
) -> list[dict[str, Any]]:
    """The tracks in file order, with their own ids or, if these are invalid, new ones.

    Args:
        tracks: by position in the file, from 1.
        annotations: the entries of the file.
        repairs: counts the changes by kind.
    """
    order = sorted(tracks)
    ids = [annotations[number - 1].get("id") for number in order]
    if len(set(map(repr, ids))) < len(ids) or not all(type(id_) is int and id_ > 0 for id_ in ids):
        ids = list(range(1, len(order) + 1))
        repairs["annotation ids renumbered"] = len(order)
    return [tracks[number] | {"id": id_} for number, id_ in zip(order, ids, strict=True)]


def _track(
    entry: dict[str, Any], video: Video, report: Report, repairs: Counter[str]
) -> dict[str, Any]:
    place = {**video.place, "annotation": entry["id"]}
    if isinstance(entry.get("occlusion"), list):
        is_one_per_frame(entry["occlusion"], "occlusion", video, place, report)
    # areas are recomputed, so those of the file need not be valid
    annotation = parse_annotation({**entry, "areas": None}, video, report)
    assert annotation is not None  # otherwise an error has been raised
    decoded, sizes = decode_track(annotation.segmentations, video, place, report)
    rles = [rle if size else None for rle, size in zip(decoded, sizes, strict=True)]
    boxes, areas = boxes_and_areas(rles)
    for frame, box in annotation.boxes_alone().items():
        boxes[frame], areas[frame] = box, box[2] * box[3]
    given = entry.get("segmentations") or [None] * video.length
    repairs["masks compressed"] += sum(map(_is_plain, annotation.segmentations))
    repairs["empty masks made null"] += rles.count(None) - given.count(None)
    return entry | {
        "iscrowd": int(annotation.crowd),
        "height": video.height,
        "width": video.width,
        "length": video.length,
        "segmentations": rles,
        "bboxes": boxes,
        "areas": areas,
    }


def _is_plain(segmentation: Any) -> bool:
    """Whether a mask is given as polygons or uncompressed RLE."""
    return isinstance(segmentation, list) or (
        isinstance(segmentation, dict) and isinstance(segmentation["counts"], list)
    )
