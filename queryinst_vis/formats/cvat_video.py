"""Tracks as "CVAT for video 1.1" XML, for import as annotations of a CVAT task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import XMLGenerator

import cv2
import numpy as np

from queryinst_vis.formats.losses import Losses
from queryinst_vis.formats.track_store import Observation, Track, TrackStore, VideoInfo
from queryinst_vis.masks import RLE, InstanceMask
from queryinst_vis.utils.files import atomic_path

PARTS = "masks of several parts, of which the largest stays"
HOLES = "masks with holes, which are filled"
SCORES = "scores, which the format cannot store"

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Outline = tuple[tuple[float, float], ...]


def write_cvat_video(
    path: str | Path, tracks: TrackStore, video: VideoInfo, names: Mapping[int, str]
) -> Losses:
    """Write the tracks of a video as polygons, with a key frame in each of their frames.

    Names of identities become the attribute ``name``; track ids are kept. Where a track
    is absent, its shape is ``outside``. Memory does not grow with the video.

    Args:
        path: the XML file; written completely or not at all.
        tracks: of the video.
        video: the video.
        names: of identities, by track id.

    Returns:
        What CVAT cannot represent: a shape is one outline without holes and has no score.
    """
    losses = Losses()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        xml = _Writer(file)
        with xml.element("annotations"):
            xml.text("version", "1.1")
            _write_meta(xml, tracks, video)
            numbers = list(tracks.frame_numbers())
            for track in tracks:
                _write_track(xml, track, video, names.get(track.track_id, ""), numbers, losses)
    return losses


class _Element:
    """An XML element that is closed at the end of the block."""

    def __init__(self, writer: XMLGenerator, name: str, attributes: dict[str, str]) -> None:
        self._writer, self._name, self._attributes = writer, name, attributes

    def __enter__(self) -> None:
        self._writer.startElement(self._name, self._attributes)  # type: ignore[arg-type]  # a dict

    def __exit__(self, *_: object) -> None:
        self._writer.endElement(self._name)
        self._writer.ignorableWhitespace("\n")


class _Writer:
    """Writes XML with all text escaped."""

    def __init__(self, file: BinaryIO) -> None:
        self._xml = XMLGenerator(file, encoding="utf-8", short_empty_elements=True)
        self._xml.startDocument()

    def element(self, name: str, /, **attributes: object) -> _Element:
        return _Element(self._xml, name, {key: _legal(value) for key, value in attributes.items()})

    def text(self, name: str, content: object, /, **attributes: object) -> None:
        with self.element(name, **attributes):
            self._xml.characters(_legal(content))


def _legal(value: object) -> str:
    """Text without characters that are invalid in XML even if escaped."""
    return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", str(value))


def _write_meta(xml: _Writer, tracks: TrackStore, video: VideoInfo) -> None:
    height, width = tracks.frame_size
    numbers = list(tracks.frame_numbers())
    with xml.element("meta"), xml.element("task"):
        xml.text("name", video.name)
        xml.text("size", numbers[-1] + 1)
        xml.text("mode", "interpolation")
        xml.text("start_frame", 0)
        xml.text("stop_frame", numbers[-1])
        with xml.element("labels"):
            for name in video.class_names:
                _write_label(xml, name)
        with xml.element("original_size"):
            xml.text("width", width)
            xml.text("height", height)


def _write_label(xml: _Writer, class_name: str) -> None:
    """A class, whose tracks have a text attribute for the name of the identity."""
    with xml.element("label"):
        xml.text("name", class_name)
        with xml.element("attributes"), xml.element("attribute"):
            xml.text("name", "name")
            xml.text("mutable", "False")
            xml.text("input_type", "text")
            xml.text("default_value", "")
            xml.text("values", "")


def _write_track(
    xml: _Writer, track: Track, video: VideoInfo, name: str, numbers: list[int], losses: Losses
) -> None:
    label = video.class_names[track.label]
    with xml.element("track", id=track.track_id, label=label, source="semi-auto"):
        for seen, outline, is_last in _outlines(track, losses):
            number = numbers[seen.frame]
            _write_shape(xml, number, outline, name, is_outside=False)
            if is_last and number < numbers[-1]:
                _write_shape(xml, number + 1, outline, name, is_outside=True)


def _outlines(track: Track, losses: Losses) -> Iterator[tuple[Observation, Outline, bool]]:
    """The frames of a track, with outline and whether it is absent in the next frame."""
    previous: tuple[Observation, Outline] | None = None
    for seen in track.observations():
        outline = outline_of(seen.segmentation, losses)
        if not outline:
            continue
        losses[SCORES] += 1
        if previous is not None:
            yield *previous, seen.frame != previous[0].frame + 1
        previous = (seen, outline)
    if previous is not None:
        yield *previous, True


def outline_of(segmentation: RLE, losses: Losses) -> Outline:
    """The outline of a mask's largest component, in pixels (pixel corners are integers).

    Args:
        segmentation: the mask.
        losses: counts holes and further components.

    Returns:
        Its points; empty for an empty mask.
    """
    height, width = segmentation["size"]
    pixels, left, top = InstanceMask((height, width), rle=segmentation).region
    if not pixels.any():
        return ()
    # doubled, so that outlines follow pixel edges rather than centres
    doubled = pixels.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    found, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer = [contour for contour, of in zip(found, hierarchy[0], strict=True) if of[3] < 0]
    losses[PARTS] += len(outer) > 1
    losses[HOLES] += len(outer) < len(found)
    largest = max(outer, key=cv2.contourArea)[:, 0, :]
    corners = (largest + (largest % 2)) / 2 + (left, top)
    points = corners if len(corners) > 2 else _rectangle(corners)
    return tuple((float(x), float(y)) for x, y in points)


def _rectangle(corners: np.ndarray) -> np.ndarray:
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def _write_shape(
    xml: _Writer, number: int, outline: Outline, name: str, *, is_outside: bool
) -> None:
    with xml.element(
        "polygon",
        frame=number,
        keyframe=1,
        outside=int(is_outside),
        occluded=0,
        z_order=0,
        points=";".join(f"{x:g},{y:g}" for x, y in outline),
    ):
        if name:
            xml.text("attribute", name, name="name")
