"""Reader of COCO's instance annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from queryinst_vis.data.records import ImageRecord, Instance, TrainingSet, to_xyxy


class CocoDataset:
    """A set of still images.

    Attributes:
        images: all images in file order, with training instances and crowds of the model's
            classes.
        category_ids: category id of each of ``classes`` in the file; None if missing.
        has_annotations: False for files without annotations, such as ``image_info_test2017.json``.
    """

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        classes: list[str],
        content: dict[str, Any] | None = None,
        allow_outside: bool = False,
    ) -> None:
        """Read and check the whole file.

        Args:
            annotations: path of the JSON file.
            images: folder of the images; ``file_name`` entries are relative to it.
            classes: class names of the model, matched by name.
            content: the parsed file, if already read.
            allow_outside: as for ``TrainingSet``.

        Raises:
            InputError: as for ``TrainingSet``.
        """
        source = TrainingSet(annotations, images, classes, "image", content, allow_outside)
        self.category_ids = source.category_ids
        self.has_annotations = source.annotation_set.annotated
        self.images: list[ImageRecord] = []
        for image in source.annotation_set.videos.values():
            path = Path(images) / image.file_names[0]
            record = ImageRecord(image.id, path, image.height, image.width)
            self.images.append(record)
            for annotation, label in source.annotations(image):
                [box], [mask] = annotation.boxes or [None], annotation.segmentations
                group = record.ignored if annotation.crowd else record.instances
                group.append(Instance(annotation.id, label, to_xyxy(box), mask))
