"""Cityscapes instance maps (gtFine) to COCO JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from queryinst_vis.data.convert.builder import boxes_and_areas
from queryinst_vis.data.convert.images import read_instance_map
from queryinst_vis.errors import InputError
from queryinst_vis.masks import encode_rle
from queryinst_vis.utils.files import write_json_atomically
from queryinst_vis.utils.progress import show_progress

CATEGORIES = {
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
"""The eight classes with instances that are evaluated, by Cityscapes' own label ids."""

MAP_SUFFIX = "_gtFine_instanceIds.png"
IMAGE_SUFFIX = "_leftImg8bit.png"
IDS_PER_LABEL = 1000


def convert_cityscapes(src: str | Path, dst: str | Path) -> str:
    """Write the instance maps of one Cityscapes split as a COCO annotation file.

    Expects ``SRC/CITY/CITY_SEQUENCE_FRAME_gtFine_instanceIds.png``; ``SRC`` is for example
    ``gtFine/train``. Pixels of 1000 and more are single instances, label id * 1000 + number;
    pixels of a bare label id are a group of instances, which becomes ``iscrowd``.
    Category ids are Cityscapes' label ids. File names are those of the left images, relative to
    ``leftImg8bit/train``, which are not read.

    Args:
        src: the folder of a split.
        dst: annotation file to write.

    Returns:
        One-line summary.

    Raises:
        InputError: no instance maps in the folder, or an invalid one.
    """
    src = Path(src)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path in show_progress(_map_files(src), "reading Cityscapes"):
        ids = read_instance_map(path)
        height, width = ids.shape
        name = path.name.removesuffix(MAP_SUFFIX) + IMAGE_SUFFIX
        images.append(
            {
                "id": len(images) + 1,
                "file_name": f"{path.parent.name}/{name}",
                "height": height,
                "width": width,
            }
        )
        for entry in _instances(ids):
            place = {"id": len(annotations) + 1, "image_id": images[-1]["id"]}
            annotations.append(place | entry)
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    write_json_atomically(
        dst,
        {
            "info": {"description": f"Cityscapes, {src.name}"},
            "images": images,
            "annotations": annotations,
            "categories": categories,
        },
    )
    return f"wrote {dst}: {len(images)} images, {len(annotations)} instances and groups"


def _map_files(src: Path) -> list[Path]:
    files = sorted(src.glob(f"*/*{MAP_SUFFIX}"))
    if not files:
        raise InputError(
            f"{src}: no */*{MAP_SUFFIX}; give the folder of a split such as gtFine/train"
        )
    return files


def _instances(ids: np.ndarray) -> list[dict[str, Any]]:
    """Annotations of the instances and groups of the eight classes, without ids."""
    entries = []
    for number in map(int, np.unique(ids)):
        single = number >= IDS_PER_LABEL
        label = number // IDS_PER_LABEL if single else number
        if label not in CATEGORIES:
            continue
        rle = encode_rle(ids == number)
        [bbox], [area] = boxes_and_areas([rle])
        entries.append(
            {
                "category_id": label,
                "iscrowd": int(not single),
                "segmentation": rle,
                "bbox": bbox,
                "area": area,
            }
        )
    return entries
