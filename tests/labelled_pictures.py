"""Five labelled pictures in every annotation format; writers return DATA and --images."""

from __future__ import annotations

import json
from pathlib import Path
from xml.sax.saxutils import quoteattr

import cv2

from tests.tiny import CLASSES, HEIGHT, WIDTH, draw_frame, rectangles, write_images, write_videos

IMAGES = 5


def write_pictures(folder: Path, images: int = IMAGES) -> None:
    folder.mkdir(parents=True)
    for index in range(images):
        assert cv2.imwrite(str(folder / f"{index}.png"), draw_frame(index)[..., ::-1])


def corners(box: tuple[int, int, int, int]) -> list[list[int]]:
    x0, y0, x1, y1 = box
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def write_coco(folder: Path) -> list:
    images = write_images(folder, IMAGES)
    return [images.annotations, "--images", images.images]


def write_youtube_vis(folder: Path) -> list:
    videos = write_videos(folder, videos=3)
    return [videos.annotations, "--images", videos.images]


def write_labelme(folder: Path) -> list:
    write_pictures(folder)
    for index in range(IMAGES):
        shapes = [
            {"label": name, "points": corners(box), "shape_type": "polygon", "group_id": None}
            for name, box in zip(CLASSES, rectangles(index), strict=True)
        ]
        size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
        content = {"shapes": shapes, "imagePath": f"{index}.png", **size}
        (folder / f"{index}.json").write_text(json.dumps(content))
    return [folder]


def write_cvat(folder: Path) -> list:
    write_pictures(folder / "images")
    images = []
    for index in range(IMAGES):
        shapes = [
            f"<polygon label={quoteattr(name)} points="
            + quoteattr(";".join(f"{x},{y}" for x, y in corners(box)))
            + "/>"
            for name, box in zip(CLASSES, rectangles(index), strict=True)
        ]
        head = f'<image id="{index}" name="{index}.png" width="{WIDTH}" height="{HEIGHT}">'
        images.append(head + "".join(shapes) + "</image>")
    text = f"<annotations><meta/>{''.join(images)}</annotations>"
    (folder / "annotations.xml").write_text(text)
    return [folder]


def write_yolo(folder: Path, masks: bool = True) -> list:
    write_pictures(folder / "images")
    (folder / "labels").mkdir()
    (folder / "data.yaml").write_text("train: ../images\nnames: [box, crate]\n")
    for index in range(IMAGES):
        lines = []
        for label, (x0, y0, x1, y1) in enumerate(rectangles(index)):
            values = [x0 + x1, y0 + y1, 2 * (x1 - x0), 2 * (y1 - y0)]
            if masks and label == 0:  # the other class has boxes alone
                values = [2 * value for point in corners((x0, y0, x1, y1)) for value in point]
            scaled = [v / 2 / (HEIGHT if n % 2 else WIDTH) for n, v in enumerate(values)]
            lines.append(" ".join(map(str, [label, *scaled])))
        (folder / "labels" / f"{index}.txt").write_text("\n".join(lines))
    return [folder / "data.yaml"]


def write_voc(folder: Path) -> list:
    write_pictures(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    for index in range(IMAGES):
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for name, (x0, y0, x1, y1) in zip(CLASSES, rectangles(index), strict=True)
        )
        text = f"<annotation><filename>{index}.png</filename>{objects}</annotation>"
        (folder / "Annotations" / f"{index}.xml").write_text(text)
    return [folder]


FORMATS = {
    "COCO": write_coco,
    "YouTube-VIS": write_youtube_vis,
    "labelme": write_labelme,
    "CVAT images": write_cvat,
    "YOLO": write_yolo,
    "Pascal VOC": write_voc,
}
