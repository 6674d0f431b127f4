"""Building and writing annotation files in YouTube-VIS format, and the same frames as COCO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.formats.names import first_image_ids
from queryinst_vis.masks import RLE
from queryinst_vis.utils.files import files_together, write_json_atomically


class LabelledTrack(NamedTuple):
    """One instance of a video.

    Attributes:
        class_name: its class.
        masks: one compressed RLE per frame of the video, None where the instance is absent.
        crowd: whether this is an ignore region rather than an instance.
    """

    class_name: str
    masks: list[RLE | None]
    crowd: bool = False


class LabelledVideo(NamedTuple):
    """One video of a data set.

    Attributes:
        file_names: of its frames, relative to the image folder.
        height, width: of a frame, in pixels.
        tracks: its instances.
    """

    file_names: list[str]
    height: int
    width: int
    tracks: list[LabelledTrack]


def build_video_set(
    videos: Sequence[LabelledVideo], description: str, class_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """The content of a YouTube-VIS annotation file, with ids from 1.

    Args:
        videos: all videos.
        description: of the set.
        class_names: the categories in order; None: those of the tracks, sorted.

    Raises:
        ValueError: the number of a track's masks differs from the number of frames.
    """
    if class_names is None:
        class_names = sorted({track.class_name for video in videos for track in video.tracks})
    category_ids = {name: number for number, name in enumerate(class_names, start=1)}
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for video_id, video in enumerate(videos, start=1):
        length = len(video.file_names)
        size = {"width": video.width, "height": video.height, "length": length}
        entries.append({"id": video_id, **size, "file_names": video.file_names})
        for track in video.tracks:
            if len(track.masks) != length:
                raise ValueError(f"{len(track.masks)} masks for a video of {length} frames")
            bboxes, areas = boxes_and_areas(track.masks)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "video_id": video_id,
                    "category_id": category_ids[track.class_name],
                    "iscrowd": int(track.crowd),
                    **size,
                    "segmentations": track.masks,
                    "bboxes": bboxes,
                    "areas": areas,
                }
            )
    return {
        "info": {"description": description},
        "licenses": [],
        "videos": entries,
        "annotations": annotations,
        "categories": [
            {"id": id_, "name": name, "supercategory": "object"}
            for name, id_ in category_ids.items()
        ],
    }


def boxes_and_areas(
    rles: Sequence[RLE | None],
) -> tuple[list[list[float] | None], list[float | None]]:
    """COCO's ``[x, y, width, height]`` and area of each mask; None without a mask."""
    bboxes = [None if rle is None else coco_mask.toBbox(rle).tolist() for rle in rles]
    return bboxes, [None if rle is None else int(coco_mask.area(rle)) for rle in rles]


def write_video_set(
    dst: str | Path,
    video_set: dict[str, Any],
    notes: Mapping[str, int] | None = None,
    coco_json: str | Path | None = None,
) -> str:
    """Write an annotation file, and optionally its frames as a COCO image set.

    Args:
        dst: annotation file to write.
        video_set: its content; ``annotations`` may be null, but not for a COCO set.
        notes: for ``describe``.
        coco_json: also write this COCO annotation file.

    Returns:
        One-line summary.
    """
    with files_together():
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
    """One-line summary of a conversion: what was written, and what was changed or skipped.

    Args:
        dst: the file or folder that was written.
        video_set: content of a YouTube-VIS annotation file; its ``annotations`` may be null.
        notes: counts by description; zero counts are omitted.
    """
    return f"wrote {dst}: {summarise(video_set, notes)}"


def summarise(video_set: dict[str, Any], notes: Mapping[str, int] | None = None) -> str:
    """The same without the name of the file: numbers of videos and tracks, and the notes."""
    tracks = video_set["annotations"]
    amount = "no annotations" if tracks is None else f"{len(tracks)} tracks"
    changes = "".join(f"; {what}: {count}" for what, count in (notes or {}).items() if count)
    return f"{len(video_set['videos'])} videos, {amount}{changes}"


def check_two_names(first: str | Path, second: str | Path | None) -> None:
    """Raise an InputError if both annotation files to write have the same path."""
    if second is not None and Path(first).resolve() == Path(second).resolve():
        raise InputError(f"{first}: given for both annotation files; use different names")


def youtube_vis_to_coco(video_set: dict[str, Any]) -> dict[str, Any]:
    """The same frames as a COCO image set, so that every video set can train the image model.

    Each frame becomes an image, each mask or box of a track an annotation. ``file_name`` is
    relative to the same folder; ``video_id``, ``frame_index`` and ``track_id`` identify the
    source of images and annotations. Image ids are those of ``names.first_image_ids``.

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
        frames = zip(track["segmentations"], track["bboxes"], track["areas"], strict=True)
        for frame_index, (segmentation, bbox, area) in enumerate(frames):
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
