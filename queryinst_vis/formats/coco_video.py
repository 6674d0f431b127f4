"""COCO-video results (TAO, CocoVID of mmtracking): one entry per track and frame.

``{image_id, video_id, track_id, category_id, score, bbox, segmentation}``; bbox is that of the
mask (x, y, width, height). Image ids are those of ``names.first_image_ids``, as in the conversion
of YouTube-VIS annotations by mmtracking and this project.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet, Video, check_ids
from queryinst_vis.formats.fields import require
from queryinst_vis.formats.findings import refuse_faults
from queryinst_vis.formats.names import first_image_ids
from queryinst_vis.formats.predictions import read_results
from queryinst_vis.formats.video_set import VideoSet
from queryinst_vis.masks import RLE, to_rle
from queryinst_vis.utils.numbers import is_integer
from queryinst_vis.utils.progress import show_progress


def coco_video_entries(videos: AnnotationSet, results: VideoSet) -> Iterator[dict[str, Any]]:
    """Results by track and frame; a track's id is its position in the file.

    Raises:
        InputError: a mask is unreadable or has the wrong size, or there is not one per frame.
    """
    first_ids = _first_image_ids(videos)
    for tracks in show_progress(results, "Writing COCO-video"):
        for track in tracks.detections:
            for frame, mask in enumerate(track.masks):
                if mask is None or not track.sizes[frame]:
                    continue
                yield {
                    "image_id": first_ids[tracks.video.id] + frame,
                    "video_id": tracks.video.id,
                    "track_id": track.id,
                    "category_id": track.category_id,
                    "score": track.score,
                    "bbox": coco_mask.toBbox(mask).tolist(),
                    "segmentation": mask,
                }


def read_coco_video(path: Path, videos: AnnotationSet) -> dict[tuple[int, int], dict[str, Any]]:
    """YouTube-VIS results by track id and video id, in this order.

    The score is the mean over the frames of the track, the class its majority vote
    (ties: the earliest).

    Raises:
        InputError: unreadable results, an unknown image or class, a duplicate track in an
            image, an entry without ``track_id`` or mask, or a mask of the wrong size.
    """
    first_ids = _first_image_ids(videos)
    frames = {
        first_ids[video.id] + frame: (video, frame)
        for video in videos.videos.values()
        for frame in range(video.length)
    }
    tracks: dict[tuple[int, int], dict[int, dict]] = defaultdict(dict)
    report = refuse_faults(f"results {path}")
    for number, entry in enumerate(read_results(path)):
        place = f"results {path}: entry {number}"
        video, frame = _frame_of(entry, frames, place)
        known = {"category_id": videos.categories}
        check_ids(entry, known, "in the video set", {"entry": number}, report)
        track_id = require(entry, "track_id", int, place)
        shown = tracks[track_id, video.id]
        if frame in shown:
            raise InputError(f"{place}: image {entry['image_id']} shows track {track_id} twice")
        shown[frame] = {**entry, "segmentation": _mask_of(entry, video, place)}
    return {
        (track_id, video_id): _track_entry(videos.videos[video_id], tracks[track_id, video_id])
        for track_id, video_id in sorted(tracks)
    }


def _first_image_ids(videos: AnnotationSet) -> dict[int, int]:
    return first_image_ids({id_: video.length for id_, video in videos.videos.items()})


def _frame_of(
    entry: dict[str, Any], frames: dict[int, tuple[Video, int]], place: str
) -> tuple[Video, int]:
    """Video and 0-based frame index of an entry, from ``frames`` by image id."""
    image_id = entry.get("image_id")
    if not is_integer(image_id) or image_id not in frames:
        raise InputError(
            f"{place}: image_id {image_id!r} is not among 1 to {len(frames)}, the frames of the"
            " video set in order"
        )
    video, frame = frames[image_id]
    if entry.get("video_id", video.id) != video.id:
        raise InputError(
            f"{place}: image {image_id} is of video {video.id}, not {entry['video_id']!r}"
        )
    return video, frame


def _mask_of(entry: dict[str, Any], video: Video, place: str) -> RLE:
    if not entry.get("segmentation"):
        raise InputError(f"{place}: has no `segmentation`; boxes are not sufficient")
    return to_rle(entry["segmentation"], video.height, video.width, place)


def _track_entry(video: Video, shown: dict[int, dict]) -> dict[str, Any]:
    votes = Counter(shown[frame]["category_id"] for frame in sorted(shown))
    return {
        "video_id": video.id,
        "category_id": votes.most_common(1)[0][0],
        "score": float(mean(entry["score"] for entry in shown.values())),
        "segmentations": [
            shown[frame]["segmentation"] if frame in shown else None
            for frame in range(video.length)
        ],
    }
