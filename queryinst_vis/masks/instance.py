"""The mask of one instance, as pixels or RLE, each computed once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from queryinst_vis.masks.rle import RLE, bounding_box, decode_columns, encode_region


class MaskRegion(NamedTuple):
    """The pixels of a mask in a rectangle of the frame; it is empty outside.

    Attributes:
        pixels: ``(h, w)`` bool.
        x, y: frame coordinates of the top left pixel; the rectangle lies inside the frame.
    """

    pixels: np.ndarray
    x: int
    y: int


class InstanceMask:
    """The mask of one instance, given as pixels or RLE and converted on demand.

    Args:
        image_size: ``(height, width)`` of the frame.
        region: pixels, or None if ``rle`` is given.
        rle: compressed COCO RLE, or None if ``region`` is given.

    Raises:
        ValueError: neither is given.

    Example::

        mask = InstanceMask((360, 640), rle=encode_rle(pixels))  # (360, 640) bool
        pixels, x, y = mask.region
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        region: MaskRegion | None = None,
        rle: RLE | None = None,
    ) -> None:
        if region is None and rle is None:
            raise ValueError("an InstanceMask needs a region or an RLE")
        self.image_size = image_size
        self._region, self._rle = region, rle

    @property
    def region(self) -> MaskRegion:
        """The pixels; for an RLE, those of its bounding box."""
        if self._region is None:
            assert self._rle is not None
            x0, y0, x1, y1 = bounding_box(self._rle)
            pixels = decode_columns(self._rle, x0, x1)[y0:y1].astype(bool)
            self._region = MaskRegion(pixels, x0, y0)
        return self._region

    @property
    def rle(self) -> RLE:
        """The mask as compressed COCO RLE, encoded without a pass over the whole frame."""
        if self._rle is None:
            self._rle = encode_region(*self.region, self.image_size)
        return self._rle

    def write(self, frame: np.ndarray) -> None:
        """Set the mask's pixels in an ``(H, W)`` bool array of zeros."""
        pixels, x, y = self.region
        frame[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
