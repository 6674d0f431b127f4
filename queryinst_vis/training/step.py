"""Model and losses as one module, so that DDP wraps a single forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from queryinst_vis.losses.criterion import Criterion
from queryinst_vis.losses.matcher import Match
from queryinst_vis.losses.track import track_loss, track_targets
from queryinst_vis.models.queryinst import QueryInst, QueryInstOutput, gather_rows
from queryinst_vis.models.track_head import TrackHead, similarity_logits
from queryinst_vis.structures import Batch, Target
from queryinst_vis.utils.autograd import read_nodes


class TrainingStep(nn.Module):
    """Weighted losses of a batch of images, or of key and reference frames.

    Args:
        model: the network.
        criterion: losses of the image model, on the key frames.
        track_weight: weight of the track loss.
        both_ways: use each frame of a pair as the reference of the other. The losses are those of
            a batch with every pair in both orders, but the backbone runs only once per frame.
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
        """Losses by name; the total loss is their sum."""
        reference, head = batch.reference, self.model.track_head
        if reference is not None and head is not None and self.both_ways:
            batch, reference = _in_both_orders(batch, reference)
        output = self.model(batch.images, [target.image_size for target in batch.targets])

        def predict_masks(stage: int, picks: list[Tensor]) -> Tensor:
            return self.model.mask_logits(stage, output, picks)

        losses, matches = self.criterion(output.stages, batch.targets, predict_masks)
        if reference is not None and head is not None:
            reference_instances = (
                self._reference_queries(reference, output, matches[-1])
                if head.reads_queries
                else self._reference_boxes(reference, output)
            )
            key = _key_queries(output, matches[-1], batch.targets)
            losses["track"] = self.track_weight * _track_loss(head, key, reference_instances)
        return losses

    def _reference_boxes(self, reference: Batch, key: QueryInstOutput) -> _Instances:
        """The reference instances as in MaskTrack R-CNN: ground-truth boxes, with gradient."""
        features = (
            [_swap_halves(level) for level in key.features]
            if self.both_ways
            else self.model.extract_features(reference.images)
        )
        return _Instances(
            features,
            [target.boxes for target in reference.targets],
            None,
            [target.instance_ids for target in reference.targets],
        )

    @torch.no_grad()
    def _reference_queries(
        self, reference: Batch, key: QueryInstOutput, key_matches: list[Match]
    ) -> _Instances:
        """The reference instances as in QueryTrack: ground-truth boxes with their matched queries.

        The detector runs without gradient, and the queries of its last stage are matched to the
        reference frame (QueryInst issue 34). Unmatched instances count as absent, as in inference.
        """
        if self.both_ways:
            features = [_swap_halves(level) for level in key.features]
            q_star = _swap_halves(key.stages[-1].q_star)
            half = len(key_matches) // 2
            matches = key_matches[half:] + key_matches[:half]
        else:
            sizes = [target.image_size for target in reference.targets]
            output = self.model(reference.images, sizes)
            features, q_star = output.features, output.stages[-1].q_star
            (matches,) = self.criterion.match(output.stages[-1:], reference.targets)
        pairs = list(zip(matches, reference.targets, strict=True))
        return _Instances(
            features,
            [target.boxes[match.instances] for match, target in pairs],
            _matched(q_star, matches),
            [target.instance_ids[match.instances] for match, target in pairs],
        )


@dataclass
class _Instances:
    """The inputs of the track head for B frames.

    Attributes:
        features: P2..P5.
        boxes: B tensors ``(n_i, 4)`` xyxy in input pixels.
        q_star: B tensors ``(n_i, C)``, the queries of these boxes, or None without queries.
        ids: B tensors ``(n_i,)`` int64.
    """

    features: Sequence[Tensor]
    boxes: list[Tensor]
    q_star: list[Tensor] | None
    ids: list[Tensor]

    def embed(self, head: TrackHead) -> tuple[Tensor, ...]:
        """Embeddings: B tensors ``(n_i, D)``."""
        embeddings = head(self.features, self.boxes, self.q_star)
        return embeddings.split([len(boxes) for boxes in self.boxes])


def _key_queries(
    output: QueryInstOutput, matches: list[Match], targets: list[Target]
) -> _Instances:
    """The matched queries of the key frame in the last stage, with their detached refined boxes."""
    last = output.stages[-1]
    return _Instances(
        output.features,
        _matched(last.boxes.detach(), matches),
        _matched(last.q_star, matches),
        [t.instance_ids[m.instances] for t, m in zip(targets, matches, strict=True)],
    )


def _matched(values: Tensor, matches: list[Match]) -> list[Tensor]:
    """The rows of ``(B, N, ...)`` values that belong to matched queries, per image."""
    return gather_rows(values, [match.queries for match in matches])


def _track_loss(head: TrackHead, key: _Instances, reference: _Instances) -> Tensor:
    """Loss for identifying the key frame's queries among the instances of the reference frame."""
    pairs = zip(key.embed(head), reference.embed(head), strict=True)
    logits = [similarity_logits(*pair) for pair in pairs]
    identities = [track_targets(*ids) for ids in zip(key.ids, reference.ids, strict=True)]
    return track_loss(logits, identities)


def _in_both_orders(key: Batch, reference: Batch) -> tuple[Batch, Batch]:
    """Turn B pairs into 2B: first in the given order, then with key and reference swapped."""
    images = torch.cat((key.images, reference.images))
    return (
        Batch(images, key.targets + reference.targets),
        Batch(_swap_halves(images), reference.targets + key.targets),
    )


def _swap_halves(tensor: Tensor) -> Tensor:
    first, second = tensor.chunk(2)
    return torch.cat((second, first))


def zero_of_unused(loss: Tensor, module: nn.Module) -> Tensor:
    """0 times every trainable parameter of the module that the loss does not depend on.

    DDP requires a gradient for every parameter, but the batch determines which mask heads, track
    head and FPN levels are used. Adding this to the loss provides zero gradients for the others.

    Args:
        loss: scalar loss.
        module: the module.

    Returns:
        A scalar 0.
    """
    used = {getattr(node, "variable", None) for node in read_nodes([loss])}
    unused = [value for value in module.parameters() if value.requires_grad and value not in used]
    return sum((value.sum() * 0 for value in unused), loss.new_zeros(()))
