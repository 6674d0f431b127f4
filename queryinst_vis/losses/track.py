"""The track loss: classification over the instances of the reference frame (paper 3.5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def track_targets(key_instance_ids: Tensor, reference_instance_ids: Tensor) -> Tensor:
    """Target column of the similarity logits for each positive of the key frame.

    Args:
        key_instance_ids: ``(n,)`` int64 instance of every positive; may contain duplicates.
        reference_instance_ids: ``(k,)`` int64 distinct instances in the reference frame.

    Returns:
        ``(n,)`` int64 in 0..k: index in the reference + 1, or 0 if it is absent there.
    """
    same = key_instance_ids[:, None] == reference_instance_ids[None, :]
    columns = torch.arange(1, len(reference_instance_ids) + 1, device=same.device)
    return (same * columns).sum(dim=1)


def track_loss(similarity_logits: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Cross-entropy over "new object" and the reference instances, as in MaskTrack R-CNN.

    Mean over the positives of an image, then mean over *all* images, as in the original: an
    image without positives contributes 0 and is counted. It is still part of the graph, so
    that every process of a distributed run uses the same parameters. The loss is 0 for a
    reference without instances.

    Args:
        similarity_logits: per image ``(n_i, k_i + 1)``, column 0 for "not in the reference".
        targets: per image ``(n_i,)`` int64 from :func:`track_targets`.

    Returns:
        The loss, a scalar >= 0, before its weight.
    """
    per_image = [
        F.cross_entropy(logits.float(), target, reduction="sum") / max(len(target), 1)
        for logits, target in zip(similarity_logits, targets, strict=True)
    ]
    return torch.stack(per_image).mean()
