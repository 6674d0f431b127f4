"""One training step as a module: model and losses together, so that DDP sees one forward."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from queryinst_vis.losses.criterion import Criterion
from queryinst_vis.losses.matcher import Match
from queryinst_vis.losses.track import track_loss, track_targets
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.models.track_head import similarity_logits
from queryinst_vis.structures import Batch, StageOutput


class TrainingStep(nn.Module):
    """Weighted losses of a batch of images, or of key and reference frames.

    Args:
        model: the network.
        criterion: losses of the image model, on the key frames.
        track_weight: weight of the track loss.
        both_ways: let the two frames of a pair be key and reference of each other. The losses
            are those of a batch that holds every pair in both orders, for little more than the
            price of one: the backbone sees each frame once.
    """

    def __init__(
        self,
        model: QueryInst,
        criterion: Criterion,
        track_weight: float = 1.0,
        both_ways: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion
        self.track_weight = track_weight
        self.both_ways = both_ways

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses by name; their sum is what is minimised."""
        paired = batch.reference is not None and self.model.track_head is not None
        if paired and self.both_ways:
            batch = _in_both_orders(batch)
        output = self.model(batch.images, [target.image_size for target in batch.targets])

        def predict_masks(stage: int, boxes: list[Tensor], q_star: list[Tensor]) -> Tensor:
            return self.model.mask_logits(stage, output.features, boxes, q_star)

        losses, matches = self.criterion(output.stages, batch.targets, predict_masks)
        if paired:
            reference_features = (
                [_swap_halves(level) for level in output.features]
                if self.both_ways
                else self.model.extract_features(batch.reference.images)
            )
            loss = self._track_loss(
                output.features, output.stages[-1], matches[-1], batch, reference_features
            )
            losses["track"] = self.track_weight * loss
        return losses

    def _track_loss(
        self,
        features: list[Tensor],
        stage: StageOutput,
        matches: list[Match],
        batch: Batch,
        reference_features: list[Tensor],
    ) -> Tensor:
        """Identify the key frame's matched queries among the reference's instances.

        As in MaskTrack R-CNN, the reference frame is described by its ground-truth boxes and
        carries gradient.
        """
        key_boxes = [stage.boxes[i][match.queries].detach() for i, match in enumerate(matches)]
        key = self.model.track_head(features, key_boxes)
        reference_boxes = [target.boxes for target in batch.reference.targets]
        reference = self.model.track_head(reference_features, reference_boxes)
        logits = [
            similarity_logits(k, r)
            for k, r in zip(
                key.split([len(b) for b in key_boxes]),
                reference.split([len(b) for b in reference_boxes]),
                strict=True,
            )
        ]
        identities = [
            track_targets(key_target.instance_ids[match.instances], other.instance_ids)
            for key_target, match, other in zip(
                batch.targets, matches, batch.reference.targets, strict=True
            )
        ]
        return track_loss(logits, identities)


def _in_both_orders(batch: Batch) -> Batch:
    """B pairs as 2B: every frame is a key frame, its reference half a batch away."""
    other = batch.reference
    images = torch.cat((batch.images, other.images))
    return Batch(
        images,
        batch.targets + other.targets,
        Batch(_swap_halves(images), other.targets + batch.targets),
    )


def _swap_halves(tensor: Tensor) -> Tensor:
    first, second = tensor.chunk(2)
    return torch.cat((second, first))
