"""An FPN that computes of P2..P5 only what boxes read, for inference on CPUs.

Ten queries read small parts of the fine levels, but computing the whole of P2 costs more than half
a ResNet-50: a 1x1 convolution, the sum with P3, and a 3x3 convolution over the finest map. Here a
level is divided into tiles, and a tile is computed when a box first reads from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import cast, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from queryinst_vis.models.neck import FPN

TILE = 16
"""Side of a tile in pixels of its level."""
WORTHWHILE = 0.6
"""Share of a level's tiles above which the whole level is computed: tiles overlap by a border."""
CHEAP = 10**9
"""Multiplications of a whole level below which tiles cost more than they save."""


class LazyFPN(FPN):
    """An FPN whose maps are computed as far as they are read, once nothing needs gradients.

    In training, with gradients, and under ``torch.compile``, it computes whole maps.

    Args:
        fpn: whose convolutions it uses, under the same names.
    """

    def __init__(self, fpn: FPN) -> None:
        nn.Module.__init__(self)
        self.pyramid = fpn.pyramid
        self.train(fpn.training)

    def forward(self, levels: Sequence[Tensor]) -> Sequence[Tensor]:
        """Maps ``(B, C_l, H_l, W_l)``, finest first, to ``(B, C, H_l, W_l)``."""
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(levels)
        return LazyPyramid(self, levels)


class LazyPyramid(Sequence[Tensor]):
    """P2..P5, of which an item is a whole map, and ``around`` a map that is computed in part.

    Args:
        fpn: whose convolutions make the maps.
        levels: the backbone's maps ``(B, C_l, H_l, W_l)``, finest first.
    """

    def __init__(self, fpn: FPN, levels: Sequence[Tensor]) -> None:
        laterals, outputs = (
            # in the inference form, modules that stand for convolutions
            [cast(nn.Conv2d, block.get_submodule("0")) for block in blocks]
            for blocks in (fpn.pyramid.inner_blocks, fpn.pyramid.layer_blocks)
        )
        coarse = [laterals[-1](levels[-1])]  # top-down sums, finest first
        for lateral, level in zip(laterals[-2:0:-1], levels[-2:0:-1], strict=True):
            coarse.insert(0, _add_coarser(lateral(level), coarse[0]))
        finest = _TopDownSum(laterals[0], levels[0], coarse[0])
        sums: list[_KnownSum | _TopDownSum] = [finest, *map(_KnownSum, coarse)]
        self._levels = [_LazyLevel(*pair) for pair in zip(sums, outputs, strict=True)]

    def __len__(self) -> int:
        return len(self._levels)

    @overload
    def __getitem__(self, level: int) -> Tensor: ...
    @overload
    def __getitem__(self, level: slice) -> list[Tensor]: ...
    def __getitem__(self, level: int | slice) -> Tensor | list[Tensor]:
        """A whole map ``(B, C, H_l, W_l)``."""
        if isinstance(level, slice):
            return [each.whole() for each in self._levels[level]]
        return self._levels[level].whole()

    @property
    def sizes(self) -> list[torch.Size]:
        """``(H_l, W_l)`` of every level."""
        return [level.size for level in self._levels]

    def around(self, level: int, rois: Tensor, scale: float) -> Tensor:
        """A map that is right wherever RoIAlign reads it for these boxes, undefined elsewhere.

        Args:
            level: 0 for P2.
            rois: ``(R, 5)`` image index and xyxy in input pixels.
            scale: map pixels per input pixel.
        """
        return self._levels[level].around(rois, scale)


def _add_coarser(lateral: Tensor, coarser: Tensor) -> Tensor:
    return lateral + F.interpolate(coarser, size=lateral.shape[-2:])


class _KnownSum:
    """The top-down sum of a level that a finer one needed as a whole."""

    def __init__(self, merged: Tensor) -> None:
        self._merged = merged
        self.batch, self.dtype, self.size = len(merged), merged.dtype, merged.shape[2:]

    def whole(self) -> Tensor:
        return self._merged

    def at(self, image: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """``(..., C)`` sums of pixels; the indices broadcast."""
        return _pixels(self._merged, image, y, x)


class _TopDownSum:
    """The top-down sum of the finest level, which no other level needs."""

    def __init__(self, lateral: nn.Conv2d, fine: Tensor, coarse: Tensor) -> None:
        self._lateral, self._fine, self._coarse = lateral, fine, coarse
        self.batch, self.dtype, self.size = len(fine), coarse.dtype, fine.shape[2:]

    def whole(self) -> Tensor:
        return _add_coarser(self._lateral(self._fine), self._coarse)

    def at(self, image: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """``(T, h, w, C)`` sums of the pixels of T windows; the indices broadcast."""
        fine = _pixels(self._fine, image, y, x).permute(0, 3, 1, 2)
        (height, width), (rows, columns) = self.size, self._coarse.shape[-2:]
        coarse = _pixels(self._coarse, image, y * rows // height, x * columns // width)
        return self._lateral(fine).permute(0, 2, 3, 1) + coarse


class _LazyLevel:
    """One level: its output convolution over its top-down sum, tile by tile."""

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
        if self._is_cheap or min(self.size) < TILE:
            return self.whole()
        wanted = self._done | self._touched(rois, scale)
        if wanted.float().mean() > WORTHWHILE:
            return self.whole()
        if self._map is None:
            # most of this memory is never touched, which saves more than it looks
            shape = (len(wanted), self._conv.out_channels, *self.size)
            self._map = torch.empty(
                shape, dtype=self._merged.dtype, memory_format=torch.channels_last
            )
            # torchvision's RoIAlign reads it, with weight 0, for samples outside of the map
            self._map[..., 0, 0] = 0
        missing = wanted & ~self._done
        if missing.any():
            self._compute(missing, self._map)
            self._done = wanted
        return self._map

    def _touched(self, rois: Tensor, scale: float) -> Tensor:
        """``(B, rows, columns)`` bool: the tiles in which a box reads at least one pixel."""
        image, x0, y0, x1, y1 = rois.unbind(dim=1)
        rows = _overlap(y0 * scale, y1 * scale, self._tops, self.size[0])
        columns = _overlap(x0 * scale, x1 * scale, self._lefts, self.size[1])
        both = (rows[:, :, None] & columns[:, None, :]).float()
        return torch.zeros_like(self._done, dtype=both.dtype).index_add_(0, image.long(), both) > 0

    def _compute(self, missing: Tensor, out: Tensor) -> None:
        """Write the missing tiles, ``(B, rows, columns)`` bool, into the map ``out``."""
        image, row, column = missing.nonzero().unbind(dim=1)
        tops, lefts = torch.tensor(self._tops)[row], torch.tensor(self._lefts)[column]
        tiles = self._on_windows(self._windows(image, tops, lefts))
        places = zip(image.tolist(), tops.tolist(), lefts.tolist(), tiles, strict=True)
        for index, top, left, tile in places:
            out[index, :, top : top + TILE, left : left + TILE] = tile

    def _windows(self, image: Tensor, tops: Tensor, lefts: Tensor) -> Tensor:
        """``(T, C, TILE + 2, TILE + 2)`` sums around T tiles; zero outside of the map."""
        (height, width), steps = self.size, torch.arange(-1, TILE + 1)
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
