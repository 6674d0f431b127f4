"""Feature pyramid: torchvision's layers, whose output convolutions may wait for a reader."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork


class FPN(nn.Module):
    """P2..P5 of equal width from backbone maps C2..C5."""

    def __init__(self, in_channels: list[int], channels: int) -> None:
        super().__init__()
        self.pyramid = FeaturePyramidNetwork(in_channels, channels)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Maps ``(B, C_l, H_l, W_l)``, finest first, to ``(B, channels, H_l, W_l)``."""
        merged = self.merge(levels)
        return [smooth(level) for smooth, level in zip(self.output_convs, merged, strict=True)]

    def merge(self, levels: list[Tensor]) -> list[Tensor]:
        """The top-down sums, finest first, before their output convolutions.

        Args:
            levels: all backbone maps, or only the coarsest of them.
        """
        blocks = self.pyramid.inner_blocks[-len(levels) :]
        laterals = [block(level) for block, level in zip(blocks, levels, strict=True)]
        merged = [laterals[-1]]
        for lateral in laterals[-2::-1]:
            merged.insert(0, lateral + F.interpolate(merged[0], size=lateral.shape[-2:]))
        return merged

    @property
    def lateral_conv(self) -> nn.Conv2d:
        """The 1x1 convolution of the finest level."""
        return self.pyramid.inner_blocks[0][0]

    @property
    def output_convs(self) -> list[nn.Conv2d]:
        """The 3x3 convolution of each level, finest first."""
        return [block[0] for block in self.pyramid.layer_blocks]
