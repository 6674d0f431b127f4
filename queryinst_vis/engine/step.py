"""One training step as a module: model and losses together, so that DDP sees one forward."""

from __future__ import annotations

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
    """

    def __init__(self, model: QueryInst, criterion: Criterion, track_weight: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion
        self.track_weight = track_weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses by name; their sum is what is minimised."""
        output = self.model(batch.images, [target.image_size for target in batch.targets])

        def predict_masks(stage: int, boxes: list[Tensor], q_star: list[Tensor]) -> Tensor:
            return self.model.mask_logits(stage, output.features, boxes, q_star)

        losses, matches = self.criterion(output.stages, batch.targets, predict_masks)
        if batch.reference is not None and self.model.track_head is not None:
            loss = self._track_loss(output.features, output.stages[-1], matches[-1], batch)
            losses["track"] = self.track_weight * loss
        return losses

    def _track_loss(
        self, features: list[Tensor], stage: StageOutput, matches: list[Match], batch: Batch
    ) -> Tensor:
        """Identify the key frame's matched queries among the reference's instances.

        As in MaskTrack R-CNN, the reference frame is described by its ground-truth boxes and
        carries gradient.
        """
        key_boxes = [stage.boxes[i][match.queries].detach() for i, match in enumerate(matches)]
        key = self.model.track_head(features, key_boxes)
        reference_boxes = [target.boxes for target in batch.reference.targets]
        reference_features = self.model.extract_features(batch.reference.images)
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
