"""Track heads: that of MaskTrack R-CNN, used in the paper (3.5), and that of QueryTrack."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from queryinst_vis.models.layers import DynamicConv, module_list
from queryinst_vis.models.roi import RoIExtractor


class TrackHead(nn.Module):
    """Two fully connected layers from the features of a box to an association embedding.

    In QueryTrack's head, a dynamic convolution with q* is applied to the features first, as in
    the mask head (QueryInst issue 26: 7x7 RoIs are as good as the 14x14 of the mask head).

    Args:
        in_channels: C of the feature maps.
        roi_size: s of the s x s features pooled from each box.
        sampling_ratio: of RoIAlign; 0: adapt to the box size.
        hidden_channels: width of the first layer.
        embedding_channels: D, embedding dimension.
        final_relu: ReLU after the last layer, as in mmdetection but not in the original.
        dynamic_channels: hidden width of QueryTrack's dynamic convolution; None: MaskTrack
            R-CNN's head, as published.
    """

    def __init__(
        self,
        in_channels: int,
        roi_size: int = 7,
        sampling_ratio: int = 2,
        hidden_channels: int = 1024,
        embedding_channels: int = 1024,
        final_relu: bool = False,
        dynamic_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.extract = RoIExtractor(roi_size, sampling_ratio)
        self.dynamic_conv: DynamicConv | None = None
        if dynamic_channels is not None:
            self.dynamic_conv = DynamicConv(in_channels, dynamic_channels)
            nn.init.xavier_uniform_(self.dynamic_conv.kernel_layer.weight)  # as in other heads
        self.fcs = module_list(
            [
                nn.Linear(in_channels * roi_size**2, hidden_channels),
                nn.Linear(hidden_channels, embedding_channels),
            ]
        )
        self.final_relu = final_relu
        for layer in self.fcs:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        features: Sequence[Tensor],
        boxes: Sequence[Tensor],
        q_star: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Embed the boxes of B images.

        Args:
            features: P2..P5, each ``(B, C, h, w)``.
            boxes: B tensors ``(n_i, 4)``, xyxy in pixels of the network input.
            q_star: B tensors ``(n_i, C)``, the attended queries of these boxes; used only by
                QueryTrack's head.

        Returns:
            ``(sum n_i, D)`` embeddings, concatenated over images.

        Raises:
            ValueError: ``q_star`` is missing for QueryTrack's head.
        """
        roi_features = self.extract(features, boxes)
        if self.dynamic_conv is not None:
            if q_star is None:
                raise ValueError("QueryTrack's head needs q_star, the queries of the boxes")
            roi_features = self.dynamic_conv.enhance(torch.cat(list(q_star)), roi_features)
        return self.embed(roi_features)

    @property
    def reads_queries(self) -> bool:
        """Whether this is QueryTrack's head."""
        return self.dynamic_conv is not None

    def embed(self, roi_features: Tensor) -> Tensor:
        """Map ``(R, C, s, s)`` RoI features to ``(R, D)`` embeddings."""
        hidden = self.fcs[0](roi_features.flatten(start_dim=1)).relu()
        embeddings = self.fcs[1](hidden)
        return embeddings.relu() if self.final_relu else embeddings


def similarity_logits(detection_embeddings: Tensor, memory_embeddings: Tensor) -> Tensor:
    """Association logits: "detection i is a new object" in column 0, "is track j" in the others.

    Args:
        detection_embeddings: ``(N, D)``.
        memory_embeddings: ``(M, D)`` of the tracks in memory; M may be 0.

    Returns:
        ``(N, M + 1)``: a constant 0, then the dot products (paper 3.5).
    """
    return F.pad(detection_embeddings @ memory_embeddings.T, (1, 0))
