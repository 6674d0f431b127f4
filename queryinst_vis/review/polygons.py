"""Regions that a person drew, and those in between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.masks import RLE, bounding_box, to_rle

Polygons = tuple[tuple[float, ...], ...]
"""Outlines of a region, each ``x, y, x, y, ...`` in pixels."""

_POINTS = 64  # on an outline between two others, at least


def region_of(polygons: Polygons, size: tuple[int, int], where: str) -> RLE:
    """The pixels inside of outlines.

    Args:
        polygons: as a person drew them; they may reach somewhat beyond the frame.
        size: ``(height, width)`` of the frame.
        where: names them in error messages.

    Raises:
        InputError: they are no polygons, or cover no pixel of the frame.
    """
    region = to_rle([list(polygon) for polygon in polygons], *size, where)
    if not any(bounding_box(region)):
        raise InputError(f"{where}: the polygon covers no pixel of the frame")
    return region


def between(before: Polygons, after: Polygons, share: float) -> Polygons:
    """Outlines on the way from some to others.

    Outlines are paired from the largest down; one without a partner is left out. A pair is
    brought to the same number of points, evenly spread, and each point goes straight.

    Args:
        before, after: the outlines at either end.
        share: of the way, 0 to 1.
    """
    pairs = zip(*(sorted(each, key=_area, reverse=True) for each in (before, after)), strict=False)
    return tuple(_between(np.array(first), np.array(last), share) for first, last in pairs)


def _between(before: np.ndarray, after: np.ndarray, share: float) -> tuple[float, ...]:
    count = max(_POINTS, len(before) // 2, len(after) // 2)
    first, last = (_spread(_clockwise(each.reshape(-1, 2)), count) for each in (before, after))
    shapes = [each - each.mean(axis=0) for each in (first, last)]
    # the start that makes the ways shortest; all starts at once, as a circular correlation
    spectra = [np.fft.fft(shape[:, 0] + 1j * shape[:, 1]) for shape in shapes]
    start = int(np.argmax(np.fft.ifft(np.conj(spectra[0]) * spectra[1]).real))
    last = np.roll(last, -start, axis=0)
    return tuple(np.round((1 - share) * first + share * last, 2).ravel().tolist())


def _clockwise(points: np.ndarray) -> np.ndarray:
    return points if _signed_area(points) >= 0 else points[::-1]


def _spread(points: np.ndarray, count: int) -> np.ndarray:
    """``(count, 2)`` points evenly spread over a closed outline."""
    closed = np.concatenate([points, points[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    places = np.linspace(0, along[-1], count, endpoint=False)
    return np.stack([np.interp(places, along, closed[:, axis]) for axis in (0, 1)], axis=1)


def _area(polygon: Sequence[float]) -> float:
    return abs(_signed_area(np.array(polygon).reshape(-1, 2)))


def _signed_area(points: np.ndarray) -> float:
    x, y = points.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
