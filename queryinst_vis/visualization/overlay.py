"""Drawing tracked instances on frames, with supervision's annotators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import supervision as sv
from supervision.detection.compact_mask import CompactMask

from queryinst_vis.structures import Detections

_PALETTE = sv.ColorPalette.from_hex(
    # Neighbours differ in hue, so that ids born one after the other are told apart.
    [
        "#1f9bff", "#ff7a1a", "#2fbf5b", "#e8384f", "#a15cf0", "#ffd021",
        "#12c4c4", "#ff5cb0", "#9bd41f", "#b0703c", "#5b6bff", "#ff9d8a",
    ]
)  # fmt: skip
_BLACK, _WHITE = sv.Color(0, 0, 0), sv.Color(255, 255, 255)


def track_colour(track_id: int) -> tuple[int, int, int]:
    """The ``(red, green, blue)`` colour of a track, 0..255: the same in every picture."""
    return _PALETTE.by_idx(track_id).as_rgb()


def to_supervision(detections: Detections, compact: bool = False) -> sv.Detections:
    """Detections as supervision's exchange type.

    Args:
        detections: with or without masks and track ids.
        compact: give the masks as supervision's ``CompactMask``, which keeps and draws each
            inside its box only, rather than as full-size arrays.

    Returns:
        ``xyxy`` (N, 4), ``mask`` (N, H, W) bool or None, ``confidence`` (N,), ``class_id`` (N,)
        and ``tracker_id`` (N,) or None, on the CPU.
    """
    detections = detections.to("cpu")
    masks, ids = None, detections.track_ids
    if detections.mask_logits is not None:
        masks = _compact_masks(detections) if compact else detections.masks().numpy()
    return sv.Detections(
        xyxy=detections.boxes.float().numpy(),
        mask=masks,
        confidence=detections.scores.float().numpy(),
        class_id=detections.labels.numpy(),
        tracker_id=None if ids is None else ids.numpy(),
    )


def _compact_masks(detections: Detections) -> CompactMask:
    size = detections.image_size
    masks = [CompactMask.from_dense(np.zeros((0, *size), bool), np.zeros((0, 4)), size)]
    for region, x, y in detections.mask_regions():
        height, width = region.shape
        whole = np.array([[0, 0, width - 1, height - 1]])  # supervision's boxes end in a pixel
        mask = CompactMask.from_dense(region[None], whole, region.shape)
        masks.append(mask.with_offset(x, y, new_image_shape=size))
    return CompactMask.merge(masks)


class Overlay:
    """Draws the masks, labels and recent paths of tracked instances, a colour per identity.

    It remembers the paths, so one Overlay belongs to one video. Detections without masks are
    drawn as boxes.

    Args:
        class_names: names of the labels.
        trace_length: frames over which the path of an instance is drawn.
    """

    def __init__(self, class_names: Sequence[str], trace_length: int = 30) -> None:
        self._class_names = list(class_names)
        self._trace_length = trace_length
        self._annotators: _Annotators | None = None

    def draw(self, frame: np.ndarray, detections: Detections | sv.Detections) -> np.ndarray:
        """The frame with its detections on it.

        Args:
            frame: ``(H, W, 3)`` uint8 RGB; left as it is.
            detections: of this frame, with ``track_ids``; or supervision's, with ``class_id``
                and ``tracker_id``, whose ``confidence`` may be None, as ground truth has none.

        Returns:
            ``(H, W, 3)`` uint8 RGB.

        Raises:
            ValueError: the detections have no ``track_ids``.
        """
        is_ours = isinstance(detections, Detections)
        found = to_supervision(detections, compact=True) if is_ours else detections
        if found.tracker_id is None:
            raise ValueError("Overlay draws tracks: these Detections have no track_ids")
        if self._annotators is None:
            self._annotators = _Annotators.for_frame(*frame.shape[:2], self._trace_length)
        annotators = self._annotators
        scene = frame.copy()
        if found.mask is None:
            scene = annotators.boxes.annotate(scene, found)
        else:
            scene = annotators.masks.annotate(scene, found)
            scene = annotators.outlines.annotate(scene, found)
        scene = annotators.paths.annotate(scene, found)
        return annotators.labels.annotate(scene, found, labels=self._texts(found))

    def _texts(self, found: sv.Detections) -> list[str]:
        names = [
            f"#{track_id} {self._class_names[label]}"
            for track_id, label in zip(found.tracker_id, found.class_id, strict=True)
        ]
        if found.confidence is None:
            return names
        return [f"{name} {s:.2f}" for name, s in zip(names, found.confidence, strict=True)]


class _Annotators(NamedTuple):
    """supervision's annotators; ``paths`` remembers where the instances were."""

    masks: sv.MaskAnnotator
    outlines: sv.PolygonAnnotator
    boxes: sv.BoxAnnotator
    paths: sv.TraceAnnotator
    labels: sv.LabelAnnotator

    @classmethod
    def for_frame(cls, height: int, width: int, trace_length: int) -> _Annotators:
        """Annotators whose lines and letters suit the frame size."""
        thickness = sv.calculate_optimal_line_thickness((width, height))
        common = {"color": _swap_red_blue(_PALETTE), "color_lookup": sv.ColorLookup.TRACK}
        return cls(
            masks=sv.MaskAnnotator(opacity=0.45, **common),
            outlines=sv.PolygonAnnotator(thickness=thickness, **common),
            boxes=sv.BoxAnnotator(thickness=thickness, **common),
            paths=sv.TraceAnnotator(
                trace_length=trace_length,
                position=sv.Position.BOTTOM_CENTER,
                thickness=thickness,
                **common,
            ),
            labels=sv.LabelAnnotator(
                text_color=sv.ColorPalette([_readable_on(colour) for colour in _PALETTE.colors]),
                # Below 0.4 OpenCV's letters are illegible, however small the frame.
                text_scale=max(0.4, 0.8 * sv.calculate_optimal_text_scale((width, height))),
                text_thickness=max(1, thickness // 2),
                text_padding=2 * thickness,
                smart_position=True,  # inside the frame, and beside rather than on one another
                **common,
            ),
        )


def _swap_red_blue(palette: sv.ColorPalette) -> sv.ColorPalette:
    """supervision draws as OpenCV does, blue first; our frames have red first."""
    return sv.ColorPalette([sv.Color(c.b, c.g, c.r) for c in palette.colors])


def _readable_on(colour: sv.Color) -> sv.Color:
    """Black or white letters, whichever stand out (luma of Rec. 601)."""
    luma = 0.299 * colour.r + 0.587 * colour.g + 0.114 * colour.b
    return _BLACK if luma > 140 else _WHITE
