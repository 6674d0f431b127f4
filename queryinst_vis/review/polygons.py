"""Polygons of drawn regions, and interpolation between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.masks import RLE, bounding_box, to_rle

Polygons = tuple[tuple[float, ...], ...]
"""Outlines of a region, each ``x, y, x, y, ...`` in pixels."""

_MIN_POINTS = 64  # of an interpolated outline


def region_of(polygons: Polygons, size: tuple[int, int], where: str) -> RLE:
    """The mask of the pixels inside outlines.

    Args:
        polygons: outlines, which may extend slightly beyond the frame.
        size: ``(height, width)`` of the frame.
        where: prefix of error messages.

    Raises:
        InputError: invalid polygons, or polygons that cover no pixel of the frame.
    """
    region = to_rle([list(polygon) for polygon in polygons], *size, where)
    if not any(bounding_box(region)):
        raise InputError(f"{where}: the polygon covers no pixel of the frame")
    return region


def interpolate(before: Polygons, after: Polygons, share: float) -> Polygons:
    """Interpolate between outlines.

    Outlines are paired by descending area; those without a partner are dropped. Both outlines of a
    pair are resampled to the same number of evenly spaced points, which are interpolated linearly.

    Args:
        before, after: the outlines at both ends.
        share: position between them, 0..1.
    """
    pairs = zip(*(sorted(each, key=_area, reverse=True) for each in (before, after)), strict=False)
    return tuple(_interpolate(np.array(first), np.array(last), share) for first, last in pairs)


def _interpolate(before: np.ndarray, after: np.ndarray, share: float) -> tuple[float, ...]:
    count = max(_MIN_POINTS, len(before) // 2, len(after) // 2)
    first, last = (_resample(_clockwise(each.reshape(-1, 2)), count) for each in (before, after))
    shapes = [each - each.mean(axis=0) for each in (first, last)]
    # the starting point with the shortest displacements: a circular correlation over all of them
    spectra = [np.fft.fft(shape[:, 0] + 1j * shape[:, 1]) for shape in shapes]
    start = int(np.argmax(np.fft.ifft(np.conj(spectra[0]) * spectra[1]).real))
    last = np.roll(last, -start, axis=0)
    return tuple(np.round((1 - share) * first + share * last, 2).ravel().tolist())


def _clockwise(points: np.ndarray) -> np.ndarray:
    return points if _signed_area(points) >= 0 else points[::-1]


def _resample(points: np.ndarray, count: int) -> np.ndarray:
    """``(count, 2)`` evenly spaced points on a closed outline."""
    closed = np.concatenate([points, points[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    positions = np.linspace(0, along[-1], count, endpoint=False)
    return np.stack([np.interp(positions, along, closed[:, axis]) for axis in (0, 1)], axis=1)


def _area(polygon: Sequence[float]) -> float:
    return abs(_signed_area(np.array(polygon).reshape(-1, 2)))


def _signed_area(points: np.ndarray) -> float:
    x, y = points.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
