"""Building and writing annotation files in the YouTube-VIS format, and the same frames as COCO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.formats.names import first_image_ids
from queryinst_vis.masks import RLE
from queryinst_vis.utils.files import write_json_atomically


class YouTubeVisBuilder:
    """Collects videos and tracks; ``as_json`` is the content of a YouTube-VIS annotation file.

    Ids count from 1. The category ids are the positions of ``class_names``, from 1.
    """

    def __init__(self, class_names: Sequence[str], description: str) -> None:
        self._description = description
        self._categories = [
            {"id": number, "name": name, "supercategory": "object"}
            for number, name in enumerate(class_names, start=1)
        ]
        self._videos: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add_video(self, file_names: Sequence[str], height: int, width: int) -> None:
        """Start the next video; its frames' paths are relative to the image folder."""
        self._videos.append(
            {
                "id": len(self._videos) + 1,
                "width": width,
                "height": height,
                "length": len(file_names),
                "file_names": list(file_names),
            }
        )

    def add_track(self, label: int, rles: Sequence[RLE | None], *, crowd: bool = False) -> None:
        """Add an instance of the video added last.

        Args:
            label: 0-based index into the class names.
            rles: one compressed RLE per frame of the video, None where the instance is absent.
            crowd: whether this is a region to ignore rather than one instance.
        """
        video = self._videos[-1]
        if len(rles) != video["length"]:
            raise ValueError(f"{len(rles)} masks for a video of {video['length']} frames")
        bboxes, areas = boxes_and_areas(rles)
        self._annotations.append(
            {
                "id": len(self._annotations) + 1,
                "video_id": video["id"],
                "category_id": label + 1,
                "iscrowd": int(crowd),
                "width": video["width"],
                "height": video["height"],
                "length": video["length"],
                "segmentations": list(rles),
                "bboxes": bboxes,
                "areas": areas,
            }
        )

    def as_json(self) -> dict[str, Any]:
        """The annotation file's content."""
        return {
            "info": {"description": self._description},
            "licenses": [],
            "videos": self._videos,
            "annotations": self._annotations,
            "categories": self._categories,
        }


Track = tuple[str, list[RLE | None]]
"""Class name of an instance, and its mask in each frame or None."""


class LabelledVideo(NamedTuple):
    """One video of a data set to convert.

    Attributes:
        file_names: of its frames, relative to the image folder.
        height, width: of a frame, in pixels.
        tracks: the instances.
        crowds: regions to ignore.
    """

    file_names: list[str]
    height: int
    width: int
    tracks: list[Track]
    crowds: Sequence[Track] = ()


def labelled_video_set(
    videos: Sequence[LabelledVideo], description: str, class_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """The content of an annotation file.

    Args:
        videos: all videos.
        description: of the set.
        class_names: the categories; None takes the names of the tracks, sorted.
    """
    if class_names is None:
        class_names = sorted({name for video in videos for name, _ in video.tracks})
    builder = YouTubeVisBuilder(class_names, description)
    for video in videos:
        builder.add_video(video.file_names, video.height, video.width)
        for tracks, crowd in ((video.tracks, False), (video.crowds, True)):
            for name, masks in tracks:
                builder.add_track(class_names.index(name), masks, crowd=crowd)
    return builder.as_json()


def boxes_and_areas(
    rles: Sequence[RLE | None],
) -> tuple[list[list[float] | None], list[float | None]]:
    """COCO's ``[x, y, width, height]`` and the pixels of each mask, None where there is none."""
    bboxes = [None if rle is None else coco_mask.toBbox(rle).tolist() for rle in rles]
    return bboxes, [None if rle is None else int(coco_mask.area(rle)) for rle in rles]


def write_video_set(
    dst: str | Path,
    video_set: dict[str, Any],
    notes: Mapping[str, int] | None = None,
    coco_json: str | Path | None = None,
) -> str:
    """Write an annotation file, and perhaps its frames as a COCO image set.

    Args:
        dst: annotation file to write.
        video_set: its content; ``annotations`` may be null, but not for a COCO set.
        notes: for ``describe``.
        coco_json: COCO annotation file to write as well.

    Returns:
        The line that a converter returns.
    """
    if coco_json is not None:
        write_json_atomically(coco_json, youtube_vis_to_coco(video_set))
    write_json_atomically(dst, video_set)
    return describe(dst, video_set, notes)


def write_both(folder: Path, video_set: dict[str, Any]) -> None:
    """Write ``youtube_vis.json`` and ``coco.json``, the frames as images, into a folder."""
    write_video_set(folder / "youtube_vis.json", video_set, coco_json=folder / "coco.json")


def describe(
    dst: str | Path, video_set: dict[str, Any], notes: Mapping[str, int] | None = None
) -> str:
    """The line that a converter returns: what it wrote, and what happened on the way.

    Args:
        dst: the file or folder that was written.
        video_set: content of a YouTube-VIS annotation file; its ``annotations`` may be null.
        notes: what happened, and how often; what never happened is not mentioned.
    """
    tracks = video_set["annotations"]
    amount = "no annotations" if tracks is None else f"{len(tracks)} tracks"
    happened = "".join(f"; {what}: {times}" for what, times in (notes or {}).items() if times)
    return f"wrote {dst}: {len(video_set['videos'])} videos, {amount}{happened}"


def check_two_names(first: str | Path, second: str | Path | None) -> None:
    """Raise an InputError where two annotation files to write share a name."""
    if second is not None and Path(first).resolve() == Path(second).resolve():
        raise InputError(f"{first}: named for both annotation files; choose two names")


def youtube_vis_to_coco(video_set: dict[str, Any]) -> dict[str, Any]:
    """The same frames as a COCO image set, so that every video set can train the image model.

    Each frame becomes an image, each mask or box of a track one annotation. ``file_name`` stays
    relative to the same folder; ``video_id``, ``frame_index`` and ``track_id`` tell where
    images and annotations come from. Image ids are those of ``names.first_image_ids``.

    Args:
        video_set: content of a YouTube-VIS annotation file.
    """
    first_ids = first_image_ids(
        {video["id"]: len(video["file_names"]) for video in video_set["videos"]}
    )
    images = [
        {
            "id": first_ids[video["id"]] + frame_index,
            "width": video["width"],
            "height": video["height"],
            "file_name": file_name,
            "video_id": video["id"],
            "frame_index": frame_index,
        }
        for video in video_set["videos"]
        for frame_index, file_name in enumerate(video["file_names"])
    ]
    annotations: list[dict[str, Any]] = []
    for track in video_set["annotations"]:
        shown = zip(track["segmentations"], track["bboxes"], track["areas"], strict=True)
        for frame_index, (segmentation, bbox, area) in enumerate(shown):
            if bbox is None:
                continue
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": first_ids[track["video_id"]] + frame_index,
                    "category_id": track["category_id"],
                    "iscrowd": track["iscrowd"],
                    "segmentation": [] if segmentation is None else segmentation,
                    "bbox": bbox,
                    "area": area,
                    "track_id": track["id"],
                }
            )
    return {
        "info": video_set.get("info", {}),
        "licenses": video_set.get("licenses", []),
        "images": images,
        "annotations": annotations,
        "categories": video_set["categories"],
    }
