"""Ground truth and results of a set of videos, one video at a time, for evaluation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet, Video, open_ground_truth
from queryinst_vis.formats.annotations import (
    decode_masks,
    is_one_per_frame,
    parse_annotation,
    without_empty,
)
from queryinst_vis.formats.findings import Report, refuse_faults
from queryinst_vis.formats.json_stream import Packed, Span, read_values
from queryinst_vis.formats.names import videos_checksum
from queryinst_vis.formats.predictions import file_name, open_predictions
from queryinst_vis.masks import RLE
from queryinst_vis.masks.decoded import DecodedMasks
from queryinst_vis.utils.allocator import steady_memory

_MASKS = "segmentations"
_USE = "evaluation of masks"

Entries = list[dict[str, Any]]


@dataclass(frozen=True)
class MaskTrack:
    """A ground-truth or predicted track.

    Attributes:
        id: the annotation's id, or the position of the detection in its file.
        category_id: category id of the ground truth.
        masks: one compressed RLE per frame, None where the object is absent.
        sizes: ``(frames,)`` pixels of each mask, 0 where the object is absent.
        area: mean mask area in pixels over the frames with the object; 0 if there are none.
        score: confidence of a detection; 1 for ground truth.
        crowd: a ground-truth group (``iscrowd``), which is ignored and may be matched repeatedly.
        decoded: ``(frames,)`` decoded masks for fast comparisons, or None.
    """

    id: int
    category_id: int
    masks: list[RLE | None]
    sizes: np.ndarray
    area: float
    score: float = 1.0
    crowd: bool = False
    decoded: DecodedMasks | None = field(default=None, repr=False, compare=False)

    def shown(self) -> dict[int, RLE]:
        """Its masks by frame."""
        return {frame: mask for frame, mask in enumerate(self.masks) if mask}


@dataclass(frozen=True)
class VideoTracks:
    """Ground truth and detections of one video, in file order."""

    video: Video
    ground_truth: list[MaskTrack]
    detections: list[MaskTrack]

    def by_class(self) -> dict[int, VideoTracks]:
        """The video with the tracks of one class only, for each of its classes."""
        classes: dict[int, VideoTracks] = defaultdict(lambda: VideoTracks(self.video, [], []))
        for track in self.ground_truth:
            classes[track.category_id].ground_truth.append(track)
        for track in self.detections:
            classes[track.category_id].detections.append(track)
        return dict(classes)


@dataclass(frozen=True)
class UnreadVideo:
    """A video with its entries, whose masks may not have been read yet; can be pickled.

    Attributes:
        video: the video.
        ground_truth, detections: entries of the two files.
        names: names of the two files, for error messages.
    """

    video: Video
    ground_truth: Entries
    detections: Entries
    names: tuple[str, str]

    def read(self) -> VideoTracks:
        """Read the entries and validate their masks.

        Raises:
            InputError: a mask is invalid.
        """
        where, where_found = self.names
        return VideoTracks(
            self.video,
            parse_ground_truth(
                _read(self.ground_truth, where), self.video, refuse_faults(where, _USE)
            ),
            parse_detections(
                _read(self.detections, where_found), self.video, refuse_faults(where_found)
            ),
        )


class VideoSet:
    """The annotated videos of a file and the results for them; iterates over ``VideoTracks``.

    Videos are sorted by id and read on demand: of each entry in a file, only the ids, the score and
    the byte range stay in memory.

    Attributes:
        categories: class name by category id, ids ascending.
        videos: every video of the ground truth by ascending id, also those without tracks.
        names: unique name by video id.
        checksum: checksum of the set, see ``names.videos_checksum``.
    """

    def __init__(
        self,
        gt: str | Path | dict[str, Any] | AnnotationSet,
        results: str | Path | list[dict[str, Any]],
    ) -> None:
        """Open both files.

        Args:
            gt: YouTube-VIS annotations: a path, its content, or a parsed set, which may lack
                annotations.
            results: YouTube-VIS results, a path (JSON, or zip with ``results.json``) or a list.

        Raises:
            InputError: a file is invalid; invalid masks are reported during iteration.
        """
        with steady_memory():
            annotation_set = (
                gt
                if isinstance(gt, AnnotationSet)
                else open_ground_truth(gt, "video", _USE, heavy=_MASKS)
            )
            self._detections = open_predictions(results, annotation_set, heavy=_MASKS)
        self._files = annotation_set.where, file_name(results)
        self.categories = dict(sorted(annotation_set.categories.items()))
        self.videos = [video for _, video in sorted(annotation_set.videos.items())]
        self.names = _unique_names(self.videos)
        self.checksum = videos_checksum(annotation_set.content["videos"])
        self._ground_truth = annotation_set.entries

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def summary(self) -> dict[str, int | str]:
        """``{"count", "checksum"}``, equal for two reports on the same videos."""
        return {"count": len(self), "checksum": self.checksum}

    def __iter__(self) -> Iterator[VideoTracks]:
        for video in self.unread():
            yield video.read()

    def unread(self) -> list[UnreadVideo]:
        """The videos in order, e.g. for reading them in other processes."""
        return [
            UnreadVideo(
                video,
                self._ground_truth[video.id],
                self._detections.get(video.id, []),
                self._files,
            )
            for video in self.videos
        ]


def _unique_names(videos: list[Video]) -> dict[int, str]:
    """A unique name for each video by id: shared names get the id as suffix."""
    count = Counter(video.name for video in videos)
    return {
        video.id: video.name if count[video.name] == 1 else f"{video.name} (video {video.id})"
        for video in videos
    }


def _read(entries: Entries, where: str) -> Entries:
    """The entries, with their masks read from the files."""
    unread = [entry[_MASKS] for entry in entries if _is_unread(entry)]
    values = read_values(unread)
    read = []
    for entry in entries:
        if _is_unread(entry):
            whole = next(values)
            if not isinstance(whole, dict) or _MASKS not in whole:
                raise InputError(f"{where}: changed while it was being read")
            entry = {**whole, **entry, _MASKS: whole[_MASKS]}
        read.append(entry)
    return read


def _is_unread(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get(_MASKS), Span | Packed)


def parse_ground_truth(entries: Entries, video: Video, report: Report) -> list[MaskTrack]:
    """The annotations of one video as tracks; ``areas``, if any, replace those of the masks."""
    parsed = (parse_annotation(entry, video, report) for entry in entries)
    annotations = [annotation for annotation in parsed if annotation is not None]
    decoded = decode_masks(
        [annotation.segmentations for annotation in annotations],
        video,
        [{**video.place, "annotation": annotation.id} for annotation in annotations],
        report,
    )
    return [
        MaskTrack(
            annotation.id,
            annotation.category_id,
            masks,
            sizes,
            mean_area(
                sizes
                if annotation.areas is None
                else np.array([area or 0.0 for area in annotation.areas], dtype=float)
            ),
            crowd=annotation.crowd,
            decoded=runs,
        )
        for annotation, (masks, sizes, runs) in zip(annotations, decoded, strict=True)
    ]


def parse_detections(entries: Entries, video: Video, report: Report) -> list[MaskTrack]:
    """The results for one video as tracks; ``id`` is their position in the file."""
    usable, places, tracks = [], [], []
    for entry in entries:
        place = {"entry": entry["id"], **video.place}
        if is_one_per_frame(entry[_MASKS], _MASKS, video, place, report):
            usable.append(entry)
            places.append(place)
            tracks.append(without_empty(entry[_MASKS], video, place, report))
    decoded = decode_masks(tracks, video, places, report)
    areas = mean_areas(np.array([sizes for _, sizes, _ in decoded]).reshape(-1, video.length))
    return [
        MaskTrack(
            entry["id"],
            entry["category_id"],
            masks,
            sizes,
            area,
            score=float(entry["score"]),
            decoded=runs,
        )
        for entry, area, (masks, sizes, runs) in zip(usable, areas.tolist(), decoded, strict=True)
    ]


def mean_areas(areas: np.ndarray) -> np.ndarray:
    """``mean_area`` of each row of ``(tracks, frames)`` int64 areas."""
    shown = np.count_nonzero(areas, axis=1)
    means = np.zeros(len(areas))
    return np.divide(areas.sum(axis=1), shown, out=means, where=shown > 0)


def mean_area(areas: np.ndarray) -> float:
    """Mean over the frames with the object, i.e. with a non-zero area."""
    shown = areas[areas != 0]
    return float(shown.mean()) if shown.size else 0.0
