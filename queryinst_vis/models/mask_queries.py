"""Queries or an attention of their own for masks, where little is shared (Table 6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from queryinst_vis.models.box_stage import BoxStage
from queryinst_vis.models.mask_head import MaskHead
from queryinst_vis.models.query_stage import QueryStage


class MaskQueries(nn.Module):
    """What the mask heads of all stages read, where they do not share with boxes (paper 3.4).

    The published model shares both and needs none of this. How mask queries of their own are
    updated is not published: here by the pooled output of DynConv(mask) on the stage's refined
    boxes, and then as box queries are by that of DynConv(box).

    Args:
        num_queries, channels: N and C.
        num_stages: S.
        num_heads, ffn_channels: of attentions and updates.
        share_query: read the box queries; else N learned queries of their own.
        share_attention: attend with the box stages' weights; else with weights of their own.
    """

    def __init__(
        self,
        num_queries: int,
        channels: int,
        num_stages: int,
        num_heads: int,
        ffn_channels: int,
        share_query: bool,
        share_attention: bool,
    ) -> None:
        super().__init__()
        self.share_attention = share_attention
        self.queries = None if share_query else nn.Parameter(torch.randn(num_queries, channels))
        self.stages = nn.ModuleList(
            QueryStage(
                channels,
                num_heads,
                ffn_channels,
                attends=not share_attention,
                # the last stage's update would have no reader
                updates=not share_query and index < num_stages - 1,
            )
            for index in range(num_stages)
        )

    def attend(self, index: int, box_stage: BoxStage, queries: Tensor) -> Tensor:
        """``(B, N, C)`` queries to the q* that the mask head of stage ``index`` reads."""
        return (box_stage if self.share_attention else self.stages[index]).attend(queries)

    def update(
        self, index: int, mask_head: MaskHead, features: list[Tensor], boxes: Tensor, q_star: Tensor
    ) -> Tensor:
        """Queries of their own for the next stage, ``(B, N, C)``.

        Args:
            index: of the stage that was just run; not the last.
            mask_head: of this stage.
            features: P2..P5.
            boxes: ``(B, N, 4)`` this stage's refined boxes; gradients do not pass.
            q_star: ``(B, N, C)`` what its mask head reads.
        """
        roi_features = mask_head.roi(features, list(boxes.detach()))
        enhanced = mask_head.enhance(roi_features, q_star.flatten(0, 1))
        return self.stages[index].update(q_star, enhanced.mean(dim=(2, 3)).view_as(q_star))
