"""YouTube-VIS and its relatives (OVIS, 2021, 2022, LV-VIS) brought to one strict form."""

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
    """Rewrite a YouTube-VIS-like file in one strict form.

    OVIS' ``annotations_train.json`` has the layout of YouTube-VIS, with other classes and file
    names. ``repair`` lists the differences between such files that it removes. Frames and file
    names stay as they are.

    Args:
        src: YouTube-VIS, OVIS or similar annotation file.
        dst: annotation file to write.
        coco_json: also write the same frames as a COCO image set to this file.

    Returns:
        A line that says what was written and what was repaired.

    Raises:
        InputError: a missing or broken file, unknown or repeated ids, lists that are not as
            long as their video, an unreadable segmentation or one of another size; a COCO set
            is asked for and there are no annotations.
    """
    content, repairs = read_repaired(src)
    check_two_names(dst, coco_json)
    if coco_json is not None and content["annotations"] is None:
        raise InputError(f"{src}: holds no annotations, as public test files do; drop --coco")
    return write_video_set(dst, content, repairs, coco_json)


def read_repaired(path: str | Path) -> tuple[dict[str, Any], Counter[str]]:
    """Read a file and ``repair`` it."""
    return repair(read_annotations(path), str(path))


def repair(content: dict[str, Any], where: str) -> tuple[dict[str, Any], Counter[str]]:
    """Check a YouTube-VIS-like set and bring it to one form.

    * every video gets its ``length``;
    * segmentations (polygons, plain run lengths) become compressed RLE; masks without a pixel and
      empty lists become null, and a track without any mask or box is left out;
    * ``bboxes`` and ``areas`` are those of the masks. In frames without a segmentation the file's
      own box stays, with its area, where it has one. ``iscrowd``, ``height``, ``width`` and
      ``length`` are filled in;
    * annotation ids that are missing, repeated or below 1 are all numbered anew, as nothing
      refers to them; video and category ids, which result files name, stay;
    * all other keys stay, among them OVIS' ``occlusion`` (one level a frame).

    Args:
        content: the parsed file; ``annotations`` may be null or missing, and is null then.
        where: the file, for error messages.

    Returns:
        ``(set, repairs)``: the new content and the number of repairs of each kind.

    Raises:
        InputError: as for ``convert_youtube_vis``.
    """
    repairs: Counter[str] = Counter()
    report = refuse_faults(where, "training")
    changed = {"info": {}, "licenses": [], **content, "annotations": content.get("annotations")}
    if isinstance(content.get("videos"), list):
        changed["videos"] = [_with_length(entry, repairs) for entry in content["videos"]]
    entries = changed["annotations"]
    if isinstance(entries, list):  # the file's own ids are looked at in the end
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
    """An entry of ``videos`` with its length, where that can be filled in."""
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
    """The tracks in the file's order with their own ids or, where those will not do, new ones.

    Args:
        tracks: by their position in the file, from 1.
        annotations: the file's own entries.
        repairs: counts the repairs of each kind.
    """
    order = sorted(tracks)
    ids = [annotations[number - 1].get("id") for number in order]
    if len(set(map(repr, ids))) < len(ids) or not all(type(id_) is int and id_ > 0 for id_ in ids):
        ids = list(range(1, len(order) + 1))
        repairs["annotation ids numbered anew"] = len(order)
    return [tracks[number] | {"id": id_} for number, id_ in zip(order, ids, strict=True)]


def _track(
    entry: dict[str, Any], video: Video, report: Report, repairs: Counter[str]
) -> dict[str, Any]:
    place = {**video.place, "annotation": entry["id"]}
    if isinstance(entry.get("occlusion"), list):
        is_one_per_frame(entry["occlusion"], "occlusion", video, place, report)
    # areas are measured anew, so those of the file may be anything
    annotation = parse_annotation({**entry, "areas": None}, video, report)
    assert annotation is not None  # else an error was reported, and so raised
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
    """Whether a mask is given as polygons or as plain run lengths."""
    return isinstance(segmentation, list) or (
        isinstance(segmentation, dict) and isinstance(segmentation["counts"], list)
    )
