"""Making instances unrecognisable, or hiding everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
        self,
        frame: np.ndarray,
        tracked: Found,
        detected: Found | None = None,
        *,
        is_damaged: bool = False,
    ) -> np.ndarray:
        """The redacted frame.

        Args:
            frame: ``(H, W, 3)`` uint8; not modified.
            tracked: the tracked instances of this frame.
            detected: all detections of this frame, also those without a track, which are blurred
                by class; None: only ``tracked``.
            is_damaged: the frame replaces one that could not be decoded.
        """
        if is_damaged:
            self.damaged += 1
            return np.zeros_like(frame) if self._last is None else self._last
        tracks = self._instances(tracked, frame)
        everything = tracks if detected is None else self._instances(detected, frame)
        self.unseen.difference_update(each.track_id for each in tracks)
        scene = frame.copy()
        blur, cut_out = self._redaction.blur, self._redaction.cut_out
        for each in everything:
            if each.name in blur:
                _blur(scene, each.region)
        for each in tracks:
            if each.track_id in blur and each.name not in blur:
                _blur(scene, each.region)
        if cut_out:
            visible = np.zeros(frame.shape[:2], dtype=bool)
            for name, track_id, (pixels, x, y) in tracks:
                if name in cut_out or track_id in cut_out:
                    visible[y : y + pixels.shape[0], x : x + pixels.shape[1]] |= pixels
            scene[~visible] = 0
        self._last = scene
        return scene

    def _instances(self, found: Found, frame: np.ndarray) -> list[_Instance]:
        plain = found.to_supervision(masks=False)
        count = len(plain)
        ids = [None] * count if plain.tracker_id is None else plain.tracker_id.tolist()
        labels = [] if plain.class_id is None else plain.class_id.tolist()
        regions = (
            [mask.region for mask in found.instance_masks()]
            if found.has_masks
            else [_region_of(box, frame) for box in plain.xyxy]
        )
        names = [self._class_names[label] for label in labels]
        return [_Instance(*each) for each in zip(names, ids, regions, strict=True)]


class _Instance(NamedTuple):
    name: str
    track_id: int | None
    region: MaskRegion


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
