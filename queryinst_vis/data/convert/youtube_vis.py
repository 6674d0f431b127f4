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
from queryinst_vis.formats.annotations import (
    match_classes,
    one_a_frame,
    parse_box,
    read_annotations,
)
from queryinst_vis.formats.fields import check_unique, lookup, require, require_size
from queryinst_vis.masks import RLE, to_rles
from queryinst_vis.utils.progress import show_progress


def convert_youtube_vis(
    src: str | Path, dst: str | Path, *, coco_json: str | Path | None = None
) -> str:
    """Rewrite a YouTube-VIS-like file so that nothing in it is left to guess.

    OVIS names its classes and frames in its own way, but its ``annotations_train.json`` has the
    layout of YouTube-VIS; what it and the other relatives do differently is put right by
    ``repair``. Frames and file names stay as they are.

    Args:
        src: YouTube-VIS, OVIS or similar annotation file.
        dst: annotation file to write.
        coco_json: also write the same frames as a COCO image set to this file.

    Returns:
        A line that says what was written and what was put right.

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
        ``(set, repairs)``: the new content and how often each thing was put right.

    Raises:
        InputError: as for ``convert_youtube_vis``.
    """
    names = category_names(content, where)
    videos = {}
    repairs: Counter[str] = Counter()
    entries = require(content, "videos", list, where)
    for entry in entries:
        video = _video(entry, where, repairs)
        videos[video["id"]] = video
    check_unique((entry["id"] for entry in entries), "video id", where)
    tracks = None
    if content.get("annotations") is not None:
        annotations = require(content, "annotations", list, where)
        tracks = _tracks(annotations, videos, names, where, repairs)
    kept = {"info": {}, "licenses": []} | content
    return kept | {"videos": list(videos.values()), "annotations": tracks}, repairs


def category_names(content: dict[str, Any], where: str) -> dict[int, str]:
    """Category id to name, in the file's order.

    Raises:
        InputError: categories are missing, broken or repeated.
    """
    categories = require(content, "categories", list, where)
    if not categories:
        raise InputError(f"{where}: 'categories' is empty")
    names = [require(category, "name", str, f"{where}: categories") for category in categories]
    match_classes(content, names, where)
    return {category["id"]: category["name"] for category in categories}


def _video(entry: Any, where: str, repairs: Counter[str]) -> dict[str, Any]:
    here = f"{where}: video {require(entry, 'id', int, f'{where}: videos')}"
    require_size(entry, here)
    names = require(entry, "file_names", list, here)
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{here}: 'file_names' must list one path per frame")
    if entry.get("length") is None:
        repairs["lengths filled in"] += 1
    elif entry["length"] != len(names):
        raise InputError(
            f"{here}: 'length' is {entry['length']!r:.40} but it lists {len(names)} file_names"
        )
    return entry | {"length": len(names)}


def _tracks(
    annotations: list[Any],
    videos: dict[int, dict[str, Any]],
    names: dict[int, str],
    where: str,
    repairs: Counter[str],
) -> list[dict[str, Any]]:
    tracks = []
    for index, annotation in enumerate(show_progress(annotations, "reading tracks")):
        here = f"{where}: annotations[{index}]"
        video = lookup(videos, require(annotation, "video_id", int, here), "video_id", here)
        lookup(names, require(annotation, "category_id", int, here), "category_id", here)
        track = _track(annotation, video, here, repairs)
        if any(box is not None for box in track["bboxes"]):
            tracks.append(track)
        else:
            repairs["tracks without a mask left out"] += 1
    ids = [track.get("id") for track in tracks]
    if len(set(map(repr, ids))) < len(ids) or not all(map(_is_id, ids)):
        tracks = [track | {"id": number} for number, track in enumerate(tracks, start=1)]
        repairs["annotation ids numbered anew"] = len(tracks)
    return tracks


def _is_id(value: Any) -> bool:
    return type(value) is int and value >= 1


def _track(
    annotation: dict[str, Any], video: dict[str, Any], where: str, repairs: Counter[str]
) -> dict[str, Any]:
    length = video["length"]
    if isinstance(annotation.get("occlusion"), list):
        one_a_frame(annotation, "occlusion", length, video["id"], where)
    bboxes, segmentations = (
        one_a_frame(annotation, key, length, video["id"], where)
        for key in ("bboxes", "segmentations")
    )
    if bboxes is None and segmentations is None:
        raise InputError(f"{where}: has neither 'segmentations' nor 'bboxes'")
    segmentations = segmentations or [None] * length
    rles = _masks(segmentations, video, where, repairs)
    boxes, areas = boxes_and_areas(rles)
    for frame, bbox in enumerate(bboxes or ()):
        is_known = parse_box(bbox, f"{where}, frame {frame}") is not None
        if is_known and segmentations[frame] in (None, []):
            boxes[frame], areas[frame] = bbox, bbox[2] * bbox[3]
    return annotation | {
        "iscrowd": int(bool(annotation.get("iscrowd"))),
        "height": video["height"],
        "width": video["width"],
        "length": length,
        "segmentations": rles,
        "bboxes": boxes,
        "areas": areas,
    }


def _masks(
    segmentations: list[Any], video: dict[str, Any], where: str, repairs: Counter[str]
) -> list[RLE | None]:
    """Compressed RLE of each frame, None where nothing is seen."""
    given = {
        frame: segmentation
        for frame, segmentation in enumerate(segmentations)
        if segmentation is not None and segmentation != []
    }
    frames = list(given)
    rles, areas = to_rles(
        list(given.values()),
        video["height"],
        video["width"],
        lambda index: f"{where}, frame {frames[index]}",
    )
    masks: list[RLE | None] = [None] * len(segmentations)
    for frame, rle, area in zip(frames, rles, areas, strict=True):
        masks[frame] = rle if area else None
    plain = [s for s in given.values() if isinstance(s, list) or isinstance(s["counts"], list)]
    repairs["masks compressed"] += len(plain)
    nulls = sum(segmentation is None for segmentation in segmentations)
    repairs["empty masks made null"] += masks.count(None) - nulls
    return masks
