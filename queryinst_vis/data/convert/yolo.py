"""YOLO folders to COCO."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pycocotools import mask as coco_mask

from queryinst_vis.data.convert.image_sets import (
    LabelledImage,
    LabelledInstance,
    build_image_set,
)
from queryinst_vis.data.convert.images import image_files, image_size
from queryinst_vis.data.convert.outlines import polygon_rle
from queryinst_vis.errors import InputError, InputWarning, first_line
from queryinst_vis.utils.images import Size

_BOX_WORDS = (5, 6)  # of a box line: class, box, and a score if any; polygons have more


def read_yolo(path: Path, part: str, images: Path | None = None) -> tuple[dict[str, Any], Path]:
    """One part of a YOLO data set: boxes, polygons, or both.

    Labels are in the folder ``labels`` beside the folder ``images``, as usual in YOLO, both with
    the same subfolders if any. Images without a label file have no objects; label files without an
    image are left out with a warning. Box lines become instances without a mask.

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
    names = values["names"]
    classes = [str(names[number]) for number in range(len(names))]
    folder = images or _part_folder(path, values, part)
    labels = _label_folder(folder)
    labelled = []
    files = set(labels.rglob("*.txt")) - {labels / "classes.txt"}
    for image in image_files(folder, recursive=True):
        name = image.relative_to(folder)
        file = labels / name.with_suffix(".txt")
        height, width = image_size(image)
        instances = _read_labels(file, (height, width), classes) if file in files else []
        labelled.append(LabelledImage(name.as_posix(), height, width, instances))
    if not labelled:
        raise InputError(f"{folder}: contains no images; give their folder with --images")
    _warn_of_files_without_image(files, labels, labelled)
    return build_image_set(labelled, f"YOLO, {path.parent.name}", classes), folder


def has_yolo_part(path: Path, part: str) -> bool:
    """Whether a ``data.yaml`` has a folder for this part."""
    return bool(_read_yaml(path).get(part))


def _warn_of_files_without_image(
    files: set[Path], labels: Path, images: list[LabelledImage]
) -> None:
    known = {labels / Path(image.file_name).with_suffix(".txt") for image in images}
    if unknown := sorted(files - known):
        warnings.warn(
            f"{labels}: label files without an image are left out: {len(unknown)}, such as "
            f"{unknown[0].relative_to(labels)}",
            InputWarning,
            stacklevel=3,
        )


def _read_labels(file: Path, size: Size, classes: list[str]) -> list[LabelledInstance]:
    """The instances of a label file: a line for each, relative to the ``(height, width)``."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not readable as YOLO ({first_line(error)})") from error
    instances = []
    for number, line in enumerate(lines, start=1):
        if words := line.split():
            instance = _read_label(words, size, classes, f"{file}, line {number}")
            if instance is not None:
                instances.append(instance)
    return instances


def _read_label(
    words: list[str], size: Size, classes: list[str], where: str
) -> LabelledInstance | None:
    """The instance of a line; None if it is empty or outside the image."""
    height, width = size
    try:
        label = int(words[0])
        values = np.array([float(word) for word in words[1:]])
    except ValueError as error:
        raise InputError(f"{where}: not readable as YOLO ({first_line(error):.80})") from error
    if len(words) < min(_BOX_WORDS) or not np.isfinite(values).all():
        raise InputError(f"{where}: not readable as YOLO; expected a class and a box or polygon")
    if not 0 <= label < len(classes):
        raise InputError(f"{where}: class {label} is not in 'names', which has {len(classes)}")
    rle = None
    if len(words) in _BOX_WORDS:
        centre, sides = values[:2], values[2:4]
        if (sides < 0).any():
            raise InputError(f"{where}: its box has a negative size")
        corners = np.stack([centre - sides / 2, centre + sides / 2]) * (width, height)
    else:
        pairs = values[: len(values) // 2 * 2]  # a score may follow
        corners = pairs.reshape(-1, 2) * (width, height)
        rle = polygon_rle([(x, y) for x, y in corners.tolist()], height, width, where)
    x0, y0 = np.clip(corners.min(0), 0, (width, height)).tolist()
    x1, y1 = np.clip(corners.max(0), 0, (width, height)).tolist()
    if not (x1 > x0 and y1 > y0):
        return None
    has_mask = rle is not None and coco_mask.area(rle) > 0
    return LabelledInstance(classes[label], rle if has_mask else None, (x0, y0, x1, y1))


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
        reason = " ".join(str(error).split())  # the line is not on the first line of the message
        raise InputError(f"{path}: not readable as YAML ({reason:.200})") from error
    if not isinstance(values, dict) or "names" not in values:
        raise InputError(f"{path}: is not a YOLO data.yaml: 'names' is missing")
    names = values["names"]
    if not isinstance(names, list | dict):
        raise InputError(f"{path}: 'names' must list the classes, it is {names!r:.60}")
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
