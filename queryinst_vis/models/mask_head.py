"""Mask heads, dynamic (paper 3.2.2, eq. 3) or vanilla (3.2.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from queryinst_vis.models.layers import DynamicConv
from queryinst_vis.models.roi import RoIExtractor

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    # unlike BN, GN is stable with few positive RoIs
    "GN": lambda channels: nn.GroupNorm(8, channels),
    "none": lambda channels: nn.Identity(),
}


class MaskHead(nn.Module):
    """RoIAlign -> DynConv(mask) conditioned on q* -> convs -> deconv -> one mask per class.

    Args:
        channels: C, width of queries and features.
        num_classes: K.
        dynamic_channels: hidden width of the dynamic convolution.
        roi_size: side of the pooled RoI; masks have twice that size.
        num_convs: 3x3 convolutions after the dynamic one.
        norm: a key of ``NORMS``.
        dynamic: False omits the dynamic convolution (Fig. 2 b): the vanilla head.
        flow: add the features of the previous head (HTC's mask information flow, Table 4).
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        dynamic_channels: int,
        roi_size: int = 14,
        num_convs: int = 4,
        norm: str = "BN",
        dynamic: bool = True,
        flow: bool = False,
    ) -> None:
        super().__init__()
        self.roi = RoIExtractor(roi_size)
        self.dynamic_conv = DynamicConv(channels, dynamic_channels) if dynamic else None
        self.flow = _conv_norm_relu(channels, norm, kernel_size=1) if flow else None
        self.convs = nn.Sequential(
            *(_conv_norm_relu(channels, norm, kernel_size=3) for _ in range(num_convs)),
        )
        self.upsample = nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2)
        self.predictor = nn.Conv2d(channels, num_classes, kernel_size=1)

    def enhance(self, roi_features: Tensor, queries: Tensor) -> Tensor:
        """x_mask* of eq. 3: RoI features after the dynamic convolution of their queries.

        Args:
            roi_features: ``(R, C, s, s)`` pooled by ``self.roi``.
            queries: ``(R, C)`` attended queries of these RoIs; a vanilla head ignores them.
        """
        if self.dynamic_conv is None:
            return roi_features
        return self.dynamic_conv.enhance(queries, roi_features)

    def refine(self, enhanced: Tensor, previous: Tensor | None = None) -> Tensor:
        """Apply the convolutions to ``(R, C, s, s)`` features.

        Args:
            enhanced: output of ``enhance``.
            previous: refined features of the previous head, with mask flow.
        """
        if self.flow is not None and previous is not None:
            enhanced = enhanced + self.flow(previous)
        return self.convs(enhanced)

    def predict(self, refined: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predict mask logits from refined features.

        Args:
            refined: ``(R, C, s, s)``, output of ``refine``.
            labels: ``(R,)`` class of each mask; None: masks of all classes.

        Returns:
            ``(R, 2 s, 2 s)`` logits, or ``(R, K, 2 s, 2 s)`` without labels.
        """
        features = self.upsample(refined).relu()
        if labels is None:
            return self.predictor(features)
        weight = self.predictor.weight[labels].flatten(1)
        bias = self.predictor.get_parameter("bias")[labels]
        return torch.einsum("rchw,rc->rhw", features, weight) + bias[:, None, None]


def _conv_norm_relu(channels: int, norm: str, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            channels,
            channels,
            kernel_size,
            padding=kernel_size // 2,
            bias=norm == "none",  # a norm makes it redundant
        ),
        NORMS[norm](channels),
        nn.ReLU(),
    )
