"""Dynamic mask head (paper 3.2.2, eq. 3)."""

from __future__ import annotations

from torch import Tensor, nn

from queryinst_vis.models.dynamic_conv import DynamicConv
from queryinst_vis.models.roi import RoIExtractor

NORMS = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    # 8 groups divide every width in use; GN does not drift on a handful of positive RoIs
    "GN": lambda channels: nn.GroupNorm(8, channels),
    "none": nn.Identity,
}


class MaskHead(nn.Module):
    """RoIAlign -> DynConv(mask) reading q* -> convs -> deconv -> one mask per class.

    Args:
        channels: C, width of queries and features.
        num_classes: K.
        dynamic_channels: hidden width of the dynamic convolution.
        roi_size: side of the pooled RoI; masks come out at twice that.
        num_convs: 3x3 convolutions after the dynamic one.
        norm: a key of ``NORMS``.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        dynamic_channels: int,
        roi_size: int = 14,
        num_convs: int = 4,
        norm: str = "BN",
    ) -> None:
        super().__init__()
        self.roi = RoIExtractor(roi_size)
        self.dynamic_conv = DynamicConv(channels, dynamic_channels)
        self.convs = nn.Sequential(
            *(_conv_norm_relu(channels, norm) for _ in range(num_convs)),
        )
        self.upsample = nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2)
        self.predictor = nn.Conv2d(channels, num_classes, kernel_size=1)

    def forward(self, features: list[Tensor], boxes: list[Tensor], q_star: Tensor) -> Tensor:
        """Predict the masks inside boxes.

        Args:
            features: FPN maps P2..P5, ``(B, C, H_l, W_l)``.
            boxes: B tensors ``(R_b, 4)`` xyxy in input pixels; gradients do not pass.
            q_star: ``(sum R_b, C)`` attended queries of these boxes.

        Returns:
            ``(sum R_b, K, 2 * roi_size, 2 * roi_size)`` mask logits.
        """
        roi_features = self.roi(features, [box.detach() for box in boxes])
        enhanced = self.dynamic_conv(q_star, roi_features)
        x = enhanced.transpose(1, 2).reshape(roi_features.shape)
        return self.predictor(self.upsample(self.convs(x)).relu())


def _conv_norm_relu(channels: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        # a norm makes the bias redundant
        nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=norm == "none"),
        NORMS[norm](channels),
        nn.ReLU(),
    )
