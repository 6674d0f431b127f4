"""YOLO and Pascal VOC folders to COCO, read with supervision."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import supervision as sv
import yaml

from queryinst_vis.data.convert.image_sets import (
    LabelledImage,
    LabelledInstance,
    build_image_set,
)
from queryinst_vis.data.convert.images import image_size
from queryinst_vis.errors import InputError
from queryinst_vis.masks import encode_rle
from queryinst_vis.utils.files import natural_key

_BOX_WORDS = 6  # maximum of a YOLO box line (class, box, optional score); polygons have more


def read_yolo(path: Path, part: str, images: Path | None = None) -> tuple[dict[str, Any], Path]:
    """One part of a YOLO data set: boxes, polygons, or both.

    Labels are in the folder ``labels`` beside the folder ``images``, as usual in YOLO.
    Images without a label file have no objects. Box lines become instances without a mask.

    Args:
        path: ``data.yaml``.
        part: ``train`` or ``val``: the key of the image folder.
        images: image folder, overrides that of the file.

    Returns:
        Content of a COCO file, and the folder that its file names are relative to.

    Raises:
        InputError: an unreadable file, or a folder that is missing or outside
            that of ``data.yaml``.
    """
    values = _read_yaml(path)
    folder = images or _part_folder(path, values, part)
    labels = _label_folder(folder)
    try:
        dataset = sv.DetectionDataset.from_yolo(str(folder), str(labels), str(path))
    except (ValueError, IndexError, OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable as YOLO ({_line(error)})") from error

    def has_box_only(image: str, count: int) -> list[bool]:
        file = labels / f"{Path(image).stem}.txt"
        lines = [line.split() for line in file.read_text().splitlines() if line.strip()]
        words = [len(line) for line in lines]
        return (
            [number <= _BOX_WORDS for number in words] if len(words) == count else [False] * count
        )

    name = f"YOLO, {path.parent.name}"
    return _to_coco(dataset, dataset.image_paths, folder, name, has_box_only), folder


def has_yolo_part(path: Path, part: str) -> bool:
    """Whether a ``data.yaml`` has a folder for this part."""
    return bool(_read_yaml(path).get(part))


def read_voc(folder: Path, images: Path | None = None) -> tuple[dict[str, Any], Path]:
    """A Pascal VOC folder with boxes or polygons.

    Args:
        folder: of the XML files; or the parent of ``Annotations`` and ``JPEGImages``.
        images: image folder (default: ``JPEGImages``, otherwise that of the XML files).

    Returns:
        Content of a COCO file, and the folder that its file names are relative to.

    Raises:
        InputError: an unreadable file, or an XML file without its image.
    """
    files = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    beside = folder / "JPEGImages"
    images = images or (beside if beside.is_dir() else files)
    annotated = sorted(files.glob("*.xml"))
    for file in annotated:
        _check_xml(file)
    try:
        dataset = sv.DetectionDataset.from_pascal_voc(str(images), str(files))
    except (ValueError, SyntaxError, AttributeError, TypeError, OSError) as error:
        raise InputError(f"{files}: not readable as Pascal VOC ({_line(error)})") from error
    chosen = _annotated_images(dataset.image_paths, annotated)
    description = f"Pascal VOC, {folder.name}"
    return _to_coco(dataset, chosen, images, description, lambda _, n: [False] * n), images


def _annotated_images(images: list[str], annotations: list[Path]) -> list[str]:
    """The images with an XML file; others may show unannotated objects, so they are left out."""
    stems = {file.stem for file in annotations}
    chosen = [image for image in images if Path(image).stem in stems]
    missing = stems - {Path(image).stem for image in chosen}
    if missing:
        file = next(each for each in annotations if each.stem in missing)
        raise InputError(f"{file}: there is no image of this name")
    if left_out := len(images) - len(chosen):
        print(f"images without an XML file left out: {left_out}")
    return chosen


def _to_coco(
    dataset: sv.DetectionDataset,
    images: list[str],
    folder: Path,
    description: str,
    has_box_only: Any,
) -> dict[str, Any]:
    if not images:
        raise InputError(f"{folder}: contains no images; give their folder with --images")
    labelled = []
    for image in sorted(images, key=lambda image: natural_key(Path(image))):
        detections = dataset.annotations[image]
        height, width = image_size(Path(image))
        masks, classes = detections.mask, detections.class_id
        if masks is not None and len(masks) and masks.shape[1:] != (height, width):
            raise InputError(
                f"{image}: its masks have another size; is the image rotated by its EXIF tag?"
            )
        box_only = has_box_only(image, len(detections)) if masks is not None else []
        instances = []
        for number, (box, label) in enumerate(
            zip(detections.xyxy, [] if classes is None else classes, strict=True)
        ):
            mask = None if masks is None or box_only[number] else np.asarray(masks[number])
            rle = encode_rle(mask) if mask is not None and mask.any() else None
            x0, y0, x1, y1 = np.clip(box, 0, (width, height, width, height)).tolist()
            if x1 > x0 and y1 > y0:
                name = dataset.classes[int(label)]
                instances.append(LabelledInstance(name, rle, (x0, y0, x1, y1)))
        name = Path(image).relative_to(folder).as_posix()
        labelled.append(LabelledImage(name, height, width, instances))
    return build_image_set(labelled, description, dataset.classes)


def _check_xml(file: Path) -> None:
    """Reject a file that is not XML or could define entities."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        if "<!DOCTYPE" in text:
            raise InputError(
                f"{file}: has a document type declaration, which VOC files do not have; rejected"
            )
        ElementTree.fromstring(text)
    except (OSError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise InputError(f"{file}: not readable as XML ({_line(error)})") from error


def _part_folder(path: Path, values: dict[str, Any], part: str) -> Path:
    """The image folder given by ``data.yaml``, which must be below the folder of the file."""
    named = values.get(part)
    if not isinstance(named, str) or Path(named).suffix == ".txt":
        raise InputError(f"{path}: '{part}' is {named!r:.60}, not a folder; use --images")
    root, base = path.parent.resolve(), values.get("path") or "."
    for start in (root / str(base), root):
        # Roboflow writes ../train/images for train/images
        for name in (named, named.removeprefix("../")):
            folder = Path(os.path.normpath(start / name))
            if folder.is_relative_to(root) and folder.is_dir():
                images = folder / "images"
                return images if images.is_dir() else folder
    raise InputError(
        f"{path}: the folder '{named}' of '{part}' is not next to the file; use --images"
    )


def _label_folder(images: Path) -> Path:
    """YOLO's rule: the last ``images`` of the path becomes ``labels``."""
    parts = list(images.parts)
    for index in reversed(range(len(parts))):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    folder = Path(*parts)
    if folder == images and (images / "labels").is_dir():
        return images / "labels"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; it should contain the labels of {images}")
    return folder


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable as YAML ({_line(error)})") from error
    if not isinstance(values, dict) or "names" not in values:
        raise InputError(f"{path}: is not a YOLO data.yaml: 'names' is missing")
    names = values["names"]
    if isinstance(names, dict) and set(names) != set(range(len(names))):
        raise InputError(
            f"{path}: 'names' must number the classes from 0 without gaps; it has "
            f"{', '.join(map(str, names)):.60}"
        )
    if "kpt_shape" in values:
        raise InputError(
            f"{path}: has keypoints ('kpt_shape'), which are not supported; keep only the class "
            "and the box, the first five numbers of each label line, and remove 'kpt_shape'"
        )
    return values


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
