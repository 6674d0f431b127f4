"""Detect the format of custom data, and convert it to COCO or YouTube-VIS content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queryinst_vis.data.convert.builder import summarise
from queryinst_vis.data.convert.coco import complete_coco
from queryinst_vis.data.convert.cvat import (
    XML_NAME,
    is_cvat_of_images,
    read_cvat_images,
    read_cvat_videos,
)
from queryinst_vis.data.convert.labelme import read_labelme_images, read_labelme_videos
from queryinst_vis.data.convert.voc import read_voc
from queryinst_vis.data.convert.yolo import has_yolo_part, read_yolo
from queryinst_vis.data.convert.youtube_vis import repair
from queryinst_vis.errors import InputError
from queryinst_vis.formats.reading import read_annotations
from queryinst_vis.utils.files import read_json

YAML_NAME = "data.yaml"
ROBOFLOW_NAME = "_annotations.coco.json"


@dataclass(frozen=True)
class OwnData:
    """Custom annotations, converted to COCO or YouTube-VIS.

    Attributes:
        kind: name of the format.
        content: of a COCO or YouTube-VIS file.
        images: folder that its file names are relative to.
        validation: the validation set of the data, or None.
    """

    kind: str
    content: dict[str, Any]
    images: Path
    validation: OwnData | None = None


def read_own_data(
    source: str | Path, images: str | Path | None = None, videos: bool = False
) -> OwnData:
    """Read annotations in any supported format.

    ======================= =====================================================================
    COCO, YouTube-VIS       a ``.json`` file, or a folder with ``_annotations.coco.json``
    labelme                 a folder with ``.json`` files, or one of them
    CVAT                    a folder with ``annotations.xml`` (of images or video), or the file
    YOLO                    ``data.yaml``, or its folder; a ``val`` in it is the validation set
    Pascal VOC              a folder with ``.xml`` files, or with ``Annotations`` and ``JPEGImages``
    ======================= =====================================================================

    Args:
        source: the file or folder.
        images: folder of the images; None: the default of the format.
        videos: labelme folders are videos, as for ``convert_labelme``; False: single images.

    Raises:
        InputError: an unknown or unreadable source.
    """
    path = Path(source)
    folder = None if images is None else Path(images)
    if folder is not None and not folder.is_dir():
        raise InputError(f"image folder {folder}: no such folder")
    if path.is_dir():
        return _read_folder(path, folder, videos)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    if path.suffix in (".yaml", ".yml"):
        return _read_yolo(path, folder)
    if path.suffix == ".xml":
        return _read_folder(path.parent, folder, videos)
    if path.suffix == ".json" and _is_labelme(path):
        return _read_labelme(path.parent, folder, videos)
    content = read_annotations(path)
    root = folder or _image_folder(path, content)
    if content.get("annotations") is None:
        raise InputError(f"{path}: has no 'annotations' to train on")
    if "videos" in content:
        return OwnData("YouTube-VIS", repair(content, str(path))[0], root)
    return OwnData("COCO", complete_coco(content, str(path)), root)


def _read_folder(path: Path, images: Path | None, videos: bool) -> OwnData:
    if (path / YAML_NAME).is_file():
        return _read_yolo(path / YAML_NAME, images)
    if (path / XML_NAME).is_file() or any(path.glob(f"*/{XML_NAME}")):
        return _read_cvat(path, images)
    if (path / ROBOFLOW_NAME).is_file():
        return read_own_data(path / ROBOFLOW_NAME, images)
    if any(path.glob("*.xml")) or any(path.glob("Annotations/*.xml")):
        content, root = read_voc(path, images)
        return OwnData("Pascal VOC", content, root)
    files = sorted(path.rglob("*.json"))
    if files and _is_labelme(files[0]):
        return _read_labelme(path, images, videos)
    if len(files) == 1:
        return read_own_data(files[0], images)
    raise InputError(
        f"{path}: contains no annotations in a known format: a COCO or YouTube-VIS .json, labelme "
        f".json files, CVAT's {XML_NAME}, YOLO's {YAML_NAME} or Pascal VOC .xml files"
    )


def _is_labelme(path: Path) -> bool:
    content = read_json(path, "annotation file")
    return isinstance(content, dict) and "shapes" in content


def _read_labelme(path: Path, images: Path | None, videos: bool) -> OwnData:
    _refuse_images(images, "labelme, whose files contain the image paths")
    if not videos:
        return OwnData("labelme", _image_set(*read_labelme_images(path)), path)
    return OwnData("labelme videos", _video_set(*read_labelme_videos(path)), path)


def _refuse_images(images: Path | None, kind: str) -> None:
    if images is not None:
        raise InputError(f"--images: not used for {kind}")


def _read_cvat(path: Path, images: Path | None) -> OwnData:
    _refuse_images(images, "CVAT, whose images are beside annotations.xml")
    if (path / XML_NAME).is_file() and is_cvat_of_images(path / XML_NAME):
        return OwnData("CVAT images", _image_set(*read_cvat_images(path)), path)
    return OwnData("CVAT videos", _video_set(*read_cvat_videos(path)), path)


def _image_set(image_set: dict[str, Any], skipped: Mapping[str, int]) -> dict[str, Any]:
    """Print what was left out."""
    for what, count in skipped.items():
        print(f"{what}: {count}")
    return image_set


def _video_set(video_set: dict[str, Any], notes: Mapping[str, int]) -> dict[str, Any]:
    """Print what was read, and leave out the masks of tracks drawn as boxes.

    Converters fill boxes, and a model trained on such masks would predict rectangles.
    """
    print(summarise(video_set, notes))
    tracks = []
    for track in video_set["annotations"]:
        visible = [
            (box, area)
            for box, area in zip(track["bboxes"], track["areas"], strict=True)
            if box is not None
        ]
        if all(area == box[2] * box[3] for box, area in visible):
            track = {**track, "segmentations": [None] * len(track["segmentations"])}
        tracks.append(track)
    return {**video_set, "annotations": tracks}


def _read_yolo(path: Path, images: Path | None) -> OwnData:
    content, root = read_yolo(path, "train", images)
    validation = None
    if images is None and has_yolo_part(path, "val"):
        val_content, folder = read_yolo(path, "val")
        if folder != root:
            validation = OwnData("YOLO", val_content, folder)
    return OwnData("YOLO", content, root, validation)


def _image_folder(path: Path, content: dict[str, Any]) -> Path:
    """The folder of the first image of a file: that of the file, or ``images`` in it."""
    entries = content.get("videos") or content.get("images") or [{}]
    first = entries[0] if isinstance(entries, list) and isinstance(entries[0], dict) else {}
    names = first.get("file_names") or [first.get("file_name")]
    name = names[0] if isinstance(names, list) else None
    for folder in (path.parent, path.parent / "images"):
        if isinstance(name, str) and (folder / name).is_file():
            return folder
    raise InputError(f"{path}: its images are not next to it; give their folder with --images DIR")
