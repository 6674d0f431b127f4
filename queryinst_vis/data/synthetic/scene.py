"""Scenes of synthetic videos: textured shapes on smooth paths in front of a moving background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from queryinst_vis.data.synthetic import shapes, textures
from queryinst_vis.data.synthetic.settings import SyntheticSettings

_OBJECT_TILE = 128
_BACKGROUND_TILE = 256
_DEFORMATION = 0.12
_BACKGROUND_CONTRAST = 60.0  # maximum RGB distance between the background's two colours


@dataclass(frozen=True)
class Motion:
    """A smooth motion: constant velocity plus an oscillation, with rotation and scaling.

    Attributes:
        anchor: ``(2,)`` x, y in pixels at ``anchor_time``.
        anchor_time: in frames.
        velocity: ``(2,)`` pixels per frame.
        swing: ``(2,)`` amplitude of the oscillation in pixels.
        swing_rate, swing_phase: radians per frame, radians.
        angle, turn_rate: radians at ``anchor_time``, radians per frame.
        zoom, zoom_rate: amplitude of the logarithm of the scale, radians per frame.
    """

    anchor: np.ndarray
    anchor_time: float
    velocity: np.ndarray
    swing: np.ndarray
    swing_rate: float
    swing_phase: float
    angle: float
    turn_rate: float
    zoom: float
    zoom_rate: float

    def position(self, time: float) -> np.ndarray:
        """``(2,)`` x, y in pixels."""
        elapsed = time - self.anchor_time
        phase = np.sin(self.swing_rate * elapsed + self.swing_phase) - np.sin(self.swing_phase)
        return self.anchor + self.velocity * elapsed + self.swing * phase

    def rotation(self, time: float) -> float:
        """Angle in radians."""
        return self.angle + self.turn_rate * (time - self.anchor_time)

    def scale(self, time: float) -> float:
        """Scale relative to ``anchor_time``."""
        return float(np.exp(self.zoom * np.sin(self.zoom_rate * (time - self.anchor_time))))


@dataclass(frozen=True)
class Shape:
    """One object.

    Attributes:
        label: index into ``shapes.CLASS_NAMES``.
        radii: radii of the outline at ``shapes.ANGLES``, in pixels at scale 1.
        hole: radius of the hole as a fraction of the outline's.
        aspect: height / width before rotation, at most 1.
        tile: ``(T, T, 3)`` float32 texture, one texel per pixel at scale 1.
        motion: its motion.
    """

    label: int
    radii: np.ndarray
    hole: float
    aspect: float
    tile: np.ndarray
    motion: Motion


@dataclass(frozen=True)
class Scene:
    """A background and objects in front of it, from back to front (constant order)."""

    background: np.ndarray
    background_motion: Motion
    objects: list[Shape]


def draw_scene(settings: SyntheticSettings, rng: np.random.Generator) -> Scene:
    """Sample the scene of a video."""
    base = rng.uniform(40, 215, size=3)
    change = rng.standard_normal(3)
    change *= rng.uniform(0.2, 1.0) * _BACKGROUND_CONTRAST / np.linalg.norm(change)
    colours = np.clip(np.stack([base, base + change]), 0, 255)
    background = textures.texture(rng, _BACKGROUND_TILE, colours, grain=0.35)
    objects: list[Shape] = []
    for _ in range(rng.integers(settings.min_objects, settings.max_objects + 1)):
        objects.append(_draw_object(settings, rng, objects, against=colours.mean(axis=0)))
    rng.shuffle(objects)  # depth must not depend on the order in which motions were sampled
    return Scene(background, _draw_background_motion(settings, rng), objects)


def _draw_object(
    settings: SyntheticSettings,
    rng: np.random.Generator,
    others: list[Shape],
    against: np.ndarray,
) -> Shape:
    label = int(rng.integers(len(shapes.CLASS_NAMES)))
    name = shapes.CLASS_NAMES[label]
    low, high = np.log(settings.diameter)
    radius = settings.short_side * np.exp(rng.uniform(low, high)) / 2
    colours = textures.contrasting_colours(rng, 2, against)
    return Shape(
        label=label,
        radii=radius * shapes.deform(shapes.outline(name), rng, _DEFORMATION),
        hole=shapes.hole(name),
        aspect=rng.uniform(0.7, 1.0),
        tile=textures.texture(rng, _OBJECT_TILE, colours),
        motion=_draw_motion(settings, rng, *_draw_anchor(settings, rng, others, radius)),
    )


def _draw_anchor(
    settings: SyntheticSettings, rng: np.random.Generator, others: list[Shape], radius: float
) -> tuple[np.ndarray, float]:
    """Sample a position in the frame and its time, often close to another object."""
    size = np.array([settings.width, settings.height], dtype=float)
    last = settings.frames - 1
    if not others or rng.random() > settings.meeting:
        return rng.uniform(0, 1, size=2) * size, rng.uniform(0, last)
    other = others[rng.integers(len(others))]
    time = np.clip(other.motion.anchor_time + rng.uniform(-0.2, 0.2) * last, 0, last)
    direction = rng.uniform(0, 2 * np.pi)
    distance = rng.uniform(0.3, 0.8) * (radius + other.radii.mean())
    offset = distance * np.array([np.cos(direction), np.sin(direction)])
    return np.clip(other.motion.position(time) + offset, 0, size), float(time)


def _draw_motion(
    settings: SyntheticSettings, rng: np.random.Generator, anchor: np.ndarray, anchor_time: float
) -> Motion:
    heading = rng.uniform(0, 2 * np.pi)
    speed = settings.short_side * rng.uniform(*settings.speed)
    return Motion(
        anchor=anchor,
        anchor_time=anchor_time,
        velocity=speed * np.array([np.cos(heading), np.sin(heading)]),
        swing=settings.short_side * rng.uniform(-0.08, 0.08, size=2),
        swing_rate=rng.uniform(0.05, 0.25),
        swing_phase=rng.uniform(0, 2 * np.pi),
        angle=rng.uniform(0, 2 * np.pi),
        turn_rate=rng.uniform(-0.12, 0.12),
        zoom=rng.uniform(-0.3, 0.3),
        zoom_rate=rng.uniform(0.03, 0.15),
    )


def _draw_background_motion(settings: SyntheticSettings, rng: np.random.Generator) -> Motion:
    """Sample a camera motion: slower than the objects, and almost upright."""
    return Motion(
        anchor=rng.uniform(0, _BACKGROUND_TILE, size=2),
        anchor_time=0.0,
        velocity=0.4 * settings.short_side * settings.speed[1] * rng.uniform(-1, 1, size=2),
        swing=0.02 * settings.short_side * rng.uniform(-1, 1, size=2),
        swing_rate=rng.uniform(0.05, 0.25),
        swing_phase=rng.uniform(0, 2 * np.pi),
        angle=rng.uniform(-0.3, 0.3),
        turn_rate=rng.uniform(-0.004, 0.004),
        zoom=rng.uniform(-0.05, 0.05),
        zoom_rate=rng.uniform(0.03, 0.15),
    )
