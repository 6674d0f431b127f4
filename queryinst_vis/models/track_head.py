"""The vanilla track head of MaskTrack R-CNN, which the paper adopts (paper 3.5)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from queryinst_vis.models.roi import RoIExtractor


class TrackHead(nn.Module):
    """Two fully connected layers that turn a box's features into an association embedding.

    Args:
        in_channels: C of the feature maps.
        roi_size: s of the s x s features pooled from each box.
        sampling_ratio: of RoIAlign; 0 adapts to the size of the box.
        hidden_channels: width of the first layer.
        embedding_channels: D of the embeddings.
        final_relu: also rectify the embeddings, as mmdetection does and the original does not.
    """

    def __init__(
        self,
        in_channels: int,
        roi_size: int = 7,
        sampling_ratio: int = 2,
        hidden_channels: int = 1024,
        embedding_channels: int = 1024,
        final_relu: bool = False,
    ) -> None:
        super().__init__()
        self.extract = RoIExtractor(roi_size, sampling_ratio)
        self.fcs = nn.ModuleList(
            [
                nn.Linear(in_channels * roi_size**2, hidden_channels),
                nn.Linear(hidden_channels, embedding_channels),
            ]
        )
        self.final_relu = final_relu
        for layer in self.fcs:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """Embed the boxes of B images.

        Args:
            features: P2..P5, each ``(B, C, h, w)``.
            boxes: B tensors ``(n_i, 4)``, xyxy in pixels of the network input.

        Returns:
            ``(sum n_i, D)`` embeddings, image after image.
        """
        return self.embed(self.extract(features, boxes))

    def embed(self, roi_features: Tensor) -> Tensor:
        """``(R, C, s, s)`` features of R boxes to ``(R, D)`` embeddings."""
        hidden = self.fcs[0](roi_features.flatten(start_dim=1)).relu()
        embeddings = self.fcs[1](hidden)
        return embeddings.relu() if self.final_relu else embeddings


def similarity_logits(detection_embeddings: Tensor, memory_embeddings: Tensor) -> Tensor:
    """Logits of "detection i is a new object" (column 0) or "is memory j".

    Args:
        detection_embeddings: ``(N, D)``.
        memory_embeddings: ``(M, D)``; M may be 0.

    Returns:
        ``(N, M + 1)``: a constant 0, then the dot products.
    """
    return F.pad(detection_embeddings @ memory_embeddings.T, (1, 0))
