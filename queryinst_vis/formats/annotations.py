"""What COCO and YouTube-VIS files have in common: records, class names, checked fields."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from queryinst_vis.errors import InputError
from queryinst_vis.formats.fields import check_unique, lookup, require
from queryinst_vis.utils.files import read_json

Box = tuple[float, float, float, float]


class _HasId(Protocol):
    id: int


Owner = TypeVar("Owner", bound=_HasId)


@dataclass(frozen=True)
class Instance:
    """One annotated object, or one crowd, in one image; it has a box, a segmentation or both.

    Attributes:
        id: the annotation's id; the same in every frame of a video.
        label: 0-based index into the model's classes.
        box: xyxy in pixels of the image, or None where the file gives no usable box and the
            mask's own bounding box stands in.
        segmentation: polygons or run lengths as the file has them, decoded when needed; None
            where only the box is known.
    """

    id: int
    label: int
    box: Box | None
    segmentation: Any | None


@dataclass(frozen=True)
class ImageRecord:
    """One image file with its annotations of the classes that the model knows.

    Attributes:
        id: the file's id of it, or the index of a video's frame.
        path: of the image file.
        height, width: in pixels.
        instances: the objects to train on.
        ignored: crowds, that is regions in which nothing is known.
    """

    id: int
    path: Path
    height: int
    width: int
    instances: list[Instance] = field(default_factory=list)
    ignored: list[Instance] = field(default_factory=list)


def read_annotations(path: str | Path) -> dict[str, Any]:
    """Read a COCO or YouTube-VIS JSON file.

    Raises:
        InputError: missing or broken file, or JSON that is no object at the top.
    """
    content = read_json(path, "annotation file")
    if not isinstance(content, dict):
        raise InputError(f"annotation file {path}: expected an object with 'images' or 'videos'")
    return content


def match_classes(
    content: dict[str, Any], classes: list[str], where: str
) -> tuple[list[int | None], dict[int, int | None]]:
    """Match the file's categories with the model's classes by name; ids may differ freely.

    Args:
        content: the annotation file.
        classes: the model's class names.
        where: the file, for error messages.

    Returns:
        ``category_ids``, the file's id of each class (None: the file lacks the class), and
        ``labels``, the class index of each category id (None: the model lacks the category).

    Raises:
        InputError: broken or repeated categories, or no class in common.
    """
    categories = require(content, "categories", list, where)
    names = {}
    for category in categories:
        identity = require(category, "id", int, f"{where}: categories")
        names[identity] = require(category, "name", str, f"{where}: category {identity}")
    check_unique((category["id"] for category in categories), "category id", where)
    check_unique(names.values(), "category name", where)
    ids = {name: identity for identity, name in names.items()}
    if not any(name in ids for name in classes):
        raise InputError(
            f"{where}: holds none of the model's classes; the model's: {_listed(classes)}; "
            f"the file's: {_listed(list(ids))}"
        )
    index = {name: label for label, name in enumerate(classes)}
    return [ids.get(name) for name in classes], {i: index.get(name) for i, name in names.items()}


def _listed(names: list[str], limit: int = 10) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more if names else "(none)"


def known_annotations(
    content: dict[str, Any],
    owner: str,
    owners: Iterable[Owner],
    labels: dict[int, int | None],
    where: str,
) -> Iterator[tuple[dict[str, Any], Owner, int, str]]:
    """The annotations of the classes that the model knows, instances and crowds.

    Args:
        content: the annotation file, whose annotations are all checked.
        owner: ``"image"`` or ``"video"``: what an annotation belongs to.
        owners: those, each with its ``id``.
        labels: the class index of each category id, as ``match_classes`` gives it.
        where: the file, for error messages.

    Yields:
        Annotation, owner, class index, and where in the file this is.

    Raises:
        InputError: unknown or repeated ids.
    """
    by_id = {entry.id: entry for entry in owners}
    key = f"{owner}_id"
    annotations = require(content, "annotations", list, where)
    for annotation in annotations:
        identity = require(annotation, "id", int, f"{where}: annotations")
        here = f"{where}: annotation {identity}"
        found = lookup(by_id, require(annotation, key, int, here), key, here)
        category = require(annotation, "category_id", int, here)
        label = lookup(labels, category, "category_id", here)
        if label is not None:
            yield annotation, found, label, here
    check_unique((annotation["id"] for annotation in annotations), "annotation id", where)


def one_a_frame(
    annotation: dict[str, Any], key: str, length: int, video_id: int, where: str
) -> list[Any] | None:
    """A track's list of ``length`` entries under ``key``; None where it is absent or null.

    Raises:
        InputError: it is no list, or not one entry per frame.
    """
    if annotation.get(key) is None:
        return None
    values = require(annotation, key, list, where)
    if len(values) != length:
        raise InputError(
            f"{where}: {len(values)} {key} for the {length} frames of video {video_id}"
        )
    return values


def parse_shape(
    bbox: Any, segmentation: Any, height: int, width: int, where: str
) -> tuple[Box | None, Any | None]:
    """What is known of an object in one image: its box, its segmentation, both or neither.

    Args:
        bbox: COCO's ``[x, y, width, height]``, or None.
        segmentation: polygons or run lengths; None or ``[]`` for no mask.
        height, width: of the image, in pixels.
        where: file and annotation, for error messages.

    Returns:
        xyxy in pixels (None for an absent or an empty box), and the segmentation, checked but not
        decoded (None for no mask).

    Raises:
        InputError: a box that is not four finite numbers, or as for ``check_segmentation``.
    """
    if segmentation is None or segmentation == []:
        return parse_box(bbox, where), None
    check_segmentation(segmentation, height, width, where)
    return parse_box(bbox, where), segmentation


def parse_box(bbox: Any, where: str) -> Box | None:
    """COCO's ``[x, y, width, height]`` as xyxy; None for an absent or an empty box.

    Raises:
        InputError: not four finite numbers.
    """
    if bbox is None:
        return None
    try:
        x, y, width, height = (float(value) for value in bbox)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: bbox {bbox!r:.60} is not [x, y, width, height]") from error
    if not all(map(math.isfinite, (x, y, width, height))):
        raise InputError(f"{where}: bbox {bbox!r:.60} is not finite")
    return (x, y, x + width, y + height) if width > 0 and height > 0 else None


def check_segmentation(segmentation: Any, height: int, width: int, where: str) -> None:
    """Check kind and size of a segmentation without decoding it.

    Raises:
        InputError: neither polygons nor run lengths, or run lengths of another image size.
    """
    if isinstance(segmentation, dict):
        size, counts = (require(segmentation, key, object, where) for key in ("size", "counts"))
        if not isinstance(counts, list | str):
            raise InputError(f"{where}: RLE counts are neither a list nor text")
        if size != [height, width]:
            raise InputError(
                f"{where}: its RLE is for {size!r:.40} (height, width), "
                f"its image is [{height}, {width}]"
            )
    elif not isinstance(segmentation, list):
        raise InputError(f"{where}: its segmentation is neither polygons nor an RLE")
    elif not all(map(_is_polygon, segmentation)):
        raise InputError(f"{where}: a polygon is not a list of at least three x, y pairs")


def _is_polygon(points: Any) -> bool:
    return (
        isinstance(points, list)
        and len(points) >= 6
        and len(points) % 2 == 0
        and all(isinstance(value, int | float) for value in points)
    )


def check_folder(images: str | Path, first: Path | None, where: str) -> None:
    """Find out at the start, not in the middle of a training, that the folder is wrong.

    Args:
        images: the folder that file names are relative to.
        first: path of the first image that the file names, if it names any.
        where: the annotation file.

    Raises:
        InputError: the folder or that image does not exist.
    """
    if not Path(images).is_dir():
        raise InputError(f"image folder {images}: no such folder (it belongs to {where})")
    if first is not None and not first.is_file():
        raise InputError(f"{where}: its first image {first} does not exist; check the image folder")
