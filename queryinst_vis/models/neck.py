"""Feature pyramid network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork


class FPN(nn.Module):
    """P2..P5 of equal width from backbone maps C2..C5.

    Args:
        in_channels: channels of the backbone maps, finest first.
        channels: C, of every output map.
    """

    def __init__(self, in_channels: list[int], channels: int) -> None:
        super().__init__()
        self.pyramid = FeaturePyramidNetwork(in_channels, channels)

    def forward(self, levels: Sequence[Tensor]) -> Sequence[Tensor]:
        """Map ``(B, C_l, H_l, W_l)`` features, finest first, to ``(B, C, H_l, W_l)``."""
        named = OrderedDict((str(index), level) for index, level in enumerate(levels))
        return list(self.pyramid(named).values())
