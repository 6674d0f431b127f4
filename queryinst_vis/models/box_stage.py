"""One query stage of the detector (paper eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from queryinst_vis.models.boxes import apply_deltas
from queryinst_vis.models.layers import DynamicConv, QueryStage
from queryinst_vis.models.roi import RoIExtractor
from queryinst_vis.structures import StageOutput


class BoxStage(QueryStage):
    """MSA -> DynConv(box) -> FFN -> class and box branches.

    Args:
        channels: C, width of queries and features.
        num_classes: K.
        num_heads: heads of the self-attention.
        ffn_channels: hidden width of the feed-forward network.
        dynamic_channels: hidden width of the dynamic convolution.
        class_layers, box_layers: hidden layers of the two branches.
        roi_size: side of the pooled RoI.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        num_heads: int,
        ffn_channels: int,
        dynamic_channels: int,
        class_layers: int,
        box_layers: int,
        roi_size: int = 7,
    ) -> None:
        super().__init__(channels, num_heads, ffn_channels)
        self.roi = RoIExtractor(roi_size)
        self.dynamic_conv = DynamicConv(channels, dynamic_channels)
        self.projection = nn.Linear(roi_size**2 * channels, channels)
        self.projection_norm = nn.LayerNorm(channels)
        self.class_layers = _hidden_layers(channels, class_layers)
        self.class_predictor = nn.Linear(channels, num_classes)
        self.box_layers = _hidden_layers(channels, box_layers)
        self.box_predictor = nn.Linear(channels, 4)

    def forward(self, features: Sequence[Tensor], boxes: Tensor, queries: Tensor) -> StageOutput:
        """Refine boxes and queries once.

        Args:
            features: FPN maps P2..P5, ``(B, C, H_l, W_l)``.
            boxes: ``(B, N, 4)`` xyxy in input pixels.
            queries: ``(B, N, C)``.

        Returns:
            ``(B, N, K)`` class logits, refined boxes, and the queries before and after the update.
        """
        q_star = self.attend(queries)
        roi_features = self.roi(features, list(boxes.detach()))
        enhanced = self.dynamic_conv(q_star.flatten(0, 1), roi_features).flatten(1)
        roi_update = self.projection_norm(self.projection(enhanced)).relu().view_as(q_star)
        refined = self.update(q_star, roi_update)
        deltas = self.box_predictor(self.box_layers(refined))
        return StageOutput(
            class_logits=self.class_predictor(self.class_layers(refined)),
            boxes=apply_deltas(boxes, deltas.to(boxes.dtype)),
            queries=refined,
            q_star=q_star,
            mask_q_star=q_star,
        )


def _hidden_layers(channels: int, count: int) -> nn.Sequential:
    """``count`` blocks of a bias-free Linear, LayerNorm and ReLU."""
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [nn.Linear(channels, channels, bias=False), nn.LayerNorm(channels), nn.ReLU()]
    return nn.Sequential(*layers)
