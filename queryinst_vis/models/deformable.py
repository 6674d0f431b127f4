"""Deformable convolutions for ResNets (Deformable ConvNets v2)."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from queryinst_vis.errors import InputError


class ModulatedDeformConv(DeformConv2d):
    """A convolution with learned offsets and modulation of its taps (DCNv2).

    Initially it computes half the output of the convolution that it replaces: offsets are zero
    and the modulation is 0.5 everywhere.

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
    """Make the 3x3 convolution of every bottleneck in a ResNet stage deformable.

    Args:
        body: a timm ResNet, changed in place.
        stage: 2, 3 or 4: the stage of C3, C4 or C5.
        name: model name, for the error message.

    Raises:
        InputError: the stage is out of range, or the model has no bottlenecks.
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


def is_offset(name: str) -> bool:
    """Whether a weight predicts offsets: trained from zero, it may be missing in other files."""
    return ".offset." in name
