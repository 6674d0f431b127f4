"""What a set of annotated videos or images is like, in numbers."""

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
"""Mean mask area in pixels at which the metric's medium and its large objects begin: YouTube-VIS
and COCO."""


@dataclass(frozen=True)
class TrackStatistics:
    """One track; crowds have none.

    Attributes:
        category: class name.
        frames: number of frames that show it, at least 1.
        masks: number of these that have a mask; the others have a box alone.
        area: mean area over the frames that show it, in pixels: of the mask, or of the box.
        motion: for each two neighbouring frames that show it, how far its box's centre moves,
            divided by the square root of the box's area (mean of both).
        first, last: frames of its first and last appearance.
        gaps: how often it vanishes and comes back.
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
    """One video, or one image as a video of one frame.

    Attributes:
        name: the folder of its frames, or an image's file name.
        height, width, length: of the video, in pixels and frames.
        tracks: those that are visible somewhere.
        objects: number of visible objects in each frame.
        overlap: for each frame with objects, which share of the area that boxes cover is covered
            by two or more: the bounding-box overlap rate of OVIS (Qi et al., *Occluded Video
            Instance Segmentation: A Benchmark*, IJCV 2022), a measure of occlusion, 0..1.
    """

    name: str
    height: int
    width: int
    length: int
    tracks: list[TrackStatistics]
    objects: list[int]
    overlap: list[float]


def measure_set(annotation_set: AnnotationSet) -> list[VideoStatistics]:
    """Measure all videos or images of a file, one after the other.

    Raises:
        InputError: the file has no annotations, or a mask is broken; says which.
    """
    if not annotation_set.annotated:
        raise InputError("the file has no annotations")
    videos = list(annotation_set.videos.values())
    return [_measure_video(annotation_set, video) for video in show_progress(videos, "measuring")]


def _measure_video(annotation_set: AnnotationSet, video: Video) -> VideoStatistics:
    report = refuse_faults(annotation_set.where)
    tracks = []
    boxes: list[list[np.ndarray]] = [[] for _ in range(video.length)]  # of each frame
    for entry in annotation_set.entries[video.id]:
        annotation = parse_annotation(entry, video, report)
        if annotation is None or annotation.crowd:
            continue
        masked = _masked_boxes(annotation, video, report)
        alone: dict[int, tuple[np.ndarray, float]] = {
            frame: (np.array(box, dtype=float), box[2] * box[3])
            for frame, box in annotation.boxes_alone().items()
        }
        shown = dict(sorted((masked | alone).items()))
        if shown:
            category = annotation_set.categories[annotation.category_id]
            tracks.append(_measure_track(category, shown, len(masked)))
        for frame, (box, _) in shown.items():
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
    """Box ``(x, y, width, height)`` and area of the mask in each frame that shows one."""
    place = {**video.place, "annotation": annotation.id}
    masks, areas = decode_track(annotation.segmentations, video, place, report)
    return {
        frame: (coco_mask.toBbox(mask), area)
        for frame, (mask, area) in enumerate(zip(masks, areas.tolist(), strict=True))
        if mask and area
    }


def _measure_track(
    category: str, shown: dict[int, tuple[np.ndarray, float]], masks: int
) -> TrackStatistics:
    """One track from box and area in each frame that shows it, in frame order."""
    frames = list(shown)
    neighbours = [(one, other) for one, other in pairwise(frames) if other == one + 1]
    return TrackStatistics(
        category=category,
        frames=len(frames),
        masks=masks,
        area=sum(area for _, area in shown.values()) / len(frames),
        motion=[_motion(shown[one][0], shown[other][0]) for one, other in neighbours],
        first=frames[0],
        last=frames[-1],
        gaps=len(frames) - 1 - len(neighbours),
    )


def _motion(one: np.ndarray, other: np.ndarray) -> float:
    """How far a box's centre moves, in multiples of its size."""
    step = other[:2] + other[2:] / 2 - one[:2] - one[2:] / 2
    size = (np.sqrt(one[2:].prod()) + np.sqrt(other[2:].prod())) / 2
    return float(np.hypot(*step) / size)


def overlap_rate(boxes: np.ndarray) -> float:
    """Share of the area within any of the boxes that lies in two or more.

    Args:
        boxes: ``(N, 4)`` of (x, y, width, height), N at least 1, each with an area.
    """
    starts, ends = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    x, y = (np.unique(np.concatenate([starts[:, k], ends[:, k]])) for k in (0, 1))
    # Between neighbouring edges of boxes nothing changes, so one cell there stands for all.
    in_x = (starts[:, :1] <= x[:-1]) & (x[:-1] < ends[:, :1])
    in_y = (starts[:, 1:] <= y[:-1]) & (y[:-1] < ends[:, 1:])
    depth = in_y.T.astype(int) @ in_x.astype(int)
    cells = np.diff(y)[:, None] * np.diff(x)
    return float(cells[depth > 1].sum() / cells[depth > 0].sum())


def summarise_set(videos: Sequence[VideoStatistics], kind: str) -> dict[str, Any]:
    """The numbers of ``measure_set`` pooled, as JSON.

    Args:
        videos: at least one video or image.
        kind: "video" or "image".

    Returns:
        ``classes``: ``{name: {tracks, masks, videos}}`` by descending tracks; ``videos``,
        ``frames``, ``tracks``, ``masks``, ``boxes_only`` (boxes without a mask): totals;
        ``sizes``: ``{"WxH": videos}``;
        ``video_length``, ``track_length``, ``mask_side`` (root of the mean area, pixels),
        ``motion``, ``objects_per_video``, ``objects_per_frame``, ``overlap_rate``: each
        ``{min, median, mean, max}``, None without any; ``small``, ``medium``, ``large``: tracks
        by the metric's area ranges; ``entries`` and ``exits``: tracks that begin after the first
        or end before the last frame; ``gaps``: how often tracks vanish and come back.
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
    """Smallest, median, mean and largest value; None of none."""
    if not values:
        return None
    return {
        "min": float(np.min(values)),
        "median": float(np.median(values)),
        "mean": float(np.mean(values)),
        "max": float(np.max(values)),
    }
