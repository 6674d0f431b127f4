"""Statistics of a set of annotated videos or images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet, Video
from queryinst_vis.formats.annotations import Annotation, decode_track, parse_annotation
from queryinst_vis.formats.findings import Report, refuse_faults
from queryinst_vis.utils.progress import show_progress

SIZE_BOUNDS = {"video": (128**2, 256**2), "image": (32**2, 96**2)}
"""Maximum area in pixels of small and medium objects, as in YouTube-VIS and COCO."""


@dataclass(frozen=True)
class TrackStatistics:
    """Statistics of a track that is not a crowd.

    Attributes:
        category: class name.
        frames: number of visible frames, at least 1.
        masks: number of visible frames with a mask; the others have only a box.
        area: mean area of mask (or box) in pixels, over the visible frames.
        motion: displacement of the box centre between consecutive visible frames, divided by the
            square root of the box area (mean of both frames).
        first, last: indices of the first and last visible frame.
        gaps: number of times it disappears and reappears.
    """

    category: str
    frames: int
    masks: int
    area: float
    motion: list[float]
    first: int
    last: int
    gaps: int


@dataclass(frozen=True)
class VideoStatistics:
    """Statistics of a video, or of an image as a video of one frame.

    Attributes:
        name: folder of its frames, or file name of an image.
        height, width, length: of the video, in pixels and frames.
        tracks: all tracks that are visible in some frame.
        objects: number of visible objects per frame.
        overlap: for each frame with objects, the fraction of the area covered by boxes that is
            covered by two or more, 0..1: the bounding-box overlap rate of OVIS, a measure of
            occlusion (Qi et al., *Occluded Video Instance Segmentation: A Benchmark*, IJCV 2022).
    """

    name: str
    height: int
    width: int
    length: int
    tracks: list[TrackStatistics]
    objects: list[int]
    overlap: list[float]


def measure_set(annotation_set: AnnotationSet) -> list[VideoStatistics]:
    """Compute the statistics of all videos or images of a file.

    Raises:
        InputError: the file has no annotations, or an invalid mask.
    """
    if not annotation_set.annotated:
        raise InputError("the file has no annotations")
    videos = list(annotation_set.videos.values())
    return [_measure_video(annotation_set, video) for video in show_progress(videos, "measuring")]


def _measure_video(annotation_set: AnnotationSet, video: Video) -> VideoStatistics:
    report = refuse_faults(annotation_set.where)
    tracks = []
    boxes: list[list[np.ndarray]] = [[] for _ in range(video.length)]  # per frame
    for entry in annotation_set.entries[video.id]:
        annotation = parse_annotation(entry, video, report)
        if annotation is None or annotation.crowd:
            continue
        masked = _masked_boxes(annotation, video, report)
        boxes_only: dict[int, tuple[np.ndarray, float]] = {
            frame: (np.array(box, dtype=float), box[2] * box[3])
            for frame, box in annotation.boxes_alone().items()
        }
        visible = dict(sorted((masked | boxes_only).items()))
        if visible:
            category = annotation_set.categories[annotation.category_id]
            tracks.append(_measure_track(category, visible, len(masked)))
        for frame, (box, _) in visible.items():
            boxes[frame].append(box)
    return VideoStatistics(
        video.name,
        video.height,
        video.width,
        video.length,
        tracks,
        [len(frame) for frame in boxes],
        [overlap_rate(np.array(frame)) for frame in boxes if frame],
    )


def _masked_boxes(
    annotation: Annotation, video: Video, report: Report
) -> dict[int, tuple[np.ndarray, float]]:
    """Box ``(x, y, width, height)`` and area of the mask, by frame."""
    place = {**video.place, "annotation": annotation.id}
    masks, areas = decode_track(annotation.segmentations, video, place, report)
    return {
        frame: (coco_mask.toBbox(mask), area)
        for frame, (mask, area) in enumerate(zip(masks, areas.tolist(), strict=True))
        if mask and area
    }


def _measure_track(
    category: str, visible: dict[int, tuple[np.ndarray, float]], masks: int
) -> TrackStatistics:
    """Statistics of a track from its box and area by frame, in frame order."""
    frames = list(visible)
    consecutive = [(one, other) for one, other in pairwise(frames) if other == one + 1]
    return TrackStatistics(
        category=category,
        frames=len(frames),
        masks=masks,
        area=sum(area for _, area in visible.values()) / len(frames),
        motion=[_motion(visible[one][0], visible[other][0]) for one, other in consecutive],
        first=frames[0],
        last=frames[-1],
        gaps=len(frames) - 1 - len(consecutive),
    )


def _motion(one: np.ndarray, other: np.ndarray) -> float:
    """Displacement of a box's centre, in multiples of its size."""
    step = other[:2] + other[2:] / 2 - one[:2] - one[2:] / 2
    size = (np.sqrt(one[2:].prod()) + np.sqrt(other[2:].prod())) / 2
    return float(np.hypot(*step) / size)


def overlap_rate(boxes: np.ndarray) -> float:
    """Fraction of the area covered by boxes that is covered by two or more, 0..1.

    Args:
        boxes: ``(N, 4)`` (x, y, width, height), N at least 1, with positive areas.
    """
    starts, ends = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    x, y = (np.unique(np.concatenate([starts[:, k], ends[:, k]])) for k in (0, 1))
    # coverage is constant in the cells between adjacent box edges
    in_x = (starts[:, :1] <= x[:-1]) & (x[:-1] < ends[:, :1])
    in_y = (starts[:, 1:] <= y[:-1]) & (y[:-1] < ends[:, 1:])
    depth = in_y.T.astype(int) @ in_x.astype(int)
    cells = np.diff(y)[:, None] * np.diff(x)
    return float(cells[depth > 1].sum() / cells[depth > 0].sum())


def summarise_set(videos: Sequence[VideoStatistics], kind: str) -> dict[str, Any]:
    """Aggregate the result of ``measure_set``, for JSON.

    Args:
        videos: at least one video or image.
        kind: "video" or "image".

    Returns:
        ``classes``: ``{name: {tracks, masks, videos}}`` by descending tracks; ``videos``,
        ``frames``, ``tracks``, ``masks``, ``boxes_only`` (boxes without a mask): totals;
        ``sizes``: ``{"WxH": videos}``;
        ``video_length``, ``track_length``, ``mask_side`` (square root of the mean area, pixels),
        ``motion``, ``objects_per_video``, ``objects_per_frame``, ``overlap_rate``: each
        ``{min, median, mean, max}``, or None without values; ``small``, ``medium``, ``large``:
        number of tracks by the metric's area ranges; ``entries`` and ``exits``: number of tracks
        that begin after the first or end before the last frame; ``gaps``: number of times that
        tracks disappear and reappear.
    """
    tracks = [track for video in videos for track in video.tracks]
    pairs = [(video, track) for video in videos for track in video.tracks]
    low, high = SIZE_BOUNDS[kind]
    areas = np.array([track.area for track in tracks])
    return {
        "videos": len(videos),
        "frames": sum(video.length for video in videos),
        "tracks": len(tracks),
        "masks": sum(track.masks for track in tracks),
        "boxes_only": sum(track.frames - track.masks for track in tracks),
        "classes": _count_classes(videos),
        "sizes": dict(Counter(f"{one.width}x{one.height}" for one in videos).most_common()),
        "video_length": spread([video.length for video in videos]),
        "track_length": spread([track.frames for track in tracks]),
        "mask_side": spread(np.sqrt(areas).tolist()),
        "small": int((areas <= low).sum()),
        "medium": int(((areas > low) & (areas <= high)).sum()),
        "large": int((areas > high).sum()),
        "motion": spread([step for track in tracks for step in track.motion]),
        "objects_per_video": spread([len(video.tracks) for video in videos]),
        "objects_per_frame": spread([count for video in videos for count in video.objects]),
        "overlap_rate": spread([rate for video in videos for rate in video.overlap]),
        "entries": sum(track.first > 0 for track in tracks),
        "exits": sum(track.last < video.length - 1 for video, track in pairs),
        "gaps": sum(track.gaps for track in tracks),
    }


def _count_classes(videos: Sequence[VideoStatistics]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter] = {}
    for video in videos:
        for track in video.tracks:
            counts.setdefault(track.category, Counter()).update(tracks=1, masks=track.masks)
        for category in {track.category for track in video.tracks}:
            counts[category].update(videos=1)
    return {
        name: dict(counts[name])
        for name in sorted(counts, key=lambda name: (-counts[name]["tracks"], name))
    }


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Minimum, median, mean and maximum; None without values."""
    if not values:
        return None
    return {
        "min": float(np.min(values)),
        "median": float(np.median(values)),
        "mean": float(np.mean(values)),
        "max": float(np.max(values)),
    }
