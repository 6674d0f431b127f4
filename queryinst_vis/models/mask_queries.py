"""Separate queries or self-attention for masks (paper Table 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from queryinst_vis.models.box_stage import BoxStage
from queryinst_vis.models.layers import QueryStage, module_list
from queryinst_vis.models.mask_head import MaskHead


class MaskQueries(nn.Module):
    """Mask queries or self-attention that are not shared with the boxes (paper 3.4).

    The published model shares both and does not need this module. The paper does not say how
    separate mask queries are updated: here with DynConv(mask)'s output on the stage's refined
    boxes, averaged over the RoI, in place of the projected output of DynConv(box).

    Args:
        num_queries, channels: N and C.
        num_stages: S.
        num_heads, ffn_channels: as for ``QueryStage``.
        share_query: use the box queries instead of N separate learned queries.
        share_attention: use the self-attention of the box stages instead of a separate one.
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
        self.stages = module_list(
            QueryStage(
                channels,
                num_heads,
                ffn_channels,
                attends=not share_attention,
                # the update of the last stage would not be used
                updates=not share_query and index < num_stages - 1,
            )
            for index in range(num_stages)
        )

    def attend(self, index: int, box_stage: BoxStage, queries: Tensor) -> Tensor:
        """Map ``(B, N, C)`` queries to the q* of the mask head of stage ``index``."""
        return (box_stage if self.share_attention else self.stages[index]).attend(queries)

    def update(
        self,
        index: int,
        mask_head: MaskHead,
        features: Sequence[Tensor],
        boxes: Tensor,
        q_star: Tensor,
    ) -> Tensor:
        """The separate queries of the next stage, ``(B, N, C)``.

        Args:
            index: of the current stage; not the last.
            mask_head: mask head of this stage.
            features: P2..P5.
            boxes: ``(B, N, 4)`` refined boxes of this stage; no gradient flows to them.
            q_star: ``(B, N, C)`` attended queries of the mask head.
        """
        roi_features = mask_head.roi(features, list(boxes.detach()))
        enhanced = mask_head.enhance(roi_features, q_star.flatten(0, 1))
        return self.stages[index].update(q_star, enhanced.mean(dim=(2, 3)).view_as(q_star))
