"""QueryInst: backbone, FPN, query stages, dynamic mask heads and the optional track head."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from queryinst_vis.models.box_stage import BoxStage
from queryinst_vis.models.boxes import initial_boxes
from queryinst_vis.models.mask_head import MaskHead
from queryinst_vis.models.neck import FPN
from queryinst_vis.models.track_head import TrackHead
from queryinst_vis.structures import StageOutput


@dataclass
class QueryInstOutput:
    """Output of every stage, and the FPN maps that mask and track heads read."""

    stages: list[StageOutput]
    features: list[Tensor]


class QueryInst(nn.Module):
    """Instances as queries (paper section 3, Fig. 2 c).

    Args:
        backbone: a module with ``.channels`` that gives four maps at strides 4..32.
        neck: FPN over these maps.
        proposals: ``(N, 4)`` where the learned boxes start, (cx, cy, w, h) in fractions.
        channels: C.
        stages: box stages, applied one after the other.
        mask_heads: one per stage; at inference only the last is used.
        track_head: for video, or None.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: FPN,
        proposals: Tensor,
        channels: int,
        stages: list[BoxStage],
        mask_heads: list[MaskHead],
        track_head: TrackHead | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.proposals = nn.Parameter(proposals)
        self.queries = nn.Parameter(torch.randn(len(proposals), channels))
        self.stages = nn.ModuleList(stages)
        self.mask_heads = nn.ModuleList(mask_heads)
        self.track_head = track_head
        self._initialise_heads()

    def extract_features(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` normalised images (sides divisible by 32) to P2..P5."""
        return self.neck(self.backbone(images))

    def forward(self, images: Tensor, image_sizes: list[tuple[int, int]]) -> QueryInstOutput:
        """Run the detector; masks and embeddings are asked for afterwards.

        Args:
            images: ``(B, 3, H, W)`` normalised, padded at right and bottom.
            image_sizes: ``(height, width)`` of each image without padding.
        """
        features = self.extract_features(images)
        boxes = initial_boxes(self.proposals, image_sizes)
        queries = self.queries.expand(len(images), -1, -1)
        outputs: list[StageOutput] = []
        for stage in self.stages:
            output = stage(features, boxes, queries)
            outputs.append(output)
            # boxes are detached between stages, queries are not
            boxes, queries = output.boxes.detach(), output.queries
        return QueryInstOutput(outputs, features)

    def mask_logits(
        self, stage: int, features: list[Tensor], boxes: list[Tensor], q_star: list[Tensor]
    ) -> Tensor:
        """Masks of chosen queries by the mask head of a stage (-1: the last).

        Args:
            features: P2..P5.
            boxes: B tensors ``(R_b, 4)``, this stage's refined boxes.
            q_star: B tensors ``(R_b, C)``, this stage's attended queries.

        Returns:
            ``(sum R_b, K, 28, 28)`` logits.
        """
        return self.mask_heads[stage](features, boxes, torch.cat(q_star))

    def strip_training_heads(self) -> QueryInst:
        """Drop the mask heads that only training uses: all but the last (paper 4.2)."""
        for index in range(len(self.mask_heads) - 1):
            self.mask_heads[index] = nn.Identity()
        return self

    def _initialise_heads(self) -> None:
        """Xavier for every matrix of the heads; classes start at a probability of .01."""
        for head in (*self.stages, *self.mask_heads):
            for parameter in head.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        for stage in self.stages:
            nn.init.constant_(stage.class_predictor.bias, -math.log(99))
