"""How queries attend to each other and how they are updated, the same for boxes and masks."""

from __future__ import annotations

from torch import Tensor, nn


class QueryStage(nn.Module):
    """Self-attention before, and residual update and FFN behind a dynamic convolution.

    Args:
        channels: C.
        num_heads: heads of the self-attention.
        ffn_channels: hidden width of the feed-forward network.
        attends: has a self-attention; without one, ``attend`` is another stage's.
        updates: has an update; without one, no later stage reads these queries.
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
        """``(B, N, C)`` queries to q*, the attended queries that dynamic convolutions read."""
        attended = self.attention(queries, queries, queries, need_weights=False)[0]
        return self.attention_norm(queries + attended)

    def update(self, q_star: Tensor, news: Tensor) -> Tensor:
        """``(B, N, C)`` queries for what follows, from q* and the dynamic convolution's news."""
        refined = self.query_norm(q_star + news)
        return self.ffn_norm(refined + self.ffn(refined))
