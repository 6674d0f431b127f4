"""Outlines of the shape classes in polar coordinates.

All outlines are star-shaped about their centre, so they are described by one radius per angle, and
a pixel is inside if its radius is smaller than the outline's at the same angle.
"""

from __future__ import annotations

import numpy as np

_SAMPLES = 2048  # angles per outline: error below 1/4 pixel for shapes of 300 pixels
_HOLE = 0.55  # inner radius of a ring / outer radius
_ARM = np.arctan2(0.33, 1.0)  # half the angle subtended by the end of a cross's arm

ANGLES = np.linspace(-np.pi, np.pi, _SAMPLES + 1)
"""The angles of an outline's radii, in radians."""


def _regular(corners: int) -> list[tuple[float, float]]:
    return [(2 * np.pi * corner / corners, 1.0) for corner in range(corners)]


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    return [(np.pi * i / points, inner if i % 2 else 1.0) for i in range(2 * points)]


def _cross() -> list[tuple[float, float]]:
    inner = np.sqrt(2) * np.sin(_ARM)
    quarter = [(-_ARM, 1.0), (_ARM, 1.0), (np.pi / 4, inner)]
    return [(angle + turn * np.pi / 2, r) for turn in range(4) for angle, r in quarter]


_CORNERS = {
    "circle": _regular(180),
    "square": _regular(4),
    "triangle": _regular(3),
    "star": _star(5, inner=0.45),
    "cross": _cross(),
    "ring": _regular(180),
}
"""Corners of each class as (angle, radius), counter-clockwise, with a maximum radius of 1."""

CLASS_NAMES = tuple(_CORNERS)


def outline(class_name: str) -> np.ndarray:
    """Radii of a class's outline at ``ANGLES``, with a maximum of 1."""
    corners = sorted((angle % (2 * np.pi), radius) for angle, radius in _CORNERS[class_name])
    angles, radii = np.array([*corners, (corners[0][0] + 2 * np.pi, corners[0][1])]).T
    wrapped = (ANGLES - angles[0]) % (2 * np.pi) + angles[0]
    side = np.clip(np.searchsorted(angles, wrapped, side="right") - 1, 0, len(angles) - 2)
    from_angle, to_angle, from_radius, to_radius = (
        angles[side],
        angles[side + 1],
        radii[side],
        radii[side + 1],
    )
    # the straight line between two corners, in polar coordinates
    return (
        from_radius
        * to_radius
        * np.sin(to_angle - from_angle)
        / (from_radius * np.sin(wrapped - from_angle) + to_radius * np.sin(to_angle - wrapped))
    )


def hole(class_name: str) -> float:
    """Radius of the hole as a fraction of the outline's; 0 without a hole."""
    return _HOLE if class_name == "ring" else 0.0


def deform(radii: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Deform an outline by random waves with a total amplitude of up to ``strength`` radii."""
    bent = np.zeros_like(radii)
    for waves in (2, 3, 4):
        bent += rng.uniform(0, strength / 3) * np.cos(waves * ANGLES + rng.uniform(0, 2 * np.pi))
    return radii * (1 + bent)
