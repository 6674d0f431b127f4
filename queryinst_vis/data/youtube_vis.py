"""Reader of the YouTube-VIS family: YouTube-VIS 2019, 2021 and 2022, OVIS."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from queryinst_vis.data.records import Box, ImageRecord, Instance, TrainingSet, to_xyxy


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
        allow_outside: bool = False,
    ) -> None:
        """Read and check the whole file.

        Args:
            annotations: path of the JSON file.
            images: folder that the file's ``file_names`` are relative to.
            classes: class names of the model, matched by name.
            content: the parsed file, where the caller has read it already.
            allow_outside: as for ``TrainingSet``.

        Raises:
            InputError: as for ``TrainingSet``.
        """
        source = TrainingSet(annotations, images, classes, "video", content, allow_outside)
        self.category_ids = source.category_ids
        self.has_annotations = source.annotation_set.annotated
        self.videos: list[VideoRecord] = []
        for video in source.annotation_set.videos.values():
            paths = [Path(images) / name for name in video.file_names]
            record = VideoRecord(video.id, video.name, video.height, video.width, paths)
            self.videos.append(record)
            for annotation, label in source.annotations(video):
                boxes = annotation.boxes or [None] * video.length
                track = TrackRecord(
                    annotation.id, label, list(map(to_xyxy, boxes)), annotation.segmentations
                )
                (record.ignored if annotation.crowd else record.tracks).append(track)
