"""Drawing instances on frames like supervision's annotators, but only inside their regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import supervision as sv

from queryinst_vis.drawing.labels import LabelStyle, draw_labels
from queryinst_vis.drawing.paths import Paths
from queryinst_vis.errors import InputError
from queryinst_vis.masks import InstanceMask, MaskRegion
from queryinst_vis.utils.palette import PALETTE, track_colour

_PALETTE = sv.ColorPalette.from_hex(list(PALETTE))
_RED = (235, 40, 40)
_OPACITY = 0.45  # of masks


class Found(Protocol):
    """Detections for ``Overlay``, such as ``structures.Detections``."""

    @property
    def has_masks(self) -> bool:
        """Whether there are masks, or only boxes."""

    def instance_masks(self) -> list[InstanceMask]:
        """The N masks."""

    def to_supervision(self, masks: bool = True) -> sv.Detections:
        """The same instances, with or without full-frame masks."""


@dataclass(frozen=True)
class DrawingStyle:
    """The parts drawn for an instance.

    Attributes:
        mask: tinted mask.
        outline: outline of the mask.
        box: box; also drawn instead of a mask or outline if there is no mask.
        trace: recent path.
        label: id, class and score.
    """

    mask: bool = True
    outline: bool = True
    box: bool = False
    trace: bool = True
    label: bool = True

    @classmethod
    def of(cls, parts: Sequence[str]) -> DrawingStyle:
        """The style with these parts, such as ``["outline", "label"]``.

        Raises:
            InputError: an unknown part.
        """
        known = [part.name for part in fields(cls)]
        for part in parts:
            if part not in known:
                raise InputError(f"'{part}' cannot be drawn; choose from {', '.join(known)}")
        return cls(**{part: part in parts for part in known})


DEFAULT_STYLE = DrawingStyle()


class Overlay:
    """Draws the masks, labels and recent paths of instances, with one colour per identity.

    It stores the paths, so use one Overlay per video. Detections without masks are
    drawn as boxes; those without ``track_ids`` have no path and are coloured by index.

    Args:
        class_names: names of the labels, by reference: names may be added later.
        trace_length: length of the path in frames.
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
        self._paths = Paths(trace_length)

    def draw(self, frame: np.ndarray, detections: Found | sv.Detections) -> np.ndarray:
        """Draw the detections on a copy of the frame.

        Args:
            frame: ``(H, W, 3)`` uint8 RGB; not modified.
            detections: of this frame; or supervision's, with ``class_id``; ``confidence``
                may be None, e.g. for ground truth.

        Returns:
            ``(H, W, 3)`` uint8 RGB.

        Raises:
            ValueError: supervision's have no ``class_id``.
        """
        return self.plan(detections)(frame)

    def plan(self, detections: Found | sv.Detections) -> Callable[[np.ndarray], np.ndarray]:
        """The sequential part of ``draw``, which updates the paths; call in frame order.

        Args:
            detections: as for ``draw``; must not be modified before drawing.

        Returns:
            The parallel part: a function that draws on a frame, in any thread and order.

        Raises:
            ValueError: as for ``draw``.
        """
        if isinstance(detections, sv.Detections):
            found = detections
        else:
            found = detections.to_supervision(masks=False)
        if found.class_id is None:
            raise ValueError("Overlay needs class ids: these detections have no class_id")
        paths: list[np.ndarray] = []
        if self._style.trace and found.tracker_id is not None:
            paths = self._paths.follow(found.tracker_id.tolist(), found.xyxy)
        return partial(self._draw, detections, found, paths)

    def _draw(
        self,
        detections: Found | sv.Detections,
        found: sv.Detections,
        paths: list[np.ndarray],
        frame: np.ndarray,
    ) -> np.ndarray:
        ids = np.arange(len(found)) if found.tracker_id is None else found.tracker_id
        colours = [track_colour(int(each)) for each in ids]
        regions = _regions(detections)
        scene, style = frame.copy(), self._style
        lines = sv.calculate_optimal_line_thickness((frame.shape[1], frame.shape[0]))
        if regions is not None and (style.mask or style.outline):
            draw_masks(scene, regions, colours, lines, tinted=style.mask, outlined=style.outline)
        if style.box or (regions is None and (style.mask or style.outline)):
            boxes = sv.BoxAnnotator(_swap_red_blue(_PALETTE), lines, sv.ColorLookup.TRACK)
            scene = boxes.annotate(scene, replace(found, tracker_id=ids))
        for path, colour in zip(paths, colours, strict=False):
            if len(path) > 1:
                cv2.polylines(scene, [path], False, colour, lines)
        if style.label:
            draw_labels(scene, found.xyxy, self._labels(found), colours, LabelStyle.of(frame))
        return scene

    def _labels(self, found: sv.Detections) -> list[str]:
        assert found.class_id is not None
        texts = [self._class_names[label] for label in found.class_id]
        if found.tracker_id is not None:
            texts = [f"#{i} {text}" for i, text in zip(found.tracker_id, texts, strict=True)]
        if found.confidence is not None:
            texts = [f"{text} {s:.2f}" for text, s in zip(texts, found.confidence, strict=True)]
        return texts


def _regions(detections: Found | sv.Detections) -> list[MaskRegion] | None:
    """The masks; None if there are only boxes."""
    if not isinstance(detections, sv.Detections):
        masks = detections.instance_masks() if detections.has_masks else None
        return None if masks is None else [mask.region for mask in masks]
    if detections.mask is None:
        return None
    return [MaskRegion(np.asarray(mask, dtype=bool), 0, 0) for mask in detections.mask]


def draw_masks(
    scene: np.ndarray,
    regions: Sequence[MaskRegion],
    colours: Sequence[tuple[int, int, int]],
    thickness: int,
    *,
    tinted: bool = True,
    outlined: bool = True,
) -> None:
    """Tint the masks, largest first, and draw their outlines into ``scene``."""
    shown = [
        _Shown(np.ascontiguousarray(pixels).view(np.uint8), x, y, colour)
        for (pixels, x, y), colour in zip(regions, colours, strict=True)
        if pixels.size
    ]
    if tinted:
        _tint(scene, shown)
    for pixels, x, y, colour in shown if outlined else ():
        contours, _ = cv2.findContours(
            pixels, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y)
        )
        # points and lines are not drawn as outlines, as in supervision
        cv2.polylines(scene, [each for each in contours if len(each) > 2], True, colour, thickness)


class _Shown(NamedTuple):
    """A mask to draw: ``(h, w)`` uint8, 1 inside, its position and colour."""

    pixels: np.ndarray
    x: int
    y: int
    colour: tuple[int, int, int]


def _tint(scene: np.ndarray, shown: Sequence[_Shown]) -> None:
    """Blend every pixel with the colour of the smallest mask that contains it."""
    below = scene.copy()  # pixels in several masks are blended once
    for mask in sorted(shown, key=lambda mask: cv2.countNonZero(mask.pixels), reverse=True):
        height, width = mask.pixels.shape
        place = slice(mask.y, mask.y + height), slice(mask.x, mask.x + width)
        cv2.copyTo(cv2.LUT(below[place], _blended(mask.colour)), mask.pixels, dst=scene[place])


@lru_cache(maxsize=64)
def _blended(colour: tuple[int, int, int]) -> np.ndarray:
    """``(1, 256, 3)`` uint8 lookup table that blends every value with a colour, per channel."""
    values = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    return cv2.addWeighted(np.full_like(values, colour), _OPACITY, values, 1 - _OPACITY, 0)


def _swap_red_blue(palette: sv.ColorPalette) -> sv.ColorPalette:
    """Convert a palette for supervision, which draws in BGR, for use on RGB frames."""
    return sv.ColorPalette([sv.Color(c.b, c.g, c.r) for c in palette.colors])


def mark_damaged(frame: np.ndarray, number: int) -> np.ndarray:
    """Mark the replacement of a damaged frame with a red border and a text.

    Args:
        frame: ``(H, W, 3)`` uint8 RGB; not modified.
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
