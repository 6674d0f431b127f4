"""Rendering scenes to frames with exact masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from queryinst_vis.data.synthetic import shapes
from queryinst_vis.data.synthetic.scene import Motion, Scene, Shape
from queryinst_vis.data.synthetic.textures import sample
from queryinst_vis.masks import RLE, encode_rle

BACKGROUND = -1

MIN_VISIBLE_PIXELS = 20
"""Objects with fewer visible pixels count as absent from a frame."""


@dataclass(frozen=True)
class RenderedFrame:
    """A rendered frame with its instance map.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        owner: ``(H, W)`` int16 index of the visible object, or ``BACKGROUND``.
        extent: ``(N,)`` number of pixels of each object without occlusion.
    """

    image: np.ndarray
    owner: np.ndarray
    extent: np.ndarray

    @property
    def visible(self) -> np.ndarray:
        """``(N,)`` number of visible pixels of each object."""
        return np.bincount(self.owner.ravel() + 1, minlength=len(self.extent) + 1)[1:]

    def rles(self) -> list[RLE | None]:
        """The N masks; None for absent objects."""
        return [
            encode_rle(self.owner == index) if pixels >= MIN_VISIBLE_PIXELS else None
            for index, pixels in enumerate(self.visible)
        ]


def render(scene: Scene, frames: int, height: int, width: int) -> Iterator[RenderedFrame]:
    """Render a scene frame by frame.

    A pixel belongs to the frontmost object that contains its centre. Outlines are anti-aliased
    over one pixel.
    """
    for time in range(frames):
        canvas = _background(scene, time, height, width)
        owner = np.full((height, width), BACKGROUND, dtype=np.int16)
        extent = np.zeros(len(scene.objects), dtype=np.int64)
        for index, shape in enumerate(scene.objects):
            extent[index] = _paint(shape, index, time, canvas, owner)
        yield RenderedFrame(np.rint(canvas).astype(np.uint8), owner, extent)


def _background(scene: Scene, time: int, height: int, width: int) -> np.ndarray:
    x, y = _local_grid(scene.background_motion, time, slice(0, height), slice(0, width))
    return sample(scene.background, x, y)


def _local_grid(
    motion: Motion, time: int, rows: slice, columns: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres in the coordinate system of a moving, rotating and scaling body."""
    center_x, center_y = motion.position(time)
    x = np.arange(columns.start, columns.stop) + 0.5 - center_x
    y = np.arange(rows.start, rows.stop)[:, None] + 0.5 - center_y
    angle, scale = motion.rotation(time), motion.scale(time)
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    return cosine * x + sine * y, cosine * y - sine * x


def _paint(shape: Shape, index: int, time: int, canvas: np.ndarray, owner: np.ndarray) -> int:
    """Draw an object in front of the canvas; returns its number of pixels in the frame."""
    reach = shape.radii.max() * shape.motion.scale(time) + 1
    center_x, center_y = shape.motion.position(time)
    rows = _span(center_y - reach, center_y + reach, owner.shape[0])
    columns = _span(center_x - reach, center_x + reach, owner.shape[1])
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return 0
    x, y = _local_grid(shape.motion, time, rows, columns)
    depth = _depth_inside(shape, x, y) * shape.motion.scale(time)
    inside = depth >= 0
    opacity = np.clip(depth + 0.5, 0, 1)[..., None].astype(np.float32)
    patch = canvas[rows, columns]
    patch += opacity * (sample(shape.tile, x, y) - patch)
    owner[rows, columns][inside] = index
    return int(inside.sum())


def _span(low: float, high: float, limit: int) -> slice:
    return slice(max(int(np.floor(low)), 0), min(int(np.ceil(high)) + 1, limit))


def _depth_inside(shape: Shape, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance in pixels from each position to the outline or hole; negative outside the shape."""
    y = y / shape.aspect
    distance = np.hypot(x, y)
    edge = np.interp(np.arctan2(y, x), shapes.ANGLES, shape.radii)
    depth = edge - distance
    return np.minimum(depth, distance - shape.hole * edge) if shape.hole else depth
