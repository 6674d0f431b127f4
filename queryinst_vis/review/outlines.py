"""Outlines of masks as polygons with few points, for manual correction."""

from __future__ import annotations

import cv2
import numpy as np

from queryinst_vis.masks import RLE, InstanceMask
from queryinst_vis.review.polygons import Polygons

_TOLERANCE = 0.004  # maximum deviation from the edge, relative to the outline's length
_SMALLEST = 0.01  # minimum area of a part, relative to the largest part


def outlines_of(mask: RLE) -> Polygons:
    """The outer outlines of a mask's components, largest first; holes are filled."""
    pixels, x, y = InstanceMask((mask["size"][0], mask["size"][1]), rle=mask).region
    framed = np.pad(pixels.astype(np.uint8), 1).repeat(2, 0).repeat(2, 1)  # for edges, not centres
    found, _ = cv2.findContours(framed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    parts = sorted(found, key=cv2.contourArea, reverse=True)
    outlines = []
    for part in parts:
        if cv2.contourArea(part) < _SMALLEST * cv2.contourArea(parts[0]):
            break
        few = cv2.approxPolyDP(part, max(1.5, _TOLERANCE * cv2.arcLength(part, True)), True)
        points = (few.reshape(-1, 2) + 0.5) / 2 - 1 + (x, y)
        if len(points) >= 3:
            outlines.append(tuple(np.round(points, 1).ravel().tolist()))
    return tuple(outlines)
