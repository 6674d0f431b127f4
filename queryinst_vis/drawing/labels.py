"""Placing and drawing labels so that they cover neither heads nor one another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import supervision as sv

Colour = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_HEAD = 0.3  # upper fraction of a box that labels should not cover
_PREFERENCE = 0.02  # fraction of its area that a label may cover at a preferred position


class LabelStyle(NamedTuple):
    """Size of labels.

    Attributes:
        scale: font scale of OpenCV; letters are about 22 pixels high at 1.
        thickness: line thickness in pixels.
        padding: around the text, in pixels.
    """

    scale: float
    thickness: int
    padding: int

    @classmethod
    def of(cls, frame: np.ndarray) -> LabelStyle:
        """The style for a frame size."""
        size = frame.shape[1], frame.shape[0]
        thickness = sv.calculate_optimal_line_thickness(size)
        # below 0.4, OpenCV's letters are illegible
        scale = max(0.4, 0.8 * sv.calculate_optimal_text_scale(size))
        return cls(scale, max(1, thickness // 2), 2 * thickness)


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
        style: size of the labels.
    """
    pictures = [_picture(text, colour, style) for text, colour in zip(texts, colours, strict=True)]
    sizes = [(picture.shape[1], picture.shape[0]) for picture in pictures]
    places = place_labels(boxes, sizes, (scene.shape[0], scene.shape[1]))
    for picture, (x, y) in zip(pictures, places, strict=True):
        room = scene[y : y + picture.shape[0], x : x + picture.shape[1]]
        room[:] = picture[: room.shape[0], : room.shape[1]]


@lru_cache(maxsize=1024)  # copying is faster than drawing text
def _picture(text: str, colour: Colour, style: LabelStyle) -> np.ndarray:
    """A label, ``(h, w, 3)`` uint8."""
    scale, thickness, padding = style
    (width, height), below = cv2.getTextSize(text, _FONT, scale, thickness)
    size = height + below + 2 * padding, width + 2 * padding, 3
    picture = np.full(size, colour, dtype=np.uint8)
    corner = padding, padding + height
    ink = readable_on(colour)
    return cv2.putText(picture, text, corner, _FONT, scale, ink, thickness, cv2.LINE_AA)


def place_labels(
    boxes: np.ndarray, sizes: Sequence[tuple[int, int]], frame_size: tuple[int, int]
) -> list[tuple[int, int]]:
    """Label positions: above a box if there is room, otherwise beside, below or inside it.

    Each label gets the first position inside the frame with the least overlap with the upper parts
    of all boxes (heads) and with previous labels.

    Args:
        boxes: ``(N, 4)`` xyxy in pixels.
        sizes: N times ``(width, height)`` of the label.
        frame_size: ``(height, width)``.

    Returns:
        N times ``(x, y)`` of the label's top left corner.
    """
    height, width = frame_size
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    boxes = boxes.clip(0, [width, height, width, height])
    sides = np.array(sizes, float).reshape(-1, 2)
    corners = _corners(boxes, sides)
    corners = corners.round().clip(0, np.maximum([width, height] - sides, 0)[:, None])
    candidates = np.concatenate([corners, corners + sides[:, None]], axis=2)
    heads = boxes.copy()
    heads[:, 3] = boxes[:, 1] + _HEAD * (boxes[:, 3] - boxes[:, 1])
    costs = _overlap(candidates.reshape(-1, 4), heads).sum(axis=1).reshape(corners.shape[:2])
    costs += _PREFERENCE * sides.prod(axis=1)[:, None] * np.arange(corners.shape[1])
    chosen = np.zeros_like(boxes)
    for row, (cost, places) in enumerate(zip(costs, candidates, strict=True)):
        best = (cost + _overlap(places, chosen[:row]).sum(axis=1)).argmin()
        chosen[row] = places[best]
    return [(int(x), int(y)) for x, y, _, _ in chosen.tolist()]


def _corners(boxes: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """``(N, 7, 2)``: top left corners of a label's possible positions, in order of preference.

    Args:
        boxes: ``(N, 4)`` xyxy.
        sides: ``(N, 2)`` width and height of the labels.
    """
    (x0, y0, x1, y1), (w, h) = boxes.T, sides.T
    places = [
        (x0, y0 - h),  # above
        (x1 - w, y0 - h),
        (x1, y0),  # beside
        (x0 - w, y0),
        (x0, y1),  # below
        (x0, y1 - h),  # in the box, over the feet
        (x0, y0 - 2 * h),  # above another label
    ]
    return np.array(places).transpose(2, 0, 1)


def readable_on(colour: Colour) -> Colour:
    """Black or white, whichever has more contrast on ``(red, green, blue)`` (luma of Rec. 601)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def _overlap(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """``(N, M)`` intersection areas of N and M boxes, in pixels."""
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    width, height = np.maximum(high - low, 0).T
    return (width * height).T
