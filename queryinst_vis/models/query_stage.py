"""Self-attention and update of queries, the same for boxes and masks."""

from __future__ import annotations

from torch import Tensor, nn


class QueryStage(nn.Module):
    """Self-attention before a dynamic convolution, residual update and FFN after it.

    Args:
        channels: C.
        num_heads: heads of the self-attention.
        ffn_channels: hidden width of the feed-forward network.
        attends: False leaves out the self-attention; ``attend`` of another stage is called.
        updates: False leaves out the update, where no later stage reads the queries.
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
        """``(B, N, C)`` queries to q*, the attended queries that condition dynamic convolutions."""
        attended = self.attention(queries, queries, queries, need_weights=False)[0]
        return self.attention_norm(queries + attended)

    def update(self, q_star: Tensor, roi_update: Tensor) -> Tensor:
        """Queries of the next stage, ``(B, N, C)``.

        Args:
            q_star: ``(B, N, C)`` attended queries.
            roi_update: ``(B, N, C)`` what the dynamic convolution makes of their RoIs.
        """
        refined = self.query_norm(q_star + roi_update)
        return self.ffn_norm(refined + self.ffn(refined))
