"""P2..P5 whose output convolutions run only where boxes read (inference on a CPU).

Ten queries read small parts of the fine levels, yet the 3x3 convolution over the whole of P2 costs
half as much as a ResNet-50. Here a level is made of tiles, and a tile is computed when the first
box that touches it asks for it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TILE = 16
"""Side of a tile in pixels of its level."""
WORTHWHILE = 0.6
"""Share of a level's tiles from which on all are computed at once: tiles overlap by a border."""


class LazyPyramid:
    """Stands for the list of maps P2..P5.

    Args:
        merged: the FPN's sums ``(B, C, H_l, W_l)``, finest first.
        convs: the 3x3 output convolution of each level.
    """

    def __init__(self, merged: list[Tensor], convs: list[nn.Conv2d]) -> None:
        self._levels = [_LazyLevel(*pair) for pair in zip(merged, convs, strict=True)]

    def __len__(self) -> int:
        return len(self._levels)

    def __getitem__(self, level: int) -> Tensor:
        """A whole map ``(B, C, H_l, W_l)``."""
        return self._levels[level].whole()

    def around(self, level: int, rois: Tensor, scale: float) -> Tensor:
        """A map that is right wherever RoIAlign reads it for these boxes, undefined elsewhere.

        Args:
            level: 0 for P2.
            rois: ``(R, 5)`` image index and xyxy in input pixels.
            scale: map pixels per input pixel.
        """
        return self._levels[level].around(rois, scale)


class _LazyLevel:
    def __init__(self, merged: Tensor, conv: nn.Conv2d) -> None:
        self._merged, self._conv = merged, conv
        self._tops, self._lefts = (_tile_starts(side) for side in merged.shape[2:])
        self._done = torch.zeros(len(merged), len(self._tops), len(self._lefts), dtype=torch.bool)
        self._map: Tensor | None = None
        self._padded: Tensor | None = None

    def whole(self) -> Tensor:
        if self._map is None or not self._done.all():
            self._map = self._conv(self._merged)
            self._done.fill_(True)
        return self._map

    def around(self, rois: Tensor, scale: float) -> Tensor:
        wanted = self._done | self._touched(rois, scale)
        missing = wanted & ~self._done
        if wanted.float().mean() > WORTHWHILE or min(self._merged.shape[2:]) < TILE:
            return self.whole()
        if missing.any():
            self._compute(missing)
            self._done = wanted
        return self._map if self._map is not None else self._merged

    def _touched(self, rois: Tensor, scale: float) -> Tensor:
        """``(B, rows, columns)`` bool: the tiles in which a box reads at least one pixel."""
        image, x0, y0, x1, y1 = rois.cpu().unbind(dim=1)
        rows = _overlap(y0 * scale, y1 * scale, self._tops, self._merged.shape[2])
        columns = _overlap(x0 * scale, x1 * scale, self._lefts, self._merged.shape[3])
        both = (rows[:, :, None] & columns[:, None, :]).float()
        return torch.zeros_like(self._done, dtype=both.dtype).index_add_(0, image.long(), both) > 0

    def _compute(self, missing: Tensor) -> None:
        if self._map is None:
            self._padded = F.pad(self._merged, (1, 1, 1, 1))
            shape = (len(self._merged), self._conv.out_channels, *self._merged.shape[2:])
            # zeros, for RoIAlign also reads with weight 0, and 0 times garbage may be no number
            self._map = self._merged.new_zeros(shape).to(memory_format=torch.channels_last)
        places = [
            (image, self._tops[row], self._lefts[column])
            for image, row, column in missing.nonzero().tolist()
        ]
        windows = torch.stack(
            [self._padded[b, :, y : y + TILE + 2, x : x + TILE + 2] for b, y, x in places]
        )
        tiles = F.conv2d(windows, self._conv.weight, self._conv.bias)
        for (image, y, x), tile in zip(places, tiles, strict=True):
            self._map[image, :, y : y + TILE, x : x + TILE] = tile


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
