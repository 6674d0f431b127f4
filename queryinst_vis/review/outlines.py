"""Outlines of masks as polygons with few points, for manual correction."""

from __future__ import annotations

import cv2
import numpy as np

from queryinst_vis.masks import RLE, InstanceMask
from queryinst_vis.review.polygons import Polygons

_TOLERANCE = 0.004  # maximum deviation, relative to the length of the outline
_MIN_AREA = 0.01  # of a component, relative to the largest one


def outlines_of(mask: RLE) -> Polygons:
    """The outer outlines of a mask's components, largest first; holes are filled."""
    pixels, x, y = InstanceMask((mask["size"][0], mask["size"][1]), rle=mask).region
    # doubled, so that contours follow the edges of pixels instead of their centres
    padded = np.pad(pixels.astype(np.uint8), 1).repeat(2, 0).repeat(2, 1)
    found, _ = cv2.findContours(padded, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contours = sorted(found, key=cv2.contourArea, reverse=True)
    outlines = []
    for contour in contours:
        if cv2.contourArea(contour) < _MIN_AREA * cv2.contourArea(contours[0]):
            break
        tolerance = max(1.5, _TOLERANCE * cv2.arcLength(contour, True))
        simplified = cv2.approxPolyDP(contour, tolerance, True)
        points = (simplified.reshape(-1, 2) + 0.5) / 2 - 1 + (x, y)
        if len(points) >= 3:
            outlines.append(tuple(np.round(points, 1).ravel().tolist()))
    return tuple(outlines)
