"""Building COCO annotation files from images with instances."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from pycocotools import mask as coco_mask

from queryinst_vis.data.records import Corners
from queryinst_vis.masks import RLE


class LabelledInstance(NamedTuple):
    """One instance in an image.

    Attributes:
        class_name: its class.
        mask: compressed RLE; None if only the box is known.
        box: used if there is no mask.
    """

    class_name: str
    mask: RLE | None
    box: Corners | None = None


class LabelledImage(NamedTuple):
    """One image of a data set.

    Attributes:
        file_name: relative to the image folder.
        height, width: in pixels.
        instances: its instances.
    """

    file_name: str
    height: int
    width: int
    instances: list[LabelledInstance]


def drawn_instances(
    masks: Mapping[tuple[str, str], RLE], boxes: Collection[tuple[str, str]]
) -> list[LabelledInstance]:
    """The manually drawn instances of an image.

    Args:
        masks: by class name and any second key.
        boxes: keys of those drawn as axis-aligned rectangles, which have no mask.
    """
    instances = []
    for key, rle in masks.items():
        if key in boxes:
            x, y, width, height = coco_mask.toBbox(rle).tolist()
            instances.append(LabelledInstance(key[0], None, (x, y, x + width, y + height)))
        else:
            instances.append(LabelledInstance(key[0], rle))
    return instances


def build_image_set(
    images: Sequence[LabelledImage], description: str, class_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """The content of a COCO annotation file, with ids from 1.

    Args:
        images: all images.
        description: of the set.
        class_names: the categories in order; None: those of the instances, sorted.
    """
    if class_names is None:
        class_names = sorted({i.class_name for image in images for i in image.instances})
    category_ids = {name: number for number, name in enumerate(class_names, start=1)}
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        for instance in image.instances:
            box, area = _box_and_area(instance)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_ids[instance.class_name],
                    "iscrowd": 0,
                    "segmentation": instance.mask or [],
                    "bbox": box,
                    "area": area,
                }
            )
    return {
        "info": {"description": description},
        "licenses": [],
        "images": [
            {"id": id_, "file_name": i.file_name, "height": i.height, "width": i.width}
            for id_, i in enumerate(images, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": id_, "name": name} for name, id_ in category_ids.items()],
    }


def _box_and_area(instance: LabelledInstance) -> tuple[list[float], float]:
    """COCO's ``[x, y, width, height]``, and the area in pixels."""
    if instance.mask is not None:
        return coco_mask.toBbox(instance.mask).tolist(), int(coco_mask.area(instance.mask))
    if instance.box is None:
        raise ValueError("an instance has a mask or a box")
    x0, y0, x1, y1 = instance.box
    return [x0, y0, x1 - x0, y1 - y0], (x1 - x0) * (y1 - y0)
