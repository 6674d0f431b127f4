"""P2..P5 of which only what boxes read is computed (inference on a CPU).

Ten queries read small parts of the fine levels, yet making the whole of P2 costs more than half a
ResNet-50: a 1x1 convolution, the sum with P3, and a 3x3 convolution over the finest map. Here a
level is made of tiles, and a tile is computed when the first box that touches it asks for it.
"""

from __future__ import annotations

import math
from copy import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from queryinst_vis.models.neck import FPN

TILE = 16
"""Side of a tile in pixels of its level."""
WORTHWHILE = 0.6
"""Share of a level's tiles from which on all are computed at once: tiles overlap by a border."""
CHEAP = 10**9
"""Multiplications of a whole level below which looking after tiles costs more than it saves."""


class LazyPyramid:
    """Stands for the list of maps P2..P5.

    Args:
        neck: the FPN whose maps these are.
        levels: the backbone's maps ``(B, C_l, H_l, W_l)``, finest first.
    """

    def __init__(self, neck: FPN, levels: list[Tensor]) -> None:
        coarse = neck.merge(levels[1:])
        finest = _TopDownSum(neck, levels[0], coarse[0])
        self._levels = [
            _LazyLevel(merged, conv)
            for merged, conv in zip(
                (finest, *map(_KnownSum, coarse)), neck.output_convs, strict=True
            )
        ]

    def __len__(self) -> int:
        return len(self._levels)

    def __getitem__(self, level: int) -> Tensor:
        """A whole map ``(B, C, H_l, W_l)``."""
        return self._levels[level].whole()

    def size(self, level: int) -> torch.Size:
        """``(H_l, W_l)``."""
        return self._levels[level].size

    def around(self, level: int, rois: Tensor, scale: float) -> Tensor:
        """A map that is right wherever RoIAlign reads it for these boxes, undefined elsewhere.

        Args:
            level: 0 for P2.
            rois: ``(R, 5)`` image index and xyxy in input pixels.
            scale: map pixels per input pixel.
        """
        return self._levels[level].around(rois, scale)


class _KnownSum:
    """The FPN's sum of a level that a finer one needed as a whole."""

    def __init__(self, merged: Tensor) -> None:
        self._merged = merged
        self.batch, self.dtype, self.size = len(merged), merged.dtype, merged.shape[2:]

    def whole(self) -> Tensor:
        return self._merged

    def at(self, image: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """``(..., C)`` sums of pixels; the indices broadcast."""
        return _pixels(self._merged, image, y, x)


class _TopDownSum:
    """The FPN's sum of the finest level, which no other level needs."""

    def __init__(self, neck: FPN, fine: Tensor, coarse: Tensor) -> None:
        self._neck, self._fine, self._coarse = neck, fine, coarse
        self.batch, self.dtype, self.size = len(fine), coarse.dtype, fine.shape[2:]

    def whole(self) -> Tensor:
        lateral = self._neck.lateral_conv(self._fine)
        return lateral + F.interpolate(self._coarse, size=lateral.shape[-2:])

    def at(self, image: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """``(T, h, w, C)`` sums of the pixels of T windows; the indices broadcast."""
        fine = _pixels(self._fine, image, y, x).permute(0, 3, 1, 2)
        (height, width), (rows, columns) = self.size, self._coarse.shape[-2:]
        coarse = _pixels(self._coarse, image, y * rows // height, x * columns // width)
        return self._neck.lateral_conv(fine).permute(0, 2, 3, 1) + coarse


class _LazyLevel:
    def __init__(self, merged: _KnownSum | _TopDownSum, conv: nn.Conv2d) -> None:
        self.size = merged.size
        self._merged, self._conv = merged, conv
        self._on_windows = copy(conv)  # the same weights; windows bring their borders
        self._on_windows.padding = (0, 0)
        self._tops, self._lefts = (_tile_starts(side) for side in merged.size)
        self._done = torch.zeros(merged.batch, len(self._tops), len(self._lefts), dtype=torch.bool)
        self._map: Tensor | None = None
        taps = math.prod(conv.kernel_size)
        multiplications = taps * conv.in_channels * conv.out_channels * math.prod(merged.size)
        self._is_cheap = multiplications < CHEAP

    def whole(self) -> Tensor:
        if self._map is None or not self._done.all():
            self._map = self._conv(self._merged.whole())
            self._done.fill_(True)
        return self._map

    def around(self, rois: Tensor, scale: float) -> Tensor:
        if self._is_cheap or min(self._merged.size) < TILE:
            return self.whole()
        wanted = self._done | self._touched(rois, scale)
        missing = wanted & ~self._done
        if wanted.float().mean() > WORTHWHILE:
            return self.whole()
        if self._map is None:
            # most of this memory is never touched, which saves more than it looks
            shape = (len(wanted), self._conv.out_channels, *self._merged.size)
            self._map = torch.empty(
                shape, dtype=self._merged.dtype, memory_format=torch.channels_last
            )
        if missing.any():
            self._compute(missing)
            self._done = wanted
        return self._map

    def _touched(self, rois: Tensor, scale: float) -> Tensor:
        """``(B, rows, columns)`` bool: the tiles in which a box reads at least one pixel."""
        image, x0, y0, x1, y1 = rois.cpu().unbind(dim=1)
        rows = _overlap(y0 * scale, y1 * scale, self._tops, self._merged.size[0])
        columns = _overlap(x0 * scale, x1 * scale, self._lefts, self._merged.size[1])
        both = (rows[:, :, None] & columns[:, None, :]).float()
        return torch.zeros_like(self._done, dtype=both.dtype).index_add_(0, image.long(), both) > 0

    def _compute(self, missing: Tensor) -> None:
        image, row, column = missing.nonzero().unbind(dim=1)
        tops, lefts = torch.tensor(self._tops)[row], torch.tensor(self._lefts)[column]
        tiles = self._on_windows(self._windows(image, tops, lefts))
        places = zip(image.tolist(), tops.tolist(), lefts.tolist(), tiles, strict=True)
        for index, top, left, tile in places:
            self._map[index, :, top : top + TILE, left : left + TILE] = tile

    def _windows(self, image: Tensor, tops: Tensor, lefts: Tensor) -> Tensor:
        """``(T, C, TILE + 2, TILE + 2)`` sums around T tiles; zero outside of the map."""
        (height, width), steps = self._merged.size, torch.arange(-1, TILE + 1)
        y, x = (tops[:, None] + steps)[:, :, None], (lefts[:, None] + steps)[:, None, :]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        merged = self._merged.at(
            image[:, None, None], y.clamp(0, height - 1), x.clamp(0, width - 1)
        )
        return (merged * inside[..., None]).permute(0, 3, 1, 2)


def _pixels(feature: Tensor, image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """``(..., C)`` feature vectors of pixels of a ``(B, C, H, W)`` map; the indices broadcast."""
    _, channels, height, width = feature.shape
    rows = (image * height + y) * width + x
    vectors = feature.permute(0, 2, 3, 1).reshape(-1, channels)
    return vectors.index_select(0, rows.flatten()).view(*rows.shape, channels)


def _tile_starts(side: int) -> list[int]:
    """Where the tiles of a side begin; the last one ends with the map and may overlap another."""
    return [max(min(start, side - TILE), 0) for start in range(0, side, TILE)]


def _overlap(low: Tensor, high: Tensor, starts: list[int], side: int) -> Tensor:
    """``(R, tiles)`` bool: which tiles of one axis hold pixels that R box sides read.

    Bilinear interpolation reads at most one pixel beyond the ends; outside of the map, its rim.
    """
    first = (low - 1.5).nan_to_num(0).clamp(0, side - 1)[:, None]
    last = (high + 1.5).nan_to_num(0).clamp(0, side - 1)[:, None]
    begin = torch.tensor(starts)
    return (first < begin + TILE) & (last >= begin)
