"""Reader of the YouTube-VIS family: YouTube-VIS 2019, 2021 and 2022, OVIS."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotations import (
    Box,
    ImageRecord,
    Instance,
    check_folder,
    known_annotations,
    match_classes,
    one_a_frame,
    parse_shape,
    read_annotations,
)
from queryinst_vis.formats.fields import check_unique, require, require_size
from queryinst_vis.formats.names import video_name


@dataclass(frozen=True)
class TrackRecord:
    """One annotated object, or one crowd, through its video.

    Attributes:
        id: the annotation's id.
        label: 0-based index into the model's classes.
        boxes: xyxy in pixels for each frame, or None (then the mask's bounding box counts).
        segmentations: for each frame as the file has them, or None (then only the box is known).
            A frame with neither box nor segmentation does not show the object.
    """

    id: int
    label: int
    boxes: list[Box | None]
    segmentations: list[Any | None]

    def at(self, index: int) -> Instance | None:
        """The object in frame ``index``, or None where the frame does not show it."""
        box, segmentation = self.boxes[index], self.segmentations[index]
        if box is None and segmentation is None:
            return None
        return Instance(self.id, self.label, box, segmentation)


@dataclass(frozen=True)
class VideoRecord:
    """One video: its frames' files and its annotations of the classes that the model knows.

    Attributes:
        id: the file's id of it.
        name: the folder of its frames.
        height, width: of a frame, in pixels.
        paths: one image file per frame.
        tracks: the objects to train on.
        ignored: crowds, that is regions in which nothing is known.
    """

    id: int
    name: str
    height: int
    width: int
    paths: list[Path]
    tracks: list[TrackRecord] = field(default_factory=list)
    ignored: list[TrackRecord] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.paths)

    def frame(self, index: int) -> ImageRecord:
        """Frame ``index`` (0-based) as an image with the instances and crowds that it shows."""
        instances, ignored = (
            [shown for track in tracks if (shown := track.at(index)) is not None]
            for tracks in (self.tracks, self.ignored)
        )
        return ImageRecord(index, self.paths[index], self.height, self.width, instances, ignored)

    def annotated_frames(self) -> list[int]:
        """Indices of the frames that show at least one instance to train on."""
        return [
            index
            for index in range(len(self))
            if any(track.at(index) is not None for track in self.tracks)
        ]


class YouTubeVisDataset:
    """A set of videos.

    Attributes:
        videos: every video of the file, in its order, with the tracks to train on: crowds and
            classes that the model does not know are left out.
        category_ids: the file's category id of each of ``classes``; None: the file lacks it.
        has_annotations: False for the public validation and test files, which hold none (or null).
    """

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        classes: list[str],
        content: dict[str, Any] | None = None,
    ) -> None:
        """Read and check the whole file; segmentations are decoded later, when they are used.

        Args:
            annotations: path of the JSON file.
            images: folder that the file's ``file_names`` are relative to.
            classes: class names of the model, matched by name.
            content: the parsed file, where the caller has read it already.

        Raises:
            InputError: missing or broken file, unknown or repeated ids, no class in common,
                lists that are not as long as their video, a segmentation of another size, a
                wrong image folder.
        """
        where = str(annotations)
        content = read_annotations(annotations) if content is None else content
        self.category_ids, labels = match_classes(content, classes, where)
        self.videos = [
            _read_video(entry, Path(images), where)
            for entry in require(content, "videos", list, where)
        ]
        check_unique((video.id for video in self.videos), "video id", where)
        check_folder(images, self.videos[0].paths[0] if self.videos else None, where)
        self.has_annotations = content.get("annotations") is not None
        if self.has_annotations:
            for annotation, video, label, here in known_annotations(
                content, "video", self.videos, labels, where
            ):
                group = video.ignored if annotation.get("iscrowd") else video.tracks
                group.append(_read_track(annotation, label, video, here))


def _read_video(entry: Any, folder: Path, where: str) -> VideoRecord:
    identity = require(entry, "id", int, f"{where}: videos")
    here = f"{where}: video {identity}"
    height, width = require_size(entry, here)
    names = require(entry, "file_names", list, here)
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{here}: 'file_names' must list one path per frame")
    length = entry.get("length", len(names))
    if length != len(names):
        raise InputError(f"{here}: 'length' is {length} but it lists {len(names)} file_names")
    return VideoRecord(
        identity, video_name(entry), height, width, [folder / name for name in names]
    )


def _read_track(
    annotation: dict[str, Any], label: int, video: VideoRecord, where: str
) -> TrackRecord:
    bboxes, segmentations = (
        one_a_frame(annotation, key, len(video), video.id, where)
        for key in ("bboxes", "segmentations")
    )
    if bboxes is None and segmentations is None:
        raise InputError(f"{where}: has neither 'segmentations' nor 'bboxes'")
    absent = [None] * len(video)
    shapes = [
        parse_shape(bbox, segmentation, video.height, video.width, f"{where}, frame {index}")
        for index, (bbox, segmentation) in enumerate(
            zip(bboxes or absent, segmentations or absent, strict=True)
        )
    ]
    boxes, masks = (list(values) for values in zip(*shapes, strict=True))
    return TrackRecord(annotation["id"], label, boxes, masks)
