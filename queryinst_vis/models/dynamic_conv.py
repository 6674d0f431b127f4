"""Dynamic convolution: two 1x1 kernels that a query generates for its own RoI."""

from __future__ import annotations

from torch import Tensor, nn


class DynamicConv(nn.Module):
    """DynConv of the paper's Fig. 3: the query writes two kernels, its RoI is read by them.

    Args:
        channels: C, width of queries and features.
        hidden_channels: width between the two generated kernels (C / 4 as published).
    """

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.hidden_channels = hidden_channels
        self.kernel_layer = nn.Linear(channels, 2 * channels * hidden_channels)
        self.norm_in = nn.LayerNorm(hidden_channels)
        self.norm_out = nn.LayerNorm(channels)

    def forward(self, queries: Tensor, roi_features: Tensor) -> Tensor:
        """Enhance each RoI by its query.

        Args:
            queries: ``(R, C)``, one per RoI (q* in the paper).
            roi_features: ``(R, C, s, s)``.

        Returns:
            ``(R, s * s, C)``, positions in row-major order.
        """
        kernel_in, kernel_out = self.kernel_layer(queries).chunk(2, dim=1)
        kernel_in = kernel_in.reshape(-1, self.channels, self.hidden_channels)
        kernel_out = kernel_out.reshape(-1, self.hidden_channels, self.channels)
        features = roi_features.flatten(2).transpose(1, 2)
        features = self.norm_in(features @ kernel_in).relu()
        return self.norm_out(features @ kernel_out).relu()
