"""Adapting a checkpoint to a model with another backbone or with more stages."""

from __future__ import annotations

import re

from queryinst_vis.checkpoints.weights import StateDict
from queryinst_vis.models.deformable import is_offset

STAGE = re.compile(r"(stages|mask_heads)\.(\d+)\.")
BACKBONE = "backbone."


def has_backbone_of(state: StateDict, weights: StateDict) -> bool:
    """Whether a checkpoint has the whole backbone of a model.

    Offsets of deformable convolutions may be missing, since they are trained from zero.

    Args:
        state: state dict of the model, or one of its tensors on the meta device.
        weights: state dict of the checkpoint.
    """
    return all(
        name in weights and weights[name].shape == value.shape
        for name, value in state.items()
        if name.startswith(BACKBONE) and (name in weights or not is_offset(name))
    )


def without_other_backbone(state: StateDict, weights: StateDict) -> tuple[StateDict, list[str]]:
    """Leave the backbone out if it isn't the model's.

    Different backbones share the shapes of some layers (EfficientNet-Lite0 and Lite2, for
    example). A mixture of pretrained and transferred layers would be worse than either.

    Returns:
        the weights to transfer, and messages.
    """
    saved = [name for name in weights if name.startswith(BACKBONE)]
    if not saved or has_backbone_of(state, weights):
        return weights, []
    kept = {name: value for name, value in weights.items() if not name.startswith(BACKBONE)}
    return kept, [
        f"  backbone: a different one in the checkpoint, its {len(saved)} tensors left out"
    ]


def with_missing_stages(state: StateDict, weights: StateDict) -> tuple[StateDict, list[str]]:
    """Add copies of the checkpoint's last stage, or mask head, for those that it lacks.

    Published files lack the mask heads used only in training, and a model may have more stages
    than its ancestor. A trained copy converges faster than a random initialisation, which would
    disturb the shared queries and features at first.

    Returns:
        the weights to transfer, and messages.
    """
    saved = _indices(weights)
    copied = dict(weights)
    missing: dict[str, set[int]] = {}
    for name in state:
        match = STAGE.match(name)
        if match is None or match[1] not in saved or int(match[2]) in saved[match[1]]:
            continue
        kind = match[1]
        missing.setdefault(kind, set()).add(int(match[2]))
        ancestor = f"{kind}.{max(saved[kind])}.{name[match.end() :]}"
        if ancestor in weights:
            copied[name] = weights[ancestor]
    return copied, [
        f"  {kind}: {', '.join(map(str, sorted(numbers)))} not in the checkpoint, copied from its "
        f"{max(saved[kind])}"
        for kind, numbers in missing.items()
    ]


def _indices(state: StateDict) -> dict[str, set[int]]:
    """Indices of the box stages and mask heads in a state dict."""
    found: dict[str, set[int]] = {}
    for name in state:
        if match := STAGE.match(name):
            found.setdefault(match[1], set()).add(int(match[2]))
    return found
