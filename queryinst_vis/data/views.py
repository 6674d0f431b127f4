"""Augmentation: random crops, resizing, flips and colour jitter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from queryinst_vis.config import InputConfig
from queryinst_vis.data.transforms import fit_size, resize_image

# Colour jitter of strength 1 uses the ranges of SSD's photometric distortion.
_BRIGHTNESS = 32.0  # of 255
_CONTRAST = 0.5  # factors in 1 +- this value
_SATURATION = 0.5
_HUE = np.deg2rad(18.0)
_LUMA = np.array([0.299, 0.587, 0.114])

Window = tuple[int, int, int, int]
"""``(top, left, bottom, right)`` in image pixels, ends exclusive."""


@dataclass(frozen=True)
class View:
    """A view of an image: a crop, resized, and optionally flipped and recoloured.

    Attributes:
        top, left, bottom, right: the window to crop, in image pixels, ends exclusive.
        height, width: size after resizing, in pixels.
        flip: horizontal flip.
        colour: ``(3, 4)`` affine map of RGB in 0..255; None: no colour change.
    """

    top: int
    left: int
    bottom: int
    right: int
    height: int
    width: int
    flip: bool = False
    colour: np.ndarray | None = None

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Apply the view to an ``(H, W, 3)`` uint8 RGB image: ``(height, width, 3)`` uint8."""
        window = image[self.top : self.bottom, self.left : self.right]
        pixels = resize_image(window, self.height, self.width)
        if self.flip:
            pixels = cv2.flip(pixels, 1)
        return pixels if self.colour is None else cv2.transform(pixels, self.colour)

    def rows(self) -> np.ndarray:
        """``(height,)`` nearest image row for each row of the view, used for masks."""
        return self.top + _nearest(self.bottom - self.top, self.height)

    def columns(self) -> np.ndarray:
        """``(width,)`` nearest image column for each column of the view, before the flip."""
        return self.left + _nearest(self.right - self.left, self.width)

    def box(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """Convert an xyxy box inside the window to pixels of the view."""
        x0, y0, x1, y1 = box
        x_scale = self.width / (self.right - self.left)
        y_scale = self.height / (self.bottom - self.top)
        x0, x1 = ((x - self.left) * x_scale for x in (x0, x1))
        y0, y1 = ((y - self.top) * y_scale for y in (y0, y1))
        return (self.width - x1, y0, self.width - x0, y1) if self.flip else (x0, y0, x1, y1)


def _nearest(source: int, target: int) -> np.ndarray:
    """The source pixel at the centre of each of ``target`` pixels."""
    return ((np.arange(target) + 0.5) * source / target).astype(np.int64)


def draw_view(rng: np.random.Generator, height: int, width: int, config: InputConfig) -> View:
    """Sample a view of a ``height`` x ``width`` image: size, flip, optional crop, colours."""
    sizing = _draw_sizing(rng, config)
    window = (0, 0, height, width)
    if rng.random() < config.crop:
        window = _draw_window(rng, height, width, config)
    return sizing.view(window, draw_colour(rng, config.colour))


def draw_pseudo_clip(
    rng: np.random.Generator, height: int, width: int, config: InputConfig
) -> list[View]:
    """Sample two views of one image that simulate two frames of a video.

    Their crops differ in position and scale, and their colours differ, so that instances move,
    change scale and lighting, and leave. Aspect ratio, and thus the size of the views, flip and
    scale jitter are shared, as for pairs of real frames.
    """
    sizing = _draw_sizing(rng, config)
    first = _draw_window(rng, height, width, config)
    windows = [first, _zoom_window(rng, height, width, first, config)]
    return [sizing.view(window, draw_colour(rng, config.colour)) for window in windows]


def canvas_size(config: InputConfig) -> tuple[int, int] | None:
    """``(height, width)`` of the canvas for large-scale jitter; None without it."""
    return (config.train_short[0], config.train_long[0]) if config.scale_jitter else None


@dataclass(frozen=True)
class _Sizing:
    """Sampled parameters that turn windows of an image into views.

    Attributes:
        short, long: maximum short and long side of a resized window, in pixels.
        flip: horizontal flip.
        jitter: factor on this size.
        places: 0..1, vertical and horizontal: position of the crop if a resized window exceeds
            the canvas; 0: at the start.
        canvas: ``(height, width)`` in pixels; None: views of any size.
    """

    short: int
    long: int
    flip: bool
    jitter: float = 1.0
    places: tuple[float, float] = (0.5, 0.5)
    canvas: tuple[int, int] | None = None

    def view(self, window: Window, colour: np.ndarray | None) -> View:
        """The view of a window, cropped to the canvas."""
        top, left, bottom, right = window
        height, width = fit_size(
            bottom - top, right - left, self.short * self.jitter, self.long * self.jitter
        )
        if self.canvas is not None:
            rows, columns = self.canvas
            top, bottom = _cut_span(top, bottom, height, rows, self.places[0])
            left, right = _cut_span(left, right, width, columns, self.places[1])
            height, width = min(height, rows), min(width, columns)
        return View(top, left, bottom, right, height, width, self.flip, colour)


def _cut_span(first: int, last: int, length: int, limit: int, place: float) -> tuple[int, int]:
    """The part of a span to keep, so that of its ``length`` resized pixels ``limit`` remain."""
    if length <= limit:
        return first, last
    kept = max(round((last - first) * limit / length), 1)
    first += round(place * (last - first - kept))
    return first, first + kept


def _draw_sizing(rng: np.random.Generator, config: InputConfig) -> _Sizing:
    short = config.train_short[rng.integers(len(config.train_short))]
    long = config.train_long[rng.integers(len(config.train_long))]
    flip = bool(rng.random() < config.flip)
    if not config.scale_jitter:
        return _Sizing(short, long, flip)
    low, high = config.scale_jitter
    jitter, places = rng.uniform(low, high), (rng.random(), rng.random())
    return _Sizing(short, long, flip, jitter, places, canvas_size(config))


def _draw_window(rng: np.random.Generator, height: int, width: int, config: InputConfig) -> Window:
    """Sample a crop of a ``height`` x ``width`` image.

    Its sides are fractions of the image's, in ``crop_range``. With ``crop_short``, crops are as in
    DETR: their sides are in pixels of the image resized to one of these short sides. DETR resizes,
    crops and resizes again; here, a single resize blurs less.
    """
    ranges = _side_ranges(rng, height, width, config)
    crop_height, crop_width = (max(round(rng.uniform(*side)), 1) for side in ranges)
    return _place_window(rng, height, width, crop_height, crop_width)


def _zoom_window(
    rng: np.random.Generator, height: int, width: int, window: Window, config: InputConfig
) -> Window:
    """Sample another crop with the same aspect ratio, also within the size ranges of crops."""
    sides = window[2] - window[0], window[3] - window[1]
    ranges = _side_ranges(rng, height, width, config)
    lowest = max(low / side for side, (low, _) in zip(sides, ranges, strict=True))
    highest = min(high / side for side, (_, high) in zip(sides, ranges, strict=True))
    zoom = rng.uniform(min(lowest, 1), max(highest, 1))
    crop_height, crop_width = (
        min(max(round(side * zoom), 1), limit)
        for side, limit in zip(sides, (height, width), strict=True)
    )
    return _place_window(rng, height, width, crop_height, crop_width)


def _side_ranges(
    rng: np.random.Generator, height: int, width: int, config: InputConfig
) -> list[tuple[float, float]]:
    """Minimum and maximum height, and width, of a crop in image pixels."""
    units: tuple[float, float] = height, width
    if config.crop_short:
        short = config.crop_short[rng.integers(len(config.crop_short))]
        units = (min(height, width) / short,) * 2
    low, high = config.crop_range
    return [
        (unit * min(low, side / unit), unit * min(high, side / unit))
        for side, unit in zip((height, width), units, strict=True)
    ]


def _place_window(
    rng: np.random.Generator, height: int, width: int, crop_height: int, crop_width: int
) -> Window:
    top = int(rng.integers(height - crop_height + 1))
    left = int(rng.integers(width - crop_width + 1))
    return top, left, top + crop_height, left + crop_width


def draw_colour(rng: np.random.Generator, strength: float) -> np.ndarray | None:
    """Sample brightness, contrast, saturation and hue as a single affine map of RGB, or None.

    All four are affine in RGB (hue is a rotation about the grey axis), so that one matrix replaces
    four passes, and can be shared by the frames of a pair.

    Args:
        rng: random generator.
        strength: 0..1; 0: no colour change.
    """
    if strength == 0:
        return None
    brightness, contrast, saturation, hue = rng.uniform(-strength, strength, 4)
    grey = np.broadcast_to(_LUMA, (3, 3))
    saturate = grey + (1 + _SATURATION * saturation) * (np.eye(3) - grey)
    gain = 1 + _CONTRAST * contrast
    matrix = gain * saturate @ _hue_rotation(_HUE * hue)
    offset = 128 * (1 - gain) + _BRIGHTNESS * brightness
    return np.column_stack([matrix, np.full(3, offset)])


def _hue_rotation(angle: float) -> np.ndarray:
    """Rotation of RGB about the grey axis by ``angle`` radians (Rodrigues' formula)."""
    axis = np.full(3, 3**-0.5)
    cross = np.cross(np.eye(3), axis)
    return (
        np.cos(angle) * np.eye(3)
        + np.sin(angle) * cross
        + (1 - np.cos(angle)) * np.outer(axis, axis)
    )
