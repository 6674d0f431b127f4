"""Reader for the YouTube-VIS format: YouTube-VIS 2019, 2021 and 2022, OVIS."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from queryinst_vis.data.records import Corners, ImageRecord, Instance, TrainingSet, to_xyxy


@dataclass(frozen=True)
class TrackRecord:
    """One annotated object or crowd in a video.

    Attributes:
        id: annotation id.
        label: 0-based index into the model's classes.
        boxes: per frame, xyxy in pixels; None: use the bounding box of the mask.
        segmentations: per frame, as in the file; None: only the box is known. The object is absent
            from frames with neither.
    """

    id: int
    label: int
    boxes: list[Corners | None]
    segmentations: list[Any | None]

    def at(self, index: int) -> Instance | None:
        """The object in frame ``index``; None if absent."""
        box, segmentation = self.boxes[index], self.segmentations[index]
        if box is None and segmentation is None:
            return None
        return Instance(self.id, self.label, box, segmentation)


@dataclass(frozen=True)
class VideoRecord:
    """The frames of a video and its annotations of the model's classes.

    Attributes:
        id: id in the annotation file.
        name: folder of its frames.
        height, width: of the frames, in pixels.
        paths: image file of each frame.
        tracks: the training instances.
        ignored: crowds, i.e. ignore regions.
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
        """Frame ``index`` (0-based) with its instances and crowds."""
        instances, ignored = (
            [instance for track in tracks if (instance := track.at(index)) is not None]
            for tracks in (self.tracks, self.ignored)
        )
        return ImageRecord(index, self.paths[index], self.height, self.width, instances, ignored)

    def annotated_frames(self) -> list[int]:
        """Indices of the frames with at least one training instance."""
        return [
            index
            for index in range(len(self))
            if any(track.at(index) is not None for track in self.tracks)
        ]


class YouTubeVisDataset:
    """A set of videos.

    Attributes:
        videos: all videos in file order, with training instances and crowds of the model's
            classes.
        category_ids: category id of each of ``classes`` in the file; None if missing.
        has_annotations: False for files without annotations, such as public test files.
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
            images: folder of the images; ``file_names`` are relative to it.
            classes: class names of the model, matched by name.
            content: the parsed file, if already read.
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
