"""Layers shared by the stages and heads of the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def module_list(modules: Iterable[M]) -> Sequence[M]:
    """An ``nn.ModuleList`` with typed elements."""
    return cast("Sequence[M]", nn.ModuleList(modules))


class DynamicConv(nn.Module):
    """DynConv (paper Fig. 3): the query generates two kernels, which are applied to its RoI.

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
        """Apply each query's kernels to its RoI.

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

    def enhance(self, queries: Tensor, roi_features: Tensor) -> Tensor:
        """As ``forward``, but in the shape of the RoI features, ``(R, C, s, s)``."""
        return self(queries, roi_features).transpose(1, 2).reshape(roi_features.shape)


class QueryStage(nn.Module):
    """Self-attention before a dynamic convolution, residual update and FFN after it.

    Args:
        channels: C.
        num_heads: heads of the self-attention.
        ffn_channels: hidden width of the feed-forward network.
        attends: False omits the self-attention, if that of another stage is used.
        updates: False omits the update, if no later stage uses the queries.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        ffn_channels: int,
        attends: bool = True,
        updates: bool = True,
    ) -> None:
        super().__init__()
        if attends:
            self.attention = nn.MultiheadAttention(channels, num_heads, batch_first=True)
            self.attention_norm = nn.LayerNorm(channels)
        if updates:
            self.query_norm = nn.LayerNorm(channels)
            self.ffn = nn.Sequential(
                nn.Linear(channels, ffn_channels), nn.ReLU(), nn.Linear(ffn_channels, channels)
            )
            self.ffn_norm = nn.LayerNorm(channels)

    def attend(self, queries: Tensor) -> Tensor:
        """Map ``(B, N, C)`` queries to q*, the attended queries that condition DynConv."""
        attended = self.attention(queries, queries, queries, need_weights=False)[0]
        return self.attention_norm(queries + attended)

    def update(self, q_star: Tensor, roi_update: Tensor) -> Tensor:
        """Queries of the next stage, ``(B, N, C)``.

        Args:
            q_star: ``(B, N, C)`` attended queries.
            roi_update: ``(B, N, C)`` output of their dynamic convolution.
        """
        refined = self.query_norm(q_star + roi_update)
        return self.ffn_norm(refined + self.ffn(refined))
