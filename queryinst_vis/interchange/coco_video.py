"""COCO-video results (TAO, CocoVID of mmtracking): one entry per track and frame.

``{image_id, video_id, track_id, category_id, score, bbox, segmentation}``; bbox is the mask's
(x, y, width, height). Image ids count from 1 through the videos in the order of their file, as
mmtracking's and our own conversion of YouTube-VIS annotations number them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from statistics import mean
from typing import Any

from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.inputs import GroundTruth, PlacedEntries
from queryinst_vis.evaluation.mask_tracks import Video, parse_detection
from queryinst_vis.interchange.video_list import videos_of
from queryinst_vis.masks import RLE, to_rle

Frame = tuple[Video, int]
"""A video and the 0-based index of one of its frames."""


def to_coco_video(entries: PlacedEntries, truth: GroundTruth) -> Iterator[dict[str, Any]]:
    """YouTube-VIS results, frame by frame; a track's id is its position in their file.

    Raises:
        InputError: a mask is unreadable or not of its video's size, or there is not one a frame.
    """
    videos = videos_of(truth)
    image_ids = {
        (video.id, frame): image_id for image_id, (video, frame) in _frames(videos).items()
    }
    for position, (place, entry) in enumerate(entries):
        video = videos[entry["video_id"]]
        track = parse_detection(entry, position, video, place)
        for frame in track.sizes.nonzero()[0].tolist():
            yield {
                "image_id": image_ids[video.id, frame],
                "video_id": video.id,
                "track_id": position,
                "category_id": track.category_id,
                "score": track.score,
                "bbox": coco_mask.toBbox(track.masks[frame]).tolist(),
                "segmentation": track.masks[frame],
            }


def from_coco_video(entries: PlacedEntries, truth: GroundTruth) -> list[dict[str, Any]]:
    """YouTube-VIS results, one per track, ordered by video and track id.

    The score is the mean over the frames that show the track, the class its majority vote
    (the earliest among equals).

    Raises:
        InputError: an unknown image, a track that an image shows twice, an entry without
            ``track_id`` or mask, or a mask that is not of its video's size.
    """
    frames = _frames(videos_of(truth))
    tracks: dict[tuple[int, int], dict[int, tuple[RLE, dict]]] = defaultdict(dict)
    lengths: dict[int, int] = {}
    for place, entry in entries:
        video, frame = _frame_of(entry, frames, truth, place)
        track_id = entry.get("track_id")
        if not isinstance(track_id, int):
            raise InputError(f"{place}: `track_id` must be an integer, is {track_id!r}")
        if not entry.get("segmentation"):
            raise InputError(f"{place}: has no `segmentation`; boxes alone make no mask track")
        shown = tracks[video.id, track_id]
        if frame in shown:
            raise InputError(f"{place}: image {entry['image_id']} shows track {track_id} twice")
        mask = to_rle(entry["segmentation"], video.height, video.width, place)
        shown[frame] = mask, entry
        lengths[video.id] = video.length
    return [
        _track_entry(video_id, shown, lengths[video_id])
        for (video_id, _), shown in sorted(tracks.items(), key=lambda item: item[0])
    ]


def _frames(videos: dict[int, Video]) -> dict[int, Frame]:
    """Every frame of the set by its image id."""
    every = ((video, frame) for video in videos.values() for frame in range(video.length))
    return dict(enumerate(every, start=1))


def _frame_of(entry: dict, frames: dict[int, Frame], truth: GroundTruth, place: str) -> Frame:
    image_id = entry["image_id"]
    if not isinstance(image_id, int) or image_id not in frames:
        raise InputError(
            f"{place}: image_id {image_id!r} is none of 1 to {len(frames)}, the frames of the"
            " video set in their order"
        )
    video, frame = frames[image_id]
    if entry.get("video_id", video.id) != video.id:
        raise InputError(
            f"{place}: image {image_id} is of video {video.id}, not {entry['video_id']!r}"
        )
    if entry["category_id"] not in truth.categories:
        raise InputError(f"{place}: category_id {entry['category_id']!r} is not in the video set")
    return video, frame


def _track_entry(video_id: int, shown: dict[int, tuple[RLE, dict]], length: int) -> dict[str, Any]:
    in_order = [shown[frame][1] for frame in sorted(shown)]
    votes = Counter(entry["category_id"] for entry in in_order)
    return {
        "video_id": video_id,
        "category_id": votes.most_common(1)[0][0],
        "score": float(mean(entry["score"] for entry in in_order)),
        "segmentations": [shown[f][0] if f in shown else None for f in range(length)],
    }
