"""Reading the results of one video, in any result format, as stored tracks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet, parse_set
from queryinst_vis.formats.coco_video import read_coco_video
from queryinst_vis.formats.convert_results import format_of, open_videos
from queryinst_vis.formats.findings import refuse_faults
from queryinst_vis.formats.mots import CLASS_NUMBERS, MotsLine, read_mots_text
from queryinst_vis.formats.predictions import read_results
from queryinst_vis.formats.track_store import TrackStore, VideoInfo
from queryinst_vis.formats.video_set import MaskTrack, VideoSet
from queryinst_vis.masks import RLE, bounding_box
from queryinst_vis.utils.numbers import is_integer

_MOTS_NAMES = {number: name for name, number in reversed(CLASS_NUMBERS.items())}


@dataclass(frozen=True)
class KnownVideo:
    """Properties of a video that are not in result files.

    Attributes:
        name: short, valid as a file name.
        fps: frames per second; None: unknown.
        length: number of frames; None: unknown.
    """

    name: str
    fps: float | None = None
    length: int | None = None


@dataclass(frozen=True)
class _Shown:
    """A track in a frame."""

    track_id: int
    score: float
    label: int
    mask: RLE


def read_any_results(
    path: Path,
    tracks: TrackStore,
    known: KnownVideo,
    gt: str | Path | None = None,
    video_id: int | None = None,
) -> VideoInfo:
    """Read the results of one video.

    Args:
        path: a MOTS text file, or YouTube-VIS or COCO-video results (JSON, or zip with
            ``results.json``). Tracks of YouTube-VIS results are numbered by their ``track_id``,
            if all have one, otherwise by their position in the file.
        tracks: empty; is filled, on disk.
        known: properties of the video.
        gt: YouTube-VIS file with the videos and class names; needs no annotations.
            None: classes are named by number.
        video_id: of the video; None: the file has results of one video only.

    Returns:
        The properties of the video, completed.

    Raises:
        InputError: the results cannot be read, are of several videos, or have a frame that does
            not exist.
    """
    where = f"results {path}"
    if path.is_dir():
        raise InputError(f"{where}: is a folder; name the file of one video in it")
    if path.suffix == ".txt":
        if gt is not None:
            raise InputError(f"{where}: MOTS text needs no --gt; its classes have numbers")
        size, names, frames = _mots_frames(path)
    else:
        size, names, frames = _json_frames(path, known, gt, video_id)
    last = max(frames, default=-1)
    length = last + 1 if known.length is None else known.length
    if last >= length:
        raise InputError(f"{where}: has frame {last}, its video only frames 0 to {length - 1}")
    for frame in range(length):
        shown = frames.get(frame, [])
        tracks.add(
            size,
            [each.track_id for each in shown],
            [each.score for each in shown],
            [each.label for each in shown],
            [bounding_box(each.mask) for each in shown],
            [each.mask for each in shown],
            None if known.fps is None else frame / known.fps,
        )
    return VideoInfo(known.name, known.fps, names)


_Frames = dict[int, list[_Shown]]


def _mots_frames(path: Path) -> tuple[tuple[int, int], list[str], _Frames]:
    """Size, classes and frames of a MOTS text file, with frames counted from 1 or 0."""
    lines = list(read_mots_text(path))
    if not lines:
        raise InputError(f"results {path}: contains no mask, so the frame size is unknown")
    size = _size_of(lines[0])
    numbers = sorted({line.label for line in lines})
    first = min(1, *(line.frame for line in lines))
    frames: _Frames = defaultdict(list)
    for line in lines:
        if _size_of(line) != size:
            raise InputError(f"{line.where}: the mask has another size than those before it")
        label = numbers.index(line.label)
        frames[line.frame - first].append(_Shown(line.object_id, 1.0, label, line.mask))
    names = [_MOTS_NAMES.get(number, f"class {number}") for number in numbers]
    return size, names, frames


def _size_of(line: MotsLine) -> tuple[int, int]:
    height, width = line.mask["size"]
    return height, width


def _json_frames(
    path: Path, known: KnownVideo, gt: str | Path | None, video_id: int | None
) -> tuple[tuple[int, int], list[str], _Frames]:
    """Size, classes and frames of one video of a result file."""
    is_coco_video = format_of(path) == "coco-video"
    entries = read_results(path)
    videos = _unnamed_videos(path, entries, known) if gt is None else open_videos(gt)
    if is_coco_video:
        joined = read_coco_video(path, videos)
        entries = [{**entry, "track_id": track_id} for (track_id, _), entry in joined.items()]
    there = {entry["video_id"] for entry in entries if is_integer(entry.get("video_id"))}
    if video_id is None and len(there) > 1:
        raise InputError(
            f"results {path}: are of {len(there)} videos ({', '.join(map(str, sorted(there)[:10]))}"
            "); choose one with --video-id"
        )
    chosen = min(there, default=None) if video_id is None else video_id
    if chosen not in videos.videos:
        raise InputError(f"results {path}: video {chosen} is unknown")
    video = videos.videos[chosen]
    own = [entry for entry in entries if entry.get("video_id") == chosen]
    [found] = [each for each in VideoSet(videos, own) if each.video.id == chosen]
    category_ids = list(videos.categories)
    frames: _Frames = defaultdict(list)
    for track, track_id in zip(found.detections, _track_ids(own, found.detections), strict=True):
        for frame, mask in track.shown().items():
            label = category_ids.index(track.category_id)
            score = min(max(track.score, 0.0), 1.0)
            frames[frame].append(_Shown(track_id, score, label, mask))
    return (video.height, video.width), list(videos.categories.values()), frames


def _track_ids(entries: list[dict[str, Any]], tracks: list[MaskTrack]) -> list[int]:
    ids = [entries[track.id].get("track_id") for track in tracks]
    known = [each for each in ids if is_integer(each) and 0 <= each < 2**63]
    if len(set(known)) == len(tracks):
        return known
    return [track.id for track in tracks]


def _unnamed_videos(path: Path, entries: list[dict[str, Any]], known: KnownVideo) -> AnnotationSet:
    """The videos as far as known from the results, with numbers as class names."""
    videos: dict[int, dict[str, Any]] = {}
    for entry in entries:
        masks = entry.get("segmentations", [entry.get("segmentation")])
        sizes = (
            mask["size"]
            for mask in (masks if isinstance(masks, list) else [])
            if isinstance(mask, dict) and isinstance(mask.get("size"), list)
        )
        size = next(sizes, None)
        video_id = entry.get("video_id", 1)
        if size is None or len(size) != 2 or not is_integer(video_id) or video_id in videos:
            continue
        length = len(masks) if "segmentations" in entry else known.length
        if length is None:
            raise InputError(
                f"results {path}: do not contain the number of frames; give the video with "
                "--video, or an annotation file with --gt"
            )
        videos[video_id] = {
            "id": video_id,
            "height": size[0],
            "width": size[1],
            "length": length,
            "file_names": [f"{known.name}/{frame:06d}.jpg" for frame in range(length)],
        }
    classes = sorted({e["category_id"] for e in entries if is_integer(e["category_id"])})
    where = f"results {path}"
    content = {
        "videos": list(videos.values()),
        "categories": [{"id": number, "name": f"class {number}"} for number in classes],
        "annotations": [],
    }
    return parse_set(content, refuse_faults(where), where, "video")
