"""Labels beside instances: where they cover neither heads nor one another, and drawing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

Colour = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_HEAD = 0.3  # of the height of a box: what a label should leave free
_PREFERENCE = 0.02  # of its area that a label may cover to have a better place


class LabelStyle(NamedTuple):
    """How large labels are.

    Attributes:
        scale: of OpenCV's letters, which are some 22 pixels high at 1.
        thickness: of their lines, in pixels.
        padding: around the letters, in pixels.
    """

    scale: float
    thickness: int
    padding: int

    def size(self, text: str) -> tuple[int, int]:
        """``(width, height)`` of a label in pixels."""
        (width, height), below = cv2.getTextSize(text, _FONT, self.scale, self.thickness)
        return width + 2 * self.padding, height + below + 2 * self.padding


def draw_labels(
    scene: np.ndarray,
    boxes: np.ndarray,
    texts: Sequence[str],
    colours: Sequence[Colour],
    style: LabelStyle,
) -> None:
    """Draw a label for each instance into ``scene``.

    Args:
        scene: ``(H, W, 3)`` uint8.
        boxes: ``(N, 4)`` xyxy in pixels.
        texts: N labels.
        colours: N, in the order of the scene's channels; letters are black or white on them.
        style: how large.
    """
    sizes = [style.size(text) for text in texts]
    places = place_labels(boxes, sizes, (scene.shape[0], scene.shape[1]))
    for text, colour, (width, height), (x, y) in zip(texts, colours, sizes, places, strict=True):
        cv2.rectangle(scene, (x, y), (x + width - 1, y + height - 1), colour, cv2.FILLED)
        _, below = cv2.getTextSize(text, _FONT, style.scale, style.thickness)
        corner = (x + style.padding, y + height - style.padding - below)
        cv2.putText(
            scene,
            text,
            corner,
            _FONT,
            style.scale,
            readable_on(colour),
            style.thickness,
            cv2.LINE_AA,
        )


def place_labels(
    boxes: np.ndarray, sizes: Sequence[tuple[int, int]], frame_size: tuple[int, int]
) -> list[tuple[int, int]]:
    """Where the labels of a frame go: above a box if there is room, else beside, below or in it.

    Each takes the first place where it lies in the frame and covers least of the upper parts of
    all boxes, where heads are, and of the labels before it.

    Args:
        boxes: ``(N, 4)`` xyxy in pixels.
        sizes: N times ``(width, height)`` of the label.
        frame_size: ``(height, width)``.

    Returns:
        N times ``(x, y)`` of the label's top left corner.
    """
    height, width = frame_size
    boxes = np.clip(np.asarray(boxes, float).reshape(-1, 4), 0, [width, height, width, height])
    taken = boxes.copy()
    taken[:, 3] = boxes[:, 1] + _HEAD * (boxes[:, 3] - boxes[:, 1])
    places: list[tuple[int, int]] = []
    for (x0, y0, x1, y1), (w, h) in zip(boxes, sizes, strict=True):
        corners = np.array(
            [
                (x0, y0 - h),  # above
                (x1 - w, y0 - h),
                (x1, y0),  # beside
                (x0 - w, y0),
                (x0, y1),  # below
                (x0, y1 - h),  # in the box, over the feet
                (x0, y0 - 2 * h),  # above another label
            ]
        )
        corners = np.clip(np.round(corners), 0, [max(width - w, 0), max(height - h, 0)])
        candidates = np.hstack([corners, corners + np.array([w, h])])
        covered = _overlap(candidates, taken).sum(axis=1)
        best = int(np.argmin(covered + _PREFERENCE * w * h * np.arange(len(corners))))
        taken = np.concatenate([taken, candidates[best : best + 1]])
        places.append((int(corners[best, 0]), int(corners[best, 1])))
    return places


def readable_on(colour: Colour) -> Colour:
    """Black or white, whichever stands out on ``(red, green, blue)`` (luma of Rec. 601)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def _overlap(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """``(N, M)`` pixels that N boxes share with each of M."""
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    return np.prod(np.clip(high - low, 0, None), axis=2)
