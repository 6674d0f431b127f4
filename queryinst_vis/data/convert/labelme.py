"""labelme JSON files, one per frame, to YouTube-VIS."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

from queryinst_vis.data.convert.builder import (
    LabelledTrack,
    LabelledVideo,
    build_video_set,
    write_video_set,
)
from queryinst_vis.data.convert.image_sets import (
    LabelledImage,
    build_image_set,
    drawn_instances,
)
from queryinst_vis.data.convert.images import image_files, image_size, subfolders
from queryinst_vis.data.convert.outlines import (
    Point,
    box_corners,
    check_points,
    check_window,
    ellipse_rle,
    png_patch,
    polygon_rle,
    unite,
)
from queryinst_vis.errors import InputError
from queryinst_vis.formats.fields import check_unique, require
from queryinst_vis.masks import RLE, encode_region
from queryinst_vis.utils.files import natural_key, read_json
from queryinst_vis.utils.images import Size
from queryinst_vis.utils.numbers import is_integer
from queryinst_vis.utils.progress import show_progress

Identity = tuple[str, int | None]
"""Label and group id, the same in all frames of the instance."""

_WITHOUT_AREA = ("point", "points", "line", "linestrip")

FrameMasks = dict[Identity, RLE]


def convert_labelme(src: str | Path, dst: str | Path) -> str:
    """Write folders of labelme files as one YouTube-VIS annotation file.

    Expects ``SRC/VIDEO/FRAME.json``, in the order of the numbers in their names, and the images
    given by ``imagePath`` (or ``SRC/FRAME.json``, for a single video). File names are
    relative to ``SRC``. If an ``imagePath`` does not exist, e.g. a path from another
    computer, the image is searched beside the JSON file. Images without a JSON file are not
    annotated and skipped, with a count in the summary. Labels become class names, sorted.

    **Identity.** Shapes with the same ``label`` and ``group_id`` are one instance throughout the
    video and are merged within a frame. A shape without group id is the only instance of its
    label; if a video has several instances of a label, every shape needs a group id.

    Polygons, rectangles, rotated rectangles, circles and masks are supported. Polygons are filled
    as in COCO, without the border that labelme's own drawing adds. Points and lines have no area
    and are skipped, with a count in the summary. Coordinates are in pixels of the
    upright images (EXIF orientation), unless the file's ``imageHeight`` and ``imageWidth`` match
    the stored orientation.

    Args:
        src: folder of video folders, or one such folder.
        dst: annotation file to write.

    Returns:
        One-line summary.

    Raises:
        InputError: no files, an invalid file or shape, an image that is missing, outside
            ``SRC`` or of another size, ambiguous identities.
    """
    return write_video_set(dst, *read_labelme_videos(src))


def read_labelme_videos(src: str | Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Content of the file that ``convert_labelme`` writes, and its notes for ``summarise``."""
    src = Path(src)
    folders = [src] if src.is_dir() and any(src.glob("*.json")) else subfolders(src, "video")
    annotated = [
        files for folder in folders if (files := sorted(folder.glob("*.json"), key=natural_key))
    ]
    if not annotated:
        raise InputError(f"{src}: neither it nor its subfolders contain a .json file")
    skipped: Counter[str] = Counter()
    videos = [
        _read_video(files, src, skipped) for files in show_progress(annotated, "reading labelme")
    ]
    if not any(video.tracks for video in videos):
        raise InputError(f"{src}: none of its files contains a shape")
    images = {path for files in annotated for path in image_files(files[0].parent)}
    named = {src / name for video in videos for name in video.file_names}
    notes = {"images without a JSON file left out": len(images - named), **skipped}
    return build_video_set(videos, f"labelme, {src.name}"), notes


def read_labelme_images(src: str | Path) -> tuple[dict[str, Any], Counter[str]]:
    """Content of a COCO file for labelme files of single images, and the numbers of skipped shapes.

    Reads all labelme ``.json`` files in ``SRC`` and its subfolders. Each shape is an instance;
    shapes with the same label and ``group_id`` are one. A single rectangle is an instance without
    a mask. Otherwise as ``convert_labelme``.

    Raises:
        InputError: no files, an invalid file or shape, an image that is missing or of another size.
    """
    src = Path(src)
    files = sorted(src.rglob("*.json"), key=natural_key)
    if not files:
        raise InputError(f"{src}: neither it nor its subfolders contain a .json file")
    images = []
    skipped: Counter[str] = Counter()
    for path in show_progress(files, "reading labelme"):
        content = read_json(path, "labelme file")
        where = f"labelme file {path}"
        name, (height, width) = _read_image(path, content, src, where)
        parts: dict[tuple[str, str], list[RLE]] = defaultdict(list)
        rectangles = set()
        shapes = require(content, "shapes", list, where)
        for here, label, group, shape in _shapes_with_area(shapes, where, skipped):
            key = here if group is None else f"group {group}"
            parts[label, key].append(_shape_rle(shape, height, width, here))
            if shape.get("shape_type") == "rectangle":
                rectangles.add((label, key))
        boxes = {key for key in rectangles if len(parts[key]) == 1}
        instances = drawn_instances(unite(parts), boxes)
        images.append(LabelledImage(name, height, width, instances))
    check_unique((image.file_name for image in images), "image", f"labelme files in {src}")
    return build_image_set(images, f"labelme, {src.name}"), skipped


def _in_order(identity: Identity) -> tuple[str, bool, int]:
    label, group = identity
    return label, group is not None, group or 0


def _read_video(files: list[Path], root: Path, skipped: Counter[str]) -> LabelledVideo:
    """The files of one video, one per frame; with tracks sorted by identity.

    Shapes without an area are skipped and counted by kind.
    """
    names: list[str] = []
    frames: list[FrameMasks] = []
    sizes: list[tuple[int, int]] = []
    for path in files:
        content = read_json(path, "labelme file")
        where = f"labelme file {path}"
        name, size = _read_image(path, content, root, where)
        sizes.append(size)
        _check_size(size, sizes[0], "the video's first has", where)
        names.append(name)
        shapes = require(content, "shapes", list, where)
        frames.append(_read_shapes(shapes, *size, where, skipped))
    check_unique(names, "image", f"labelme files in {files[0].parent}")
    identities = sorted({key for frame in frames for key in frame}, key=_in_order)
    _check_identities(identities, files[0].parent)
    tracks = [LabelledTrack(key[0], [frame.get(key) for frame in frames]) for key in identities]
    return LabelledVideo(names, *sizes[0], tracks)


def _read_image(path: Path, content: Any, root: Path, where: str) -> tuple[str, Size]:
    """The image of a labelme file: its name relative to ``root``, and ``(height, width)``."""
    name = _relative_image(path, require(content, "imagePath", str, where), root)
    size = image_size(root / name, (content.get("imageHeight"), content.get("imageWidth")))
    stated = content.get("imageHeight") or size[0], content.get("imageWidth") or size[1]
    _check_size(size, stated, "the file says", where)
    return name, size


def _check_size(size: Size, other: tuple[Any, Any], whose: str, where: str) -> None:
    if other != size:
        raise InputError(
            f"{where}: its image has {size[1]}x{size[0]} pixels, {whose} "
            f"{other[1]!r:.20}x{other[0]!r:.20}"
        )


def _relative_image(path: Path, image_path: str, root: Path) -> str:
    """The image's path relative to ``root``; labelme writes it relative to the JSON file."""
    image = os.path.normpath(path.parent / image_path.replace("\\", "/"))
    beside = path.parent / PureWindowsPath(image_path).name
    # both were moved, or the path is a Windows path
    if not os.path.exists(image) and beside.is_file():
        image = os.path.normpath(beside)
    name = os.path.relpath(image, root)
    if Path(name).parts[0] == "..":
        raise InputError(
            f"labelme file {path}: its image {image} is outside {root}; use a folder that contains "
            "both"
        )
    return Path(name).as_posix()


def _read_shapes(
    shapes: list[Any], height: int, width: int, where: str, skipped: Counter[str]
) -> FrameMasks:
    """Masks of one frame; identities with empty shapes are absent."""
    parts: dict[Identity, list[RLE]] = defaultdict(list)
    for here, label, group, shape in _shapes_with_area(shapes, where, skipped):
        if group is None and parts.get((label, None)):
            raise InputError(
                f"{here}: a second '{label}' without group_id; give the shapes of each object a "
                "separate group_id"
            )
        parts[label, group].append(_shape_rle(shape, height, width, here))
    return unite(parts)


def _shapes_with_area(
    shapes: list[Any], where: str, skipped: Counter[str]
) -> Iterator[tuple[str, str, int | None, dict[str, Any]]]:
    """The place, label and group id of each shape, and the shape; counts those without an area."""
    for index, shape in enumerate(shapes):
        here = f"{where}, shape {index}"
        label = require(shape, "label", str, here)
        if shape.get("shape_type") in _WITHOUT_AREA:
            skipped[f"{shape['shape_type']} shapes skipped"] += 1
            continue
        group = shape.get("group_id")
        if group is not None and not is_integer(group):
            raise InputError(f"{here}: group_id {group!r:.40} is not an integer")
        yield here, label, group, shape


def _check_identities(identities: list[Identity], folder: Path) -> None:
    """Raise an InputError if a label is used both with and without a group id."""
    grouped = {label for label, group in identities if group is not None}
    for label in (label for label, group in identities if group is None):
        if label in grouped:
            raise InputError(
                f"{folder}: some shapes '{label}' have a group_id and some have none; give all of "
                "them one"
            )


def _shape_rle(shape: dict[str, Any], height: int, width: int, where: str) -> RLE:
    kind = shape.get("shape_type") or "polygon"  # missing in old files, which have only polygons
    points = _points(require(shape, "points", list, where), where)
    pair = len(points) == 2
    if kind == "mask" and pair:
        check_points(points, height, width, where)
        x, y = (round(value) for value in points[0])
        patch = png_patch(require(shape, "mask", str, where), where)
        rows, columns = patch.shape
        check_window(x, y, (rows, columns), height, width, where)
        return encode_region(patch, x, y, (height, width))
    if kind == "circle" and pair:
        centre, rim = points
        radius = math.dist(centre, rim)
        return ellipse_rle(centre, (radius, radius), height, width, where)
    if kind == "rectangle" and pair:
        (left, top), (right, bottom) = points
        points = box_corners(left, top, right, bottom)
    if kind in ("polygon", "rectangle", "oriented_rectangle"):
        return polygon_rle(points, height, width, where)
    if kind in ("mask", "circle"):
        raise InputError(f"{where}: a {kind} has 2 points, this one {len(points)}")
    raise InputError(
        f"{where}: shape_type '{kind!s:.40}' has no area; draw polygons, rectangles, circles or "
        "masks"
    )


def _points(points: list[Any], where: str) -> list[Point]:
    try:
        return [(float(x), float(y)) for x, y in points]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: 'points' is not a list of [x, y]") from error
