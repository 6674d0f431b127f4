"""Writing the tracks of one video in data set formats, as self-contained files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.formats.mots import (
    CLASS_NUMBERS,
    IGNORE_CLASS,
    FrameMasks,
    ObjectIds,
    write_mots_text,
)
from queryinst_vis.formats.mots_results import Overlaps, check_mots_classes
from queryinst_vis.formats.results import stream_youtube_vis_entries, write_results
from queryinst_vis.formats.track_store import TrackStore, VideoInfo
from queryinst_vis.utils.files import atomic_path

VIDEO_ID = 1
"""Video id in formats that number videos."""


def write_video_results(
    path: str | Path, tracks: TrackStore, video: VideoInfo, with_times: bool
) -> None:
    """Write the tracks as YouTube-VIS results, with ``track_id``; category ids are labels + 1.

    Args:
        path: the file; written completely or not at all.
        tracks: the tracks of the video.
        video: its properties.
        with_times: add ``"seconds"``, the time of each frame, to every entry.
    """
    category_ids = range(1, len(video.class_names) + 1)
    entries = stream_youtube_vis_entries(
        tracks, VIDEO_ID, category_ids, with_times, with_track_ids=True
    )
    write_results(path, entries)


@dataclass
class MotsLosses(Overlaps):
    """What was lost in conversion to MOTS.

    Attributes:
        tracks: dropped, because a class has only 999 ids.
    """

    tracks: int = 0

    def __bool__(self) -> bool:
        return bool(self.cut or self.hidden or self.tracks)

    def __str__(self) -> str:
        more = f"; {self.tracks} tracks beyond the 999 of a class are left out"
        return super().__str__() + (more if self.tracks else "")


def mots_numbers(class_names: list[str], chosen: Mapping[str, int] | None = None) -> dict[int, int]:
    """MOTS class by label: as in the benchmarks (car 1, person 2), then the next free numbers.

    Args:
        class_names: of the labels.
        chosen: numbers by class name, which take precedence.

    Raises:
        InputError: a chosen number is 10 (ignore regions) or occurs twice.
    """
    chosen = chosen or {}
    labels = dict(enumerate(class_names))
    numbers = {label: chosen[name] for label, name in labels.items() if name in chosen}
    check_mots_classes(numbers, labels)
    for label, name in labels.items():
        number = CLASS_NUMBERS.get(name.lower())
        if number is not None and label not in numbers and number not in numbers.values():
            numbers[label] = number
    free = (n for n in range(3, 4 + 2 * len(class_names)) if n != IGNORE_CLASS)
    for label in labels:
        if label not in numbers:
            numbers[label] = next(n for n in free if n not in numbers.values())
    return dict(sorted(numbers.items()))


def write_mots_video(
    path: str | Path,
    tracks: TrackStore,
    video: VideoInfo,
    first_frame: int = 1,
    chosen: Mapping[str, int] | None = None,
) -> MotsLosses:
    """Write the text file of one MOTS sequence; memory does not grow with the video.

    Frames are numbered consecutively, regardless of the stride. Where masks overlap, the track
    with the higher score keeps the pixels.

    Args:
        path: the file; written completely or not at all.
        tracks: the tracks of the video.
        video: its properties.
        first_frame: number of the first frame: 1 in MOTSChallenge, 0 in KITTI MOTS.
        chosen: as for ``mots_numbers``.
    """
    losses = MotsLosses()
    numbers = mots_numbers(video.class_names, chosen)
    object_ids = ObjectIds()
    ids: dict[int, int] = {}
    scores: dict[int, float] = {}
    for track in tracks:
        scores[track.track_id] = track.score
        try:
            where = f"track {track.track_id}"
            ids[track.track_id] = object_ids.assign(numbers[track.label], where)
        except InputError:  # drop a track rather than lose all results
            losses.tracks += 1

    def frames() -> Iterator[tuple[int, FrameMasks]]:
        for frame in tracks.frames():
            shown = sorted(frame.tracks, key=lambda item: -scores[item[0]])
            masks = {
                ids[track_id]: seen.segmentation
                for track_id, seen in shown
                if track_id in ids and coco_mask.area(seen.segmentation)
            }
            if masks:
                yield first_frame + frame.frame, losses.remove(masks)

    with atomic_path(path) as temporary:
        write_mots_text(temporary, frames())
    return losses


def write_coco_video_document(path: str | Path, tracks: TrackStore, video: VideoInfo) -> None:
    """Write a COCO-video (CocoVID, TAO) file of one video, whose tracks are the annotations.

    It can be read by ``pycocotools.coco.COCO``. Annotations have ``track_id`` (and
    ``instance_id``, its name in CocoVID) and ``score`` in addition to COCO's keys. Images are
    named ``NAME/000012.jpg`` after the video and the frame number. Category ids are labels
    + 1; memory does not grow with the video.

    Args:
        path: the file; written completely or not at all.
        tracks: the tracks of the video.
        video: its properties.
    """
    height, width = tracks.frame_size
    size = {"width": width, "height": height}
    head = {
        "videos": [{"id": VIDEO_ID, "name": video.name, "fps": video.fps, **size}],
        "categories": [
            {"id": label, "name": name} for label, name in enumerate(video.class_names, start=1)
        ],
    }
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head, allow_nan=False).removesuffix("}"))
        file.write(',\n"images": [')
        for frame, (number, seconds) in enumerate(
            zip(tracks.frame_numbers(), tracks.frame_times(), strict=True)
        ):
            image = {
                "id": frame + 1,
                "video_id": VIDEO_ID,
                "frame_id": frame,
                "file_name": f"{video.name}/{number:06d}.jpg",
                "seconds": seconds,
                **size,
            }
            file.write((",\n" if frame else "\n") + json.dumps(image, allow_nan=False))
        file.write('\n],\n"annotations": [')
        annotation_id = 0
        for stored in tracks.frames():
            for track_id, seen in stored.tracks:
                annotation = {
                    "id": annotation_id + 1,
                    "image_id": stored.frame + 1,
                    "video_id": VIDEO_ID,
                    "track_id": track_id,
                    "instance_id": track_id,
                    "category_id": seen.label + 1,
                    "score": seen.score,
                    "bbox": coco_mask.toBbox(seen.segmentation).tolist(),
                    "area": int(coco_mask.area(seen.segmentation)),
                    "segmentation": seen.segmentation,
                    "iscrowd": 0,
                }
                file.write((",\n" if annotation_id else "\n") + json.dumps(annotation))
                annotation_id += 1
        file.write("\n]}\n")
