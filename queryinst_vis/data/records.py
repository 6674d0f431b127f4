"""What a training set knows of its images, and how it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet, Kind, Video, parse_set
from queryinst_vis.formats.annotations import Annotation, check_masks, has_area, parse_annotation
from queryinst_vis.formats.findings import refuse_faults
from queryinst_vis.formats.reading import read_annotations

Box = tuple[float, float, float, float]
"""``(x0, y0, x1, y1)`` in pixels."""


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


class TrainingSet:
    """An annotation file that is sound enough to train on, with its categories as classes.

    Attributes:
        annotation_set: the file.
        category_ids: the file's category id of each class of the model; None: the file lacks it.
        labels: the class index of each category id; None: the model lacks the category.
    """

    def __init__(
        self,
        path: str | Path,
        images: str | Path,
        classes: Sequence[str],
        kind: Kind,
        content: dict[str, Any] | None = None,
    ) -> None:
        """Read and check the whole file; segmentations are decoded later, when they are used.

        Args:
            path: of the JSON file.
            images: folder that the file names are relative to.
            classes: class names of the model, matched by name.
            kind: what the file describes.
            content: the parsed file, where the caller has read it already.

        Raises:
            InputError: the file has a fault, no class in common with the model, or belongs to
                another image folder.
        """
        self._report = refuse_faults(str(path), "training")
        content = read_annotations(path if content is None else content)
        self.annotation_set: AnnotationSet = parse_set(content, self._report, str(path), kind)
        self.category_ids, self.labels = match_classes(
            self.annotation_set.categories, classes, str(path)
        )
        _check_folder(Path(images), self.annotation_set)

    def annotations(self, video: Video) -> Iterator[tuple[Annotation, int]]:
        """The annotations of a video or an image, each with its class index.

        Those of classes that the model lacks are left out.

        Raises:
            InputError: an annotation has a fault.
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
    """Match a file's categories with the model's classes by name; ids may differ freely.

    Args:
        categories: class name by category id.
        classes: the model's class names.
        where: the file, for error messages.

    Returns:
        ``category_ids``, the file's id of each class (None: the file lacks the class), and
        ``labels``, the class index of each category id (None: the model lacks the category).

    Raises:
        InputError: no class in common.
    """
    ids = {name: id_ for id_, name in categories.items()}
    if not any(name in ids for name in classes):
        raise InputError(
            f"{where}: holds none of the model's classes; the model's: {_listed(classes)}; "
            f"the file's: {_listed(list(ids))}"
        )
    index = {name: label for label, name in enumerate(classes)}
    return [ids.get(name) for name in classes], {
        i: index.get(name) for i, name in categories.items()
    }


def _listed(names: Sequence[str], limit: int = 10) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more if names else "(none)"


def _check_folder(images: Path, annotation_set: AnnotationSet) -> None:
    """Find out at the start, not in the middle of a training, that the folder is wrong."""
    if not images.is_dir():
        raise InputError(
            f"image folder {images}: no such folder (it belongs to {annotation_set.where})"
        )
    for video in annotation_set.videos.values():
        first = images / video.file_names[0]
        if not first.is_file():
            raise InputError(
                f"{annotation_set.where}: its first image {first} does not exist; check the image"
                " folder"
            )
        return


def to_xyxy(box: list[float] | None) -> Box | None:
    """COCO's ``[x, y, width, height]`` as corners; None for an absent or an empty box."""
    if not has_area(box):
        return None
    x, y, width, height = box
    return float(x), float(y), float(x) + width, float(y) + height
