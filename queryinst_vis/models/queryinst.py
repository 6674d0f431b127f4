"""QueryInst: backbone, FPN, query stages, dynamic mask heads and the optional track head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from queryinst_vis.models.backbone import Backbone
from queryinst_vis.models.box_stage import BoxStage
from queryinst_vis.models.boxes import initial_boxes
from queryinst_vis.models.layers import module_list
from queryinst_vis.models.mask_head import MaskHead
from queryinst_vis.models.mask_queries import MaskQueries
from queryinst_vis.models.neck import FPN
from queryinst_vis.models.track_head import TrackHead
from queryinst_vis.structures import StageOutput


@dataclass
class QueryInstOutput:
    """Output of every stage, and the FPN maps P2..P5 for the mask and track heads."""

    stages: list[StageOutput]
    features: Sequence[Tensor]


class QueryInst(nn.Module):
    """Instances as queries (paper section 3, Fig. 2 c).

    Args:
        backbone: returns four maps at strides 4 to 32.
        neck: FPN over these maps.
        proposals: ``(N, 4)`` initial learned boxes, (cx, cy, w, h) as fractions of the image.
        channels: C.
        stages: box stages, applied one after the other.
        mask_heads: one per stage; inference uses the last, in some variants also the others.
        track_head: for video, or None.
        mask_queries: separate queries or attention for masks (Table 6), or None.
        mask_flow: the features of every mask head flow into the next (Table 4).

    Example::

        model, config = queryinst_vis.load_model("people", "cpu")
        maps = model.neck(model.backbone(torch.zeros(1, 3, 288, 512)))
        print([tuple(level.shape) for level in maps])  # strides 4, 8, 16 and 32
    """

    def __init__(
        self,
        backbone: Backbone,
        neck: FPN,
        proposals: Tensor,
        channels: int,
        stages: list[BoxStage],
        mask_heads: list[MaskHead],
        track_head: TrackHead | None = None,
        mask_queries: MaskQueries | None = None,
        mask_flow: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.proposals = nn.Parameter(proposals)
        self.queries = nn.Parameter(torch.randn(len(proposals), channels))
        self.stages = module_list(stages)
        self.mask_heads = module_list(mask_heads)
        self.track_head = track_head
        self.mask_queries = mask_queries
        self.mask_flow = mask_flow
        self._initialise_heads()

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.queries.device

    @property
    def has_track_head(self) -> bool:
        """Whether ``track_embeddings`` returns embeddings."""
        return self.track_head is not None

    def extract_features(self, images: Tensor) -> Sequence[Tensor]:
        """Map ``(B, 3, H, W)`` normalised images (sides divisible by 32) to P2..P5."""
        return self.neck(self.backbone(images))

    def forward(
        self, images: Tensor, image_sizes: list[tuple[int, int]] | Tensor
    ) -> QueryInstOutput:
        """Run the box stages; ``mask_logits`` and ``track_embeddings`` follow for selected queries.

        Args:
            images: ``(B, 3, H, W)`` normalised, padded at right and bottom.
            image_sizes: ``(height, width)`` of each image without padding; a ``(B, 2)`` tensor
                where they are an input of a traced graph.
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
        if self.mask_queries is not None:
            outputs = self._with_mask_queries(self.mask_queries, features, outputs)
        return QueryInstOutput(outputs, features)

    def _with_mask_queries(
        self, separate: MaskQueries, features: Sequence[Tensor], outputs: list[StageOutput]
    ) -> list[StageOutput]:
        """The stage outputs, with the q* of the separate mask queries."""
        batch = len(outputs[0].boxes)
        learned = self.queries if separate.queries is None else separate.queries
        queries = learned.expand(batch, -1, -1)
        replaced = []
        for index, output in enumerate(outputs):
            q_star = separate.attend(index, self.stages[index], queries)
            replaced.append(replace(output, mask_q_star=q_star))
            if separate.queries is None:
                queries = output.queries
            elif index < len(outputs) - 1:
                head = self.mask_heads[index]
                queries = separate.update(index, head, features, output.boxes, q_star)
        return replaced

    def mask_logits(
        self,
        stage: int,
        output: QueryInstOutput,
        picks: list[Tensor],
        labels: Tensor | None = None,
    ) -> Tensor:
        """Masks of selected queries, from the mask head of a stage (-1: the last).

        Args:
            stage: index of the mask head and of its refined boxes.
            output: of ``forward``.
            picks: B tensors ``(R_b,)``, the selected queries of each image.
            labels: ``(sum R_b,)``, the class of each mask; None: masks of all classes.

        Returns:
            ``(sum R_b, K, 28, 28)`` logits inside the boxes, concatenated over images;
            ``(sum R_b, 28, 28)`` with labels.
        """
        stage %= len(self.stages)
        boxes = gather_rows(output.stages[stage].boxes.detach(), picks)
        roi_features = self.mask_heads[stage].roi(output.features, boxes)
        refined = self._refine(stage, roi_features, output, picks)
        return self.mask_heads[stage].predict(refined, labels)

    def _refine(
        self, stage: int, roi_features: Tensor, output: QueryInstOutput, picks: list[Tensor]
    ) -> Tensor:
        """``(R, C, s, s)`` refined features of a stage's mask head."""
        head, previous = self.mask_heads[stage], None
        if self.mask_flow and stage > 0:
            previous = self._refine(stage - 1, roi_features, output, picks)
        q_star = torch.cat(gather_rows(output.stages[stage].mask_q_star, picks))
        return head.refine(head.enhance(roi_features, q_star), previous)

    def track_embeddings(self, output: QueryInstOutput, picks: list[Tensor]) -> Tensor | None:
        """Association embeddings of selected queries, from the track head.

        Args:
            output: of ``forward``.
            picks: B tensors ``(R_b,)``, the selected queries of each image.

        Returns:
            ``(sum R_b, D)``, concatenated over images; None for a model without a track head.
        """
        if self.track_head is None:
            return None
        last = output.stages[-1]
        boxes, q_star = gather_rows(last.boxes, picks), gather_rows(last.q_star, picks)
        return self.track_head(output.features, boxes, q_star)

    def strip_training_heads(self) -> QueryInst:
        """Drop the mask heads used only in training: all but the last (paper 4.2)."""
        has_mask_queries = self.mask_queries is not None and self.mask_queries.queries is not None
        if self.mask_flow or has_mask_queries:
            return self  # the last head depends on the others in these variants
        for index in range(len(self.mask_heads) - 1):
            self.set_submodule(f"mask_heads.{index}", nn.Identity())
        return self

    def _initialise_heads(self) -> None:
        """Xavier initialisation of all heads; class probabilities start at 0.01."""
        mask_stages = () if self.mask_queries is None else self.mask_queries.stages
        for head in (*self.stages, *self.mask_heads, *mask_stages):
            for parameter in head.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        for stage in self.stages:
            nn.init.constant_(stage.class_predictor.bias, -math.log(99))


def gather_rows(values: Tensor, picks: Sequence[Tensor]) -> list[Tensor]:
    """The selected rows of ``(B, N, ...)`` values, per image."""
    return [image[rows] for image, rows in zip(values, picks, strict=True)]
