"""CVAT's "CVAT for video 1.1" XML to YouTube-VIS."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

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
from queryinst_vis.data.convert.images import check_same_size, image_files, image_size, subfolders
from queryinst_vis.data.convert.outlines import (
    Point,
    box_corners,
    check_window,
    ellipse_rle,
    polygon_rle,
    unite,
)
from queryinst_vis.errors import InputError
from queryinst_vis.formats.fields import check_unique
from queryinst_vis.formats.reading import read_xml
from queryinst_vis.masks import RLE, encode_region
from queryinst_vis.utils.images import Size, read_orientation
from queryinst_vis.utils.progress import show_progress

XML_NAME = "annotations.xml"
_CVAT_FRAME = re.compile(r"frame_([0-9]+)")
_WITHOUT_AREA = {"points", "polyline", "skeleton"}

Identity = tuple[str, str, int]
"""Label; ``"track"`` or ``"group"``; the track or group id."""


def convert_cvat(src: str | Path, dst: str | Path, *, by_group: bool = False) -> str:
    """Write exports of "CVAT for video 1.1" as one YouTube-VIS annotation file.

    Expects unzipped exports: ``SRC/VIDEO/annotations.xml`` and ``SRC/VIDEO/images/*.png``
    (the frames may also be in subfolders of ``images``, or beside the XML; or a single export as
    ``SRC/annotations.xml``). File names are relative to ``SRC``. Frame n of the XML is the image
    ``frame_n``; images with other names are the frames 0, 1, 2, ... of the task in name order,
    and must be complete. Labels become class names, sorted.

    Polygons, masks, boxes (including rotated ones) and ellipses are read in the frames listed in
    the file; CVAT also exports interpolated shapes. Shapes with ``outside="1"`` are absent. A box
    becomes a filled rectangle. Several shapes of a track in a frame are merged. Points, polylines
    and skeletons have no area and are skipped, with a count in the summary. Coordinates are in
    pixels of the upright images (EXIF orientation), as displayed by CVAT.

    CVAT cannot track masks and exports each as a separate track. With ``by_group``, tracks with
    the same label and ``group_id`` are one instance.

    A file with a document type declaration, which CVAT never writes, is rejected: it could define
    entities that expand without limit.

    Args:
        src: folder of exports, or one export.
        dst: annotation file to write.
        by_group: whether tracks of the same group are the same instance.

    Returns:
        One-line summary.

    Raises:
        InputError: no export, an invalid XML file or shape, a shape without area, frames without
            image, images whose size differs from the XML.
    """
    return write_video_set(dst, *read_cvat_videos(src, by_group=by_group))


def read_cvat_videos(
    src: str | Path, *, by_group: bool = False
) -> tuple[dict[str, Any], Counter[str]]:
    """Content of the file that ``convert_cvat`` writes, and its notes for ``summarise``."""
    src = Path(src)
    single = (src / XML_NAME).is_file()
    folders = [src] if single else [f for f in subfolders(src, "video") if (f / XML_NAME).is_file()]
    if not folders:
        raise InputError(f"{src}: neither it nor its subfolders contain {XML_NAME}")
    skipped: Counter[str] = Counter()
    videos = [
        _read_video(folder, src, by_group, skipped)
        for folder in show_progress(folders, "reading CVAT")
    ]
    if not any(video.tracks for video in videos):
        raise InputError(f"{src}: no file contains a track")
    return build_video_set(videos, f"CVAT, {src.name}"), skipped


def read_cvat_images(src: str | Path) -> tuple[dict[str, Any], Counter[str]]:
    """Content of a COCO file for exports of "CVAT for images 1.1", and numbers of skipped shapes.

    Expects ``SRC/annotations.xml`` and its images in ``SRC/images`` or ``SRC``.
    Each shape is an instance; shapes with the same label and ``group_id`` are one. A single box,
    unless rotated, is an instance without a mask. Otherwise as ``convert_cvat``.

    Raises:
        InputError: an invalid XML file or shape, or an image that is missing or of another size.
    """
    src = Path(src)
    root = _parse(src / XML_NAME, for_images=True)
    images = []
    skipped: Counter[str] = Counter()
    for entry in root.iter("image"):
        name = entry.get("name", "")
        where = f"{src / XML_NAME}, image {name:.80}"
        file = next((f for f in (src / "images" / name, src / name) if f.is_file()), None)
        if file is None or not file.resolve().is_relative_to(src.resolve()):
            raise InputError(f"{where}: no such image in {src}")
        height, width = (_integer(entry, key, where) for key in ("height", "width"))
        check_same_size(image_size(file, (height, width)), (height, width), "the XML says", where)
        parts: dict[tuple[str, str], list[RLE]] = defaultdict(list)
        upright = set()
        shapes = [shape for shape in entry if shape.tag not in {*_WITHOUT_AREA, "tag"}]
        skipped.update(
            f"{shape.tag} shapes skipped" for shape in entry if shape.tag in _WITHOUT_AREA
        )
        for number, shape in enumerate(shapes):
            here = f"{where}, shape {number}"
            label, group = shape.get("label"), shape.get("group_id", "0")
            if not label:
                raise InputError(f"{here}: 'label' is missing")
            key = f"shape {number}" if group == "0" else f"group {group}"
            parts[label, key].append(_shape_rle(shape, height, width, here))
            if shape.tag == "box" and not shape.get("rotation"):
                upright.add((label, key))
        boxes = {key for key in upright if len(parts[key]) == 1}
        instances = drawn_instances(unite(parts), boxes)
        images.append(LabelledImage(file.relative_to(src).as_posix(), height, width, instances))
    check_unique((image.file_name for image in images), "image", str(src / XML_NAME))
    return build_image_set(images, f"CVAT, {src.name}"), skipped


def is_cvat_of_images(path: Path) -> bool:
    """Whether an ``annotations.xml`` is of "CVAT for images", not for video."""
    return _parse(path, for_images=None).find("image") is not None


def _read_video(folder: Path, src: Path, by_group: bool, skipped: Counter[str]) -> LabelledVideo:
    """One export, with tracks sorted by identity; counts ``skipped`` shapes."""
    path = folder / XML_NAME
    root = _parse(path)
    files = _numbered_frames(folder, root)
    height, width = _frame_size(list(files.values()), root, path)
    parts: dict[Identity, dict[int, list[RLE]]] = defaultdict(lambda: defaultdict(list))
    for track in root.iter("track"):
        where = f"{path}, track {track.get('id')}"
        identity = _identity(track, by_group, where)
        for shape in track:
            frame = _integer(shape, "frame", where)
            if shape.get("outside") == "1":
                continue
            here = f"{where}, frame {frame}"
            if frame not in files:
                raise InputError(f"{here}: no image of this frame in {folder}")
            if shape.tag in _WITHOUT_AREA:
                skipped[f"{shape.tag} shapes skipped"] += 1
                continue
            parts[identity][frame].append(_shape_rle(shape, height, width, here))
    check_unique((track.get("id") for track in root.iter("track")), "track id", str(path))
    tracks = [
        LabelledTrack(identity[0], [masks.get(number) for number in files])
        for identity in sorted(parts)
        if (masks := unite(parts[identity]))
    ]
    names = [file.relative_to(src).as_posix() for file in files.values()]
    return LabelledVideo(names, height, width, tracks)


def _parse(path: Path, for_images: bool | None = False) -> Element:
    """The root of an export for video, for images, or for either (None)."""
    root = read_xml(path)
    if root.tag != "annotations":
        raise InputError(f"{path}: its root is <{root.tag}>, CVAT's is <annotations>")
    if for_images is False and root.find("image") is not None:
        raise InputError(f'{path}: is "CVAT for images"; export the task as "CVAT for video 1.1"')
    if not for_images and root.find("meta/project") is not None:
        raise InputError(
            f"{path}: is a project, whose tasks share frame numbers; export each task separately"
        )
    return root


def _numbered_frames(folder: Path, root: Element) -> dict[int, Path]:
    """Image files by CVAT frame number, in ascending order."""
    images = folder / "images" if (folder / "images").is_dir() else folder
    files = image_files(images) or image_files(images, recursive=True)
    if not files:
        raise InputError(f"{images}: neither it nor its subfolders contain image files")
    numbered = {
        int(match[1]): path for path in files if (match := _CVAT_FRAME.fullmatch(path.stem))
    }
    if len(numbered) == len(files):
        return numbered
    size = root.findtext("./meta/*/size", default="")
    if size.strip() != str(len(files)):
        raise InputError(
            f"{images}: contains {len(files)} images, but the CVAT task has "
            f"{size or 'an unknown number'}; a subset of the frames must be named frame_NUMBER"
        )
    if files != sorted(files):
        raise InputError(
            f"{images}: numbers in the file names differ in length, so their order is ambiguous; "
            "pad them with zeros"
        )
    return dict(enumerate(files))


def _frame_size(files: list[Path], root: Element, path: Path) -> tuple[int, int]:
    """``(height, width)`` of all frames, which must match the XML if it gives a size."""
    stated = root.find("./meta//original_size")
    texts = None if stated is None else (stated.findtext("height"), stated.findtext("width"))
    orientation = read_orientation(files[0])
    known = orientation.stored, orientation.upright
    sizes: dict[tuple[str | None, str | None], Size] = {(str(h), str(w)): (h, w) for h, w in known}
    height, width = orientation.upright if texts is None else sizes.get(texts, orientation.upright)
    for file in files[1:]:
        size = image_size(file, (height, width))
        check_same_size(size, (height, width), "others", str(file))
    if texts is not None and texts not in sizes:
        raise InputError(
            f"{path}: is for frames of {texts[1]}x{texts[0]} pixels, "
            f"the images have {width}x{height}"
        )
    return height, width


def _identity(track: Element, by_group: bool, where: str) -> Identity:
    label = track.get("label")
    if not label:
        raise InputError(f"{where}: 'label' is missing")
    if by_group and track.get("group_id", "0") != "0":
        return label, "group", _integer(track, "group_id", where)
    return label, "track", _integer(track, "id", where)


def _shape_rle(shape: Element, height: int, width: int, where: str) -> RLE:
    def number(key: str) -> float:
        return _number(shape, key, where)

    degrees = number("rotation") if shape.get("rotation") else 0.0
    if shape.tag == "polygon":
        return polygon_rle(_points(shape.get("points", ""), where), height, width, where)
    if shape.tag == "box":
        left, top, right, bottom = map(number, ("xtl", "ytl", "xbr", "ybr"))
        corners = box_corners(left, top, right, bottom, degrees)
        return polygon_rle(corners, height, width, where)
    if shape.tag == "ellipse":
        centre, radii = (number("cx"), number("cy")), (number("rx"), number("ry"))
        return ellipse_rle(centre, radii, height, width, where, degrees)
    if shape.tag == "mask":
        x, y, rows, columns = (
            _integer(shape, key, where) for key in ("left", "top", "height", "width")
        )
        # checked first, since run lengths may require any amount of memory
        check_window(x, y, (rows, columns), height, width, where)
        patch = _patch(shape.get("rle", ""), rows, columns, where)
        return encode_region(patch, x, y, (height, width))
    raise InputError(f"{where}: a {shape.tag} has no area; draw polygons, masks, boxes or ellipses")


def _patch(rle: str, rows: int, columns: int, where: str) -> np.ndarray:
    """``(rows, columns)`` bool from row-major run lengths, background first."""
    try:
        runs = [int(run) for run in rle.split(",")]
    except ValueError as error:
        raise InputError(f"{where}: 'rle' is not n, n, n, ...") from error
    if min(runs) < 0 or sum(runs) != rows * columns:
        raise InputError(f"{where}: 'rle' does not fill its {columns}x{rows} pixels")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(rows, columns)


def _points(text: str, where: str) -> list[Point]:
    """Points from ``x,y;x,y;...``."""
    try:
        return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split(";"))]
    except ValueError as error:
        raise InputError(f"{where}: 'points' is not x,y;x,y;...") from error


def _number(element: Element, key: str, where: str) -> float:
    try:
        value = float(element.get(key, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: '{key}' is {element.get(key)!r:.40}, not a number")
    return value


def _integer(element: Element, key: str, where: str) -> int:
    text = element.get(key, "")
    if not re.fullmatch("[0-9]{1,9}", text):
        raise InputError(f"{where}: '{key}' is {element.get(key)!r:.40}, not an integer")
    return int(text)
