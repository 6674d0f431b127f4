"""Detections in images as a complete COCO file with the list of images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from queryinst_vis.formats.results import coco_entries
from queryinst_vis.masks import RLE
from queryinst_vis.utils.files import atomic_path


class CocoDetections:
    """Writes images and their detections, as COCO annotations with a ``score``.

    Ids of images, categories and annotations start at 1; a category's id is its label + 1. The
    list ``annotations`` can be loaded by ``pycocotools.COCO.loadRes``. Memory grows only with the
    names of the images.

    Args:
        file: JSON, open for writing.
        class_names: names of the labels.
        info: further keys of ``info``.
    """

    def __init__(self, file: IO[str], class_names: Sequence[str], info: dict[str, Any]) -> None:
        self._file = file
        self._images: list[dict[str, Any]] = []
        self._annotations = 0
        self._category_ids = range(1, len(class_names) + 1)
        names = zip(self._category_ids, class_names, strict=True)
        categories = [{"id": number, "name": name} for number, name in names]
        head = json.dumps({"info": info, "categories": categories})
        file.write(head.removesuffix("}") + ', "annotations": [')

    def add(
        self,
        file_name: str,
        size: tuple[int, int],
        labels: Sequence[int],
        scores: Sequence[float],
        boxes: Sequence[Sequence[float]],
        rles: Sequence[RLE] | None,
        areas: Sequence[int] | None,
    ) -> None:
        """Write one image.

        Args:
            file_name: of the image, relative to the folder of all images.
            size: ``(height, width)``.
            labels, scores, boxes, rles: as for ``coco_entries``.
            areas: pixels of the masks; None: those of the boxes.
        """
        image_id = len(self._images) + 1
        height, width = size
        self._images.append(
            {"id": image_id, "file_name": file_name, "width": width, "height": height}
        )
        entries = coco_entries(image_id, self._category_ids, labels, scores, boxes, rles)
        for row, entry in enumerate(entries):
            _, _, box_width, box_height = entry["bbox"]
            area = box_width * box_height if areas is None else areas[row]
            self._file.write(",\n" if self._annotations else "\n")
            self._annotations += 1
            entry |= {"id": self._annotations, "area": area, "iscrowd": 0}
            self._file.write(json.dumps(entry, allow_nan=False))

    def finish(self) -> None:
        """Write the list of images, and the end of the file."""
        self._file.write(f'\n], "images": {json.dumps(self._images)}}}\n')


@contextmanager
def coco_detections(
    path: Path, class_names: Sequence[str], info: dict[str, Any]
) -> Iterator[CocoDetections]:
    """A detection file that is published if the block ends without an error.

    Raises:
        InputError: it cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        writer = CocoDetections(file, class_names, info)
        yield writer
        writer.finish()
