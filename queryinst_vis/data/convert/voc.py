"""Pascal VOC folders to COCO, read with supervision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from queryinst_vis.data.convert.image_sets import (
    LabelledImage,
    LabelledInstance,
    build_image_set,
)
from queryinst_vis.data.convert.images import image_size
from queryinst_vis.errors import InputError, first_line
from queryinst_vis.formats.reading import read_xml
from queryinst_vis.masks import encode_rle
from queryinst_vis.utils.files import natural_key


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
        read_xml(file)  # supervision would expand entities
    try:
        dataset = sv.DetectionDataset.from_pascal_voc(str(images), str(files))
    except (ValueError, SyntaxError, AttributeError, TypeError, OSError) as error:
        raise InputError(f"{files}: not readable as Pascal VOC ({first_line(error)})") from error
    chosen = _annotated_images(dataset.image_paths, annotated)
    description = f"Pascal VOC, {folder.name}"
    return _to_coco(dataset, chosen, images, description), images


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
    dataset: sv.DetectionDataset, images: list[str], folder: Path, description: str
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
        instances = []
        for number, (box, label) in enumerate(
            zip(detections.xyxy, [] if classes is None else classes, strict=True)
        ):
            mask = None if masks is None else np.asarray(masks[number])
            rle = encode_rle(mask) if mask is not None and mask.any() else None
            x0, y0, x1, y1 = np.clip(box, 0, (width, height, width, height)).tolist()
            if x1 > x0 and y1 > y0:
                name = dataset.classes[int(label)]
                instances.append(LabelledInstance(name, rle, (x0, y0, x1, y1)))
        name = Path(image).relative_to(folder).as_posix()
        labelled.append(LabelledImage(name, height, width, instances))
    return build_image_set(labelled, description, dataset.classes)
