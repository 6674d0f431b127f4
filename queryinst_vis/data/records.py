"""Records of the images of a training set, and opening the set."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.formats.annotation_set import AnnotationSet, Kind, Video, parse_set
from queryinst_vis.formats.annotations import Annotation, check_masks, has_area, parse_annotation
from queryinst_vis.formats.findings import refuse_faults
from queryinst_vis.formats.names import list_names, nearest_name, refuse_outside
from queryinst_vis.formats.reading import read_annotations

Corners = tuple[float, float, float, float]
"""``(x0, y0, x1, y1)`` in pixels."""

_THREADS = 16
_BLOCK = 500  # images per task of a thread


@dataclass(frozen=True)
class Instance:
    """An annotated object or crowd in an image, with a box, a segmentation or both.

    Attributes:
        id: the annotation's id; the same in every frame of a video.
        label: 0-based index into the model's classes.
        box: xyxy in pixels of the image, or None if the file has no valid box and the
            bounding box of the mask is used.
        segmentation: polygons or RLE from the file, decoded when needed; None
            if only the box is known.
    """

    id: int
    label: int
    box: Corners | None
    segmentation: Any | None


@dataclass(frozen=True)
class ImageRecord:
    """An image file with its annotations of the model's classes.

    Attributes:
        id: id in the file, or frame index in a video.
        path: of the image file.
        height, width: in pixels.
        instances: the training instances.
        ignored: crowds, i.e. ignore regions.
    """

    id: int
    path: Path
    height: int
    width: int
    instances: list[Instance] = field(default_factory=list)
    ignored: list[Instance] = field(default_factory=list)


class TrainingSet:
    """A validated annotation file for training, with categories mapped to classes.

    Attributes:
        annotation_set: the file.
        category_ids: category id of each class of the model; None if missing in the file.
        labels: class index of each category id; None if not a class of the model.
    """

    def __init__(
        self,
        path: str | Path,
        images: str | Path,
        classes: Sequence[str],
        kind: Kind,
        content: dict[str, Any] | None = None,
        allow_outside: bool = False,
    ) -> None:
        """Read and validate the whole file; segmentations are decoded later, when needed.

        Args:
            path: of the JSON file.
            images: folder of the images.
            classes: class names of the model, matched by name.
            kind: kind of the set.
            content: the parsed file, if already read.
            allow_outside: allow file names outside the image folder.

        Raises:
            InputError: the file is invalid or has no class in common with the model, or an image
                does not exist or is outside the folder.
        """
        self._report = refuse_faults(str(path), "training")
        content = read_annotations(path if content is None else content)
        self.annotation_set: AnnotationSet = parse_set(content, self._report, str(path), kind)
        self.category_ids, self.labels = match_classes(
            self.annotation_set.categories, classes, str(path)
        )
        for video in self.annotation_set.videos.values():
            refuse_outside(video.file_names, str(path), allow_outside)
        check_images(Path(images), self.annotation_set)

    def annotations(self, video: Video) -> Iterator[tuple[Annotation, int]]:
        """The annotations of a video or an image that have a class of the model, and its index.

        Raises:
            InputError: an annotation is invalid.
        """
        for entry in self.annotation_set.entries[video.id]:
            label = self.labels[entry["category_id"]]
            if label is None:
                continue
            annotation = parse_annotation(entry, video, self._report)
            if annotation is not None:
                check_masks(annotation, video, self._report)
                yield annotation, label


def match_classes(
    categories: Mapping[int, str], classes: Sequence[str], where: str
) -> tuple[list[int | None], dict[int, int | None]]:
    """Match a file's categories with the model's classes by name; ids may differ.

    Warns about names without a counterpart, and suggests the closest one.

    Args:
        categories: class name by category id.
        classes: the model's class names.
        where: the file, for messages.

    Returns:
        ``category_ids``, the id of each class in the file (None if missing), and ``labels``, the
        class index of each category id (None if not a class of the model).

    Raises:
        InputError: no class in common.
    """
    ids = {name: id_ for id_, name in categories.items()}
    missing = [name for name in classes if name not in ids]
    unknown = [name for name in ids if name not in classes]
    if len(missing) == len(classes):
        raise InputError(
            f"{where}: contains none of the model's classes; the model's: "
            f"{list_names(missing)}; the file's: {list_names(unknown)}{_guess(missing, unknown)}"
        )
    differences = []
    if unknown:
        differences.append(f"classes that the model lacks are left out: {list_names(unknown)}")
    if missing:
        differences.append(f"classes of the model that the file lacks: {list_names(missing)}")
    if differences:
        message = f"{where}: {'; '.join(differences)}{_guess(missing, unknown)}"
        warnings.warn(message, InputWarning, stacklevel=2)
    index = {name: label for label, name in enumerate(classes)}
    return [ids.get(name) for name in classes], {
        i: index.get(name) for i, name in categories.items()
    }


def _guess(missing: Sequence[str], unknown: Sequence[str]) -> str:
    """A suggestion of a class name that may have been meant."""
    for name in missing:
        nearest = nearest_name(name, unknown)
        if nearest is not None:
            return (
                f"; is '{nearest}' meant to be '{name}'? correct model.classes, or rename it with"
                " `queryinst-vis data remap`"
            )
    return ""


def check_images(images: Path, annotation_set: AnnotationSet) -> None:
    """Fail at startup, not during training, if images are missing.

    Raises:
        InputError: the folder or any of the listed files does not exist.
    """
    if not images.is_dir():
        raise InputError(
            f"image folder {images}: no such folder (it belongs to {annotation_set.where})"
        )
    names = list(
        dict.fromkeys(name for v in annotation_set.videos.values() for name in v.file_names)
    )
    folder = str(images)
    blocks = [names[start : start + _BLOCK] for start in range(0, len(names), _BLOCK)]
    with ThreadPoolExecutor(_THREADS) as pool:  # network file systems are slow
        missing = list(chain.from_iterable(pool.map(partial(_missing, folder), blocks)))
    if missing:
        raise InputError(
            f"{annotation_set.where}: {len(missing)} of {len(names)} images do not exist, e.g. "
            f"{images / missing[0]}; check the image folder, or leave them out with "
            "`queryinst-vis data filter`"
        )


def _missing(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not os.path.isfile(os.path.join(folder, name))]


def to_xyxy(box: list[float] | None) -> Corners | None:
    """Convert COCO's ``[x, y, width, height]`` to xyxy; None for a missing or empty box."""
    if not has_area(box):
        return None
    x, y, width, height = box
    return float(x), float(y), float(x) + width, float(y) + height
