"""Drawing instances on frames, with supervision's annotators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import supervision as sv

from queryinst_vis.drawing.labels import LabelStyle, draw_labels
from queryinst_vis.errors import InputError
from queryinst_vis.masks import InstanceMask, MaskRegion

_PALETTE = sv.ColorPalette.from_hex(
    # Neighbours differ in hue, so that ids born one after the other are told apart.
    [
        "#1f9bff", "#ff7a1a", "#2fbf5b", "#e8384f", "#a15cf0", "#ffd021",
        "#12c4c4", "#ff5cb0", "#9bd41f", "#b0703c", "#5b6bff", "#ff9d8a",
    ]
)  # fmt: skip
_RED = (235, 40, 40)
_OPACITY = 0.45  # of masks


def track_colour(track_id: int) -> tuple[int, int, int]:
    """The ``(red, green, blue)`` colour of a track, 0..255: the same in every picture."""
    return _PALETTE.by_idx(track_id).as_rgb()


class Found(Protocol):
    """What ``Overlay`` draws: ``structures.Detections``."""

    @property
    def has_masks(self) -> bool:
        """Whether there are masks, or boxes alone."""

    def instance_masks(self) -> list[InstanceMask]:
        """The N masks."""

    def to_supervision(self, masks: bool = True) -> sv.Detections:
        """The same instances, with or without masks of the whole frame."""


@dataclass(frozen=True)
class DrawingStyle:
    """What is drawn of an instance.

    Attributes:
        mask: its pixels, tinted.
        outline: around them.
        box: its box, which also stands in for the mask or outline where there is no mask.
        trace: where it came from.
        label: its id, class and score.
    """

    mask: bool = True
    outline: bool = True
    box: bool = False
    trace: bool = True
    label: bool = True

    @classmethod
    def of(cls, parts: Sequence[str]) -> DrawingStyle:
        """The style that draws these parts alone, such as ``["outline", "label"]``.

        Raises:
            InputError: there is no such part.
        """
        known = [part.name for part in fields(cls)]
        for part in parts:
            if part not in known:
                raise InputError(f"'{part}' cannot be drawn; choose from {', '.join(known)}")
        return cls(**{part: part in parts for part in known})


DEFAULT_STYLE = DrawingStyle()


class Overlay:
    """Draws the masks, labels and recent paths of instances, a colour per identity.

    It remembers the paths, so one Overlay belongs to one video. Detections without masks are
    drawn as boxes; those without ``track_ids`` have no path, and a colour each by their order.

    Args:
        class_names: names of the labels, kept as they are given: more may come.
        trace_length: frames over which the path of an instance is drawn.
        style: what is drawn.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        trace_length: int = 30,
        style: DrawingStyle = DEFAULT_STYLE,
    ) -> None:
        self._class_names = class_names
        self._style = style
        self._trace_length = trace_length
        self._annotators: _Annotators | None = None

    def draw(self, frame: np.ndarray, detections: Found | sv.Detections) -> np.ndarray:
        """The frame with its detections on it.

        Args:
            frame: ``(H, W, 3)`` uint8 RGB; left as it is.
            detections: of this frame; or supervision's, with ``class_id``, whose ``confidence``
                may be None, as ground truth has none.

        Returns:
            ``(H, W, 3)`` uint8 RGB.

        Raises:
            ValueError: supervision's have no ``class_id``.
        """
        regions: list[MaskRegion] | None = None
        if isinstance(detections, sv.Detections):
            found = detections
            if found.mask is not None:
                regions = [MaskRegion(np.asarray(mask, dtype=bool), 0, 0) for mask in found.mask]
        else:
            found = detections.to_supervision(masks=False)
            if detections.has_masks:
                regions = [mask.region for mask in detections.instance_masks()]
        if found.class_id is None:
            raise ValueError("Overlay writes class names: these detections have no class_id")
        names = [self._class_names[label] for label in found.class_id]
        ids = found.tracker_id
        if ids is not None:
            names = [f"#{i} {name}" for i, name in zip(ids, names, strict=True)]
        if found.confidence is not None:
            names = [f"{name} {s:.2f}" for name, s in zip(names, found.confidence, strict=True)]
        if self._annotators is None:
            self._annotators = _Annotators.for_frame(frame, self._trace_length)
        annotators = self._annotators
        colour_ids = np.arange(len(found)) if ids is None else ids
        found = replace(found, tracker_id=colour_ids)
        scene, style = frame.copy(), self._style
        colours = [track_colour(int(each)) for each in colour_ids]
        if regions is not None and (style.mask or style.outline):
            draw_masks(
                scene,
                regions,
                colours,
                annotators.thickness,
                tinted=style.mask,
                outlined=style.outline,
            )
        if style.box or (regions is None and (style.mask or style.outline)):
            scene = annotators.boxes.annotate(scene, found)
        if ids is not None and style.trace:
            scene = annotators.paths.annotate(scene, found)
        if style.label:
            draw_labels(scene, found.xyxy, names, colours, annotators.labels)
        return scene


def draw_masks(
    scene: np.ndarray,
    regions: Sequence[MaskRegion],
    colours: Sequence[tuple[int, int, int]],
    thickness: int,
    *,
    tinted: bool = True,
    outlined: bool = True,
) -> None:
    """Tint the pixels of masks, of large ones first, and draw their outlines, into ``scene``."""
    if tinted:
        _tint(scene, regions, colours)
    for (pixels, x, y), colour in zip(regions, colours, strict=True) if outlined else ():
        polygons = sv.mask_to_polygons(pixels)
        cv2.polylines(
            scene, [p + np.array((x, y), np.int32) for p in polygons], True, colour, thickness
        )


def _tint(
    scene: np.ndarray, regions: Sequence[MaskRegion], colours: Sequence[tuple[int, int, int]]
) -> None:
    """Blend every pixel with the colour of the smallest mask that it belongs to."""
    below = scene.copy()  # a pixel of several masks is blended once
    areas = [np.count_nonzero(region.pixels) for region in regions]
    for row in np.argsort(areas)[::-1]:
        pixels, x, y = regions[row]
        if areas[row]:
            place = slice(y, y + pixels.shape[0]), slice(x, x + pixels.shape[1])
            plain = np.full((*pixels.shape, 3), colours[row], dtype=np.uint8)
            tint = cv2.addWeighted(plain, _OPACITY, below[place], 1 - _OPACITY, 0)
            inside = np.ascontiguousarray(pixels).view(np.uint8)
            cv2.copyTo(tint, inside, dst=scene[place])


class _Annotators(NamedTuple):
    """supervision's annotators, of which ``paths`` remembers where the instances were."""

    thickness: int
    boxes: sv.BoxAnnotator
    paths: sv.TraceAnnotator
    labels: LabelStyle

    @classmethod
    def for_frame(cls, frame: np.ndarray, trace_length: int) -> _Annotators:
        """Annotators whose lines and letters suit the frame size."""
        size = frame.shape[1], frame.shape[0]
        thickness = sv.calculate_optimal_line_thickness(size)
        colours, by_track = _swap_red_blue(_PALETTE), sv.ColorLookup.TRACK
        return cls(
            thickness=thickness,
            boxes=sv.BoxAnnotator(colours, thickness, by_track),
            paths=sv.TraceAnnotator(
                colours,
                trace_length=trace_length,
                position=sv.Position.BOTTOM_CENTER,
                thickness=thickness,
                color_lookup=by_track,
            ),
            labels=LabelStyle(
                # Below 0.4 OpenCV's letters are illegible, however small the frame.
                scale=max(0.4, 0.8 * sv.calculate_optimal_text_scale(size)),
                thickness=max(1, thickness // 2),
                padding=2 * thickness,
            ),
        )


def _swap_red_blue(palette: sv.ColorPalette) -> sv.ColorPalette:
    """supervision draws as OpenCV does, blue first; our frames have red first."""
    return sv.ColorPalette([sv.Color(c.b, c.g, c.r) for c in palette.colors])


def mark_damaged(frame: np.ndarray, number: int) -> np.ndarray:
    """A frame that stands in for a damaged one, with a red border and words that say so.

    Args:
        frame: ``(H, W, 3)`` uint8 RGB; left as it is.
        number: of the damaged frame.
    """
    height, width = frame.shape[:2]
    thickness = max(2, min(height, width) // 60)
    scene = cv2.rectangle(frame.copy(), (0, 0), (width - 1, height - 1), _RED, thickness)
    text, font = f"frame {number} is damaged", cv2.FONT_HERSHEY_SIMPLEX
    (text_width, text_height), _ = cv2.getTextSize(text, font, 1, 2)
    scale = min(1.0, 0.8 * width / text_width)
    place = (2 * thickness, 2 * thickness + round(scale * text_height))
    return cv2.putText(scene, text, place, font, scale, _RED, max(1, round(2 * scale)))
