"""Making instances unrecognisable, or hiding everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from queryinst_vis.drawing.overlay import Found
from queryinst_vis.masks import MaskRegion

Chosen = tuple["str | int", ...]
"""Classes by name, and tracks by id."""

_CELLS = 6  # number of cells along the longer side of a pixelated instance
_MARGIN = 0.04  # dilation of masks, whose edges are not exact, as a fraction of the longer side


@dataclass(frozen=True)
class Redaction:
    """What to hide in a video.

    Attributes:
        blur: instances to make unrecognisable.
        cut_out: show only these instances, on black; empty: show everything.
    """

    blur: Chosen = ()
    cut_out: Chosen = ()

    def __bool__(self) -> bool:
        return bool(self.blur or self.cut_out)


NOTHING_HIDDEN = Redaction()


class Redactor:
    """Redacts the frames of one video, in order.

    Instances that the detector misses stay visible, so this does not guarantee privacy. A
    damaged frame has no detections but shows the previous frame, so it is replaced by the previous
    redacted frame.

    Args:
        redaction: what to hide.
        class_names: names of the labels, by reference: names may be added later.

    Attributes:
        damaged: number of damaged frames.
        unseen: requested ids that have not occurred.
    """

    def __init__(self, redaction: Redaction, class_names: Sequence[str]) -> None:
        self._redaction = redaction
        self._class_names = class_names
        self._last: np.ndarray | None = None
        self.damaged = 0
        self.unseen = {
            chosen for chosen in redaction.blur + redaction.cut_out if isinstance(chosen, int)
        }

    def redact(
        self, frame: np.ndarray, detections: Found, *, is_damaged: bool = False
    ) -> np.ndarray:
        """The redacted frame.

        Args:
            frame: ``(H, W, 3)`` uint8; not modified.
            detections: of this frame.
            is_damaged: the frame replaces one that could not be decoded.
        """
        if is_damaged:
            self.damaged += 1
            return np.zeros_like(frame) if self._last is None else self._last
        found = detections.to_supervision(masks=False)
        ids = [] if found.tracker_id is None else found.tracker_id.tolist()
        self.unseen.difference_update(ids)
        labels = [] if found.class_id is None else found.class_id.tolist()
        names: list[str] = [self._class_names[label] for label in labels]
        regions = (
            [mask.region for mask in detections.instance_masks()]
            if detections.has_masks
            else [_region_of(box, frame) for box in found.xyxy]
        )
        scene = frame.copy()
        for row, region in enumerate(regions):
            if _is_chosen(self._redaction.blur, names[row], ids[row] if ids else None):
                _blur(scene, region)
        if self._redaction.cut_out:
            visible = np.zeros(frame.shape[:2], dtype=bool)
            for row, (pixels, x, y) in enumerate(regions):
                if _is_chosen(self._redaction.cut_out, names[row], ids[row] if ids else None):
                    visible[y : y + pixels.shape[0], x : x + pixels.shape[1]] |= pixels
            scene[~visible] = 0
        self._last = scene
        return scene


def _is_chosen(chosen: Chosen, name: str, track_id: int | None) -> bool:
    return name in chosen or (track_id is not None and track_id in chosen)


def _region_of(box: np.ndarray, frame: np.ndarray) -> MaskRegion:
    """The pixels of a box, clipped to the frame."""
    height, width = frame.shape[:2]
    x0, x1 = (int(min(max(side, 0), width)) for side in (box[0], np.ceil(box[2])))
    y0, y1 = (int(min(max(side, 0), height)) for side in (box[1], np.ceil(box[3])))
    return MaskRegion(np.ones((max(y1 - y0, 0), max(x1 - x0, 0)), dtype=bool), x0, y0)


def _blur(scene: np.ndarray, region: MaskRegion) -> None:
    """Pixelate a mask and a margin around it in ``scene``."""
    rows, columns = np.flatnonzero(region.pixels.any(1)), np.flatnonzero(region.pixels.any(0))
    if not len(rows):
        return
    tight = region.pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    size = max(tight.shape)
    margin = max(2, round(_MARGIN * size))
    top, left = region.y + int(rows[0]) - margin, region.x + int(columns[0]) - margin
    widened = cv2.dilate(
        np.pad(tight, margin).astype(np.uint8),
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1)),
    )
    # clip to the frame
    widened = widened[max(-top, 0) :, max(-left, 0) :]
    top, left = max(top, 0), max(left, 0)
    part = scene[top : top + widened.shape[0], left : left + widened.shape[1]]
    inside = widened[: part.shape[0], : part.shape[1]].astype(bool)
    cell = max(size / _CELLS, 1)
    cells = (max(1, round(part.shape[1] / cell)), max(1, round(part.shape[0] / cell)))
    coarse = cv2.resize(part, cells, interpolation=cv2.INTER_AREA)
    smooth = cv2.resize(coarse, (part.shape[1], part.shape[0]), interpolation=cv2.INTER_LINEAR)
    part[inside] = smooth[inside]
