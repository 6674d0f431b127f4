"""Deformable convolutions for ResNets (Deformable ConvNets v2)."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from queryinst_vis.errors import InputError


class ModulatedDeformConv(DeformConv2d):
    """A convolution with learned offsets and modulation of its taps (DCNv2).

    It is initialised as the convolution that it replaces, up to a constant factor: offsets are
    zero, and the modulation is one half everywhere.

    Args:
        conv: the convolution to replace; its weight is reused.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            bias=False,
        )
        self.weight = conv.weight
        channels = 3 * prod(self.kernel_size)  # every tap has two offsets and a modulation
        self.offset = nn.Conv2d(
            conv.in_channels, channels, self.kernel_size, self.stride, self.padding, self.dilation
        )
        for parameter in self.offset.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C', H', W')``."""
        offset = self.offset(x)
        taps = offset.shape[1] // 3
        return super().forward(x, offset[:, : 2 * taps], offset[:, 2 * taps :].sigmoid())


def make_deformable(body: nn.Module, stage: int, name: str) -> None:
    """Replace the 3x3 convolution of every bottleneck of a ResNet's stage.

    Args:
        body: a timm ResNet.
        stage: 2, 3 or 4: c3, c4 or c5.
        name: of the model, for the message.

    Raises:
        InputError: another stage, or the model has no bottlenecks.
    """
    if stage not in (2, 3, 4):
        raise InputError(f"model.backbone.deformable_stages: choose from 2, 3 and 4, got {stage}")
    blocks = [
        block
        for block in getattr(body, f"layer{stage}", [])
        if hasattr(block, "conv3") and block.conv2.bias is None
    ]
    if not blocks:
        raise InputError(
            f"model.backbone.deformable_stages: '{name}' has no bottlenecks to make deformable; "
            "choose a ResNet or ResNeXt of 50 layers or more"
        )
    for block in blocks:
        block.conv2 = ModulatedDeformConv(block.conv2)
