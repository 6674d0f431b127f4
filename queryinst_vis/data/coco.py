"""Reader of COCO's instance annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotations import (
    ImageRecord,
    Instance,
    check_folder,
    known_annotations,
    match_classes,
    parse_shape,
    read_annotations,
)
from queryinst_vis.formats.fields import check_unique, require, require_size


class CocoDataset:
    """A set of still images.

    Attributes:
        images: every image of the file, in its order, with the instances to train on and the
            crowds to ignore; classes that the model does not know are left out.
        category_ids: the file's category id of each of ``classes``; None: the file lacks it.
        has_annotations: False for files such as ``image_info_test2017.json``, which hold none.
    """

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        classes: list[str],
        content: dict[str, Any] | None = None,
    ) -> None:
        """Read and check the whole file; segmentations are decoded later, when they are used.

        Args:
            annotations: path of the JSON file.
            images: folder that the file's ``file_name`` entries are relative to.
            classes: class names of the model, matched by name.
            content: the parsed file, where the caller has read it already.

        Raises:
            InputError: missing or broken file, unknown or repeated ids, no class in common,
                an annotation with neither box nor mask, a segmentation that cannot be one of
                its image, a wrong image folder.
        """
        where = str(annotations)
        content = read_annotations(annotations) if content is None else content
        self.category_ids, labels = match_classes(content, classes, where)
        self.images = [
            _read_image(entry, Path(images), where)
            for entry in require(content, "images", list, where)
        ]
        check_unique((image.id for image in self.images), "image id", where)
        check_folder(images, self.images[0].path if self.images else None, where)
        self.has_annotations = content.get("annotations") is not None
        if self.has_annotations:
            for annotation, image, label, here in known_annotations(
                content, "image", self.images, labels, where
            ):
                group = image.ignored if annotation.get("iscrowd") else image.instances
                group.append(_read_instance(annotation, label, image, here))


def _read_instance(
    annotation: dict[str, Any], label: int, image: ImageRecord, where: str
) -> Instance:
    box, segmentation = parse_shape(
        annotation.get("bbox"), annotation.get("segmentation"), image.height, image.width, where
    )
    if box is None and segmentation is None:
        raise InputError(
            f"{where}: has no segmentation and no bbox with an area; add one, or delete it"
        )
    return Instance(annotation["id"], label, box, segmentation)


def _read_image(entry: Any, folder: Path, where: str) -> ImageRecord:
    identity = require(entry, "id", int, f"{where}: images")
    here = f"{where}: image {identity}"
    height, width = require_size(entry, here)
    return ImageRecord(identity, folder / require(entry, "file_name", str, here), height, width)
