"""Single annotations of a file: masks, boxes and areas per frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeGuard

import numpy as np

from queryinst_vis.formats.annotation_set import Video
from queryinst_vis.formats.fields import is_box, shortened
from queryinst_vis.formats.findings import Finding, Place, Report
from queryinst_vis.masks import RLE, MaskError, check_segmentation, to_masks, to_rles
from queryinst_vis.masks.decoded import DecodedMasks
from queryinst_vis.utils.numbers import is_finite

Box = list[float]
"""``[x, y, width, height]`` in pixels, as in COCO."""


def has_area(box: Box | None) -> TypeGuard[Box]:
    """Whether there is a box with a positive area."""
    return box is not None and box[2] > 0 and box[3] > 0


@dataclass(frozen=True)
class Annotation:
    """One track of a video, or one object of an image: lists with one item per frame.

    Attributes:
        id: annotation id.
        category_id: category id of the file.
        crowd: whether it is a group or an ignore region.
        segmentations: polygons or RLE as in the file, None in frames without a mask.
        boxes: as in the file, None in frames without a valid box; None if the file has no boxes.
        areas: in pixels, None in frames without a valid area; None if the file has no areas.
        entry: the original entry.
    """

    id: int
    category_id: int
    crowd: bool
    segmentations: list[Any]
    boxes: list[Box | None] | None
    areas: list[float | None] | None
    entry: dict[str, Any]

    def boxes_alone(self) -> dict[int, Box]:
        """Boxes by frame, for frames with a non-empty box but no mask."""
        return {
            frame: box
            for frame, box in enumerate(self.boxes or ())
            if self.segmentations[frame] is None and has_area(box)
        }

    def visible_frames(self) -> int:
        """Number of frames with a mask, or with only a box."""
        masks = len(self.segmentations) - self.segmentations.count(None)
        return masks + len(self.boxes_alone())


def parse_annotation(entry: dict[str, Any], video: Video, report: Report) -> Annotation | None:
    """Parse an annotation; masks are not decoded, see ``decode_masks``.

    Args:
        entry: of ``AnnotationSet.entries``.
        video: the video or image of the annotation.
        report: receives the findings.

    Returns:
        None if the list of masks does not have one entry (or null) per frame.
    """
    place = {**video.place, "annotation": entry["id"]}
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        report(Finding("crowd flag", place, f"`iscrowd` must be 0 or 1, is {shortened(crowd)}"))
    masks: list[Any] | None
    boxes: list[Any] | None
    areas: list[Any] | None
    if video.kind == "image":
        masks, boxes, areas = [entry.get("segmentation")], [entry.get("bbox")], [entry.get("area")]
    else:
        masks, boxes, areas = (
            _one_per_frame(entry, key, video, place, report)
            for key in ("segmentations", "bboxes", "areas")
        )
        if masks is None and entry.get("segmentations") is None and entry.get("bboxes") is None:
            message = f"has neither `segmentations` nor `bboxes`, {video.length} entries each"
            report(Finding("list length", place, message))
            return None
        if masks is None and entry.get("segmentations") is not None:
            return None
        masks = masks or [None] * video.length
    annotation = Annotation(
        id=entry["id"],
        category_id=entry["category_id"],
        crowd=crowd == 1,
        segmentations=without_empty(masks, video, place, report),
        boxes=_parse_boxes(boxes, video, place, report),
        areas=_parse_areas(areas, video, place, report),
        entry=entry,
    )
    _report_missing(annotation, video, place, report)
    return annotation


def _one_per_frame(
    entry: dict[str, Any], key: str, video: Video, place: Place, report: Report
) -> list[Any] | None:
    """The list under a key; None if it is missing or does not have one item per frame."""
    values = entry.get(key)
    if values is None:
        return None
    return values if is_one_per_frame(values, key, video, place, report) else None


def is_one_per_frame(values: Any, key: str, video: Video, place: Place, report: Report) -> bool:
    """Whether a value is a list with one item per frame; otherwise a finding is reported."""
    if isinstance(values, list) and len(values) == video.length:
        return True
    has = f"has {len(values)}" if isinstance(values, list) else f"is {shortened(values)}"
    message = f"`{key}` must have {video.length} entries, one per frame, {has}"
    if isinstance(values, list) and abs(len(values) - video.length) == 1:
        message += "; is it one frame off?"
    report(Finding("list length", place, message))
    return False


def without_empty(
    segmentations: list[Any], video: Video, place: Place, report: Report
) -> list[Any]:
    """The list with None for ``[]``, ``{}`` and ``""``; in images, ``[]`` is valid."""
    if sum(map(bool, segmentations)) + segmentations.count(None) == len(segmentations):
        return segmentations  # the common case
    masks = []
    for frame, mask in enumerate(segmentations):
        is_empty = not mask and isinstance(mask, list | dict | str)
        if is_empty and not (video.kind == "image" and mask == []):
            message = f"is {mask!r}; where the object is absent, write null"
            report(Finding("empty entry", video.frame_place(place, frame), message))
        masks.append(None if is_empty else mask)
    return masks


def _parse_boxes(
    boxes: list[Any] | None, video: Video, place: Place, report: Report
) -> list[Box | None] | None:
    """The boxes with None for invalid ones, which are reported."""
    parsed: list[Box | None] = []
    for frame, box in enumerate(boxes or ()):
        broken = box is not None and not is_box(box)
        if broken:
            message = f"{shortened(box, 60)} is not [x, y, width, height]"
            report(Finding("broken box", video.frame_place(place, frame), message))
        parsed.append(None if broken else box)
    return None if boxes is None else parsed


def _parse_areas(
    areas: list[Any] | None, video: Video, place: Place, report: Report
) -> list[float | None] | None:
    """The areas with None for invalid ones, which are reported."""
    parsed: list[float | None] = []
    for frame, area in enumerate(areas or ()):
        is_area = is_finite(area) and area >= 0
        if area is not None and not is_area:
            message = f"area {shortened(area)} is not a number of pixels"
            report(Finding("broken area", video.frame_place(place, frame), message))
        parsed.append(area if is_area else None)
    return None if areas is None else parsed


def _report_missing(annotation: Annotation, video: Video, place: Place, report: Report) -> None:
    """Report missing masks, boxes and areas."""
    if video.kind == "image":
        for key, values in (("bbox", annotation.boxes), ("area", annotation.areas)):
            if values == [None] and annotation.entry.get(key) is None:
                report(Finding("no box or area", place, f"has no `{key}`, which COCO's AP needs"))
    if annotation.segmentations.count(None) < len(annotation.segmentations):
        return
    boxes = annotation.boxes_alone()
    if boxes:
        frames = f" in {len(boxes)} of {video.length} frames" if video.kind == "video" else ""
        message = f"has a box and no mask{frames}: it trains classes and boxes, not masks"
        report(Finding("boxes only", place, message))
    elif video.kind == "image":
        message = "has no segmentation and no bbox with an area; add one, or delete it"
        report(Finding("nothing shown", place, message))


def check_masks(annotation: Annotation, video: Video, report: Report) -> None:
    """Report masks of an invalid type or size, like ``decode_masks`` but without decoding runs."""
    for frame, mask in enumerate(annotation.segmentations):
        if mask is not None:
            try:
                check_segmentation(mask, video.height, video.width)
            except MaskError as error:
                place = {**video.place, "annotation": annotation.id}
                report(Finding(error.kind, video.frame_place(place, frame), str(error)))


def decode_track(
    segmentations: list[Any], video: Video, place: Place, report: Report
) -> tuple[list[RLE | None], np.ndarray]:
    """``decode_masks`` of a single track, without the decoded masks."""
    [(masks, sizes, _)] = decode_masks([segmentations], video, [place], report)
    return masks, sizes


def decode_masks(
    tracks: Sequence[list[Any]], video: Video, places: Sequence[Place], report: Report
) -> list[tuple[list[RLE | None], np.ndarray, DecodedMasks | None]]:
    """Convert the masks of a video's tracks to valid RLEs and decode them.

    Args:
        tracks: for each track, one segmentation or None per frame.
        video: the video of the tracks.
        places: places of the tracks in the file, for findings.
        report: receives the findings about invalid masks.

    Returns:
        For each track one compressed RLE per frame, None where there is no valid mask;
        their ``(frames,)`` int64 areas in pixels; and the ``(frames,)`` decoded masks, None if any
        mask of the video could not be decoded.
    """
    frames = [[frame for frame, mask in enumerate(track) if mask is not None] for track in tracks]
    given = [track[frame] for track, shown in zip(tracks, frames, strict=True) for frame in shown]
    owners = np.repeat(np.arange(len(tracks)), [len(shown) for shown in frames])
    frame_of = np.fromiter(chain.from_iterable(frames), dtype=np.int64, count=len(owners))
    rles: Sequence[RLE | None]
    decoded: DecodedMasks | None = None
    try:  # all masks together: faster, and nearly always valid
        rles, areas, decoded = to_masks(given, video.height, video.width)
    except MaskError:
        rles, areas = [None] * len(given), np.zeros(len(given), dtype=np.int64)
        for index, segmentation in enumerate(given):
            try:
                [rles[index]], areas[index : index + 1] = to_rles(
                    [segmentation], video.height, video.width
                )
            except MaskError as error:
                here = video.frame_place(places[owners[index]], int(frame_of[index]))
                report(Finding(error.kind, here, str(error)))
    shape = len(tracks), video.length
    sizes = np.zeros(shape, dtype=np.int64)
    sizes[owners, frame_of] = areas
    placed = decoded and decoded.placed((owners, frame_of), shape)
    following = iter(rles)
    masks: list[list[RLE | None]] = [[None] * video.length for _ in tracks]
    for track, shown in zip(masks, frames, strict=True):
        for frame in shown:
            track[frame] = next(following)
    return [(track, sizes[index], placed and placed[index]) for index, track in enumerate(masks)]
