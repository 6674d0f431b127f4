"""From a Config to a QueryInst: the only room of models/ that knows the configuration."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from queryinst_vis.config import Config, ModelConfig
from queryinst_vis.errors import InputError
from queryinst_vis.models.backbone import Backbone
from queryinst_vis.models.box_stage import BoxStage
from queryinst_vis.models.boxes import PROPOSAL_LAYOUTS, draw_proposals
from queryinst_vis.models.mask_head import NORMS, MaskHead
from queryinst_vis.models.neck import FPN
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.models.track_head import TrackHead


def build_model(config: Config, pretrained_backbone: bool = False) -> QueryInst:
    """Build the model that ``config.model`` describes, freshly initialised.

    Args:
        pretrained_backbone: let timm fetch the backbone's ImageNet weights.

    Raises:
        InputError: values that do not go together, or a backbone that cannot be built.
    """
    model = config.model
    _check(model)
    backbone = Backbone(
        model.backbone.name,
        model.backbone.frozen_stages,
        model.backbone.norm_eval,
        pretrained_backbone,
    )
    network = QueryInst(
        backbone,
        FPN(backbone.channels, model.channels),
        draw_proposals(model.num_queries, model.proposals),
        model.channels,
        [_build_stage(model) for _ in range(model.num_stages)],
        [_build_mask_head(model) for _ in range(model.num_stages)],
        _build_track_head(model) if model.track.enabled else None,
    )
    # convolutions, above all strided depthwise ones, run faster so, on CPUs and GPUs alike
    return network.to(memory_format=torch.channels_last)


def load_backbone_weights(model: QueryInst, path: str | Path) -> None:
    """Load ImageNet weights in timm's key names (.safetensors, .pth) into the backbone.

    Classifier keys of the file are ignored.

    Raises:
        InputError: unreadable file, or one that lacks a weight of this backbone.
    """
    weights = _read_tensors(Path(path))
    wanted = model.backbone.body.state_dict()
    wrong = [
        key
        for key, value in wanted.items()
        if key not in weights or weights[key].shape != value.shape
    ]
    if wrong:
        raise InputError(
            f"backbone weights {path}: {len(wrong)} of {len(wanted)} weights are missing or of "
            f"another shape, the first is '{wrong[0]}'; is the file of another backbone?"
        )
    model.backbone.body.load_state_dict({key: weights[key] for key in wanted})


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"backbone weights {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both loaders raise many kinds for a broken file
        reason = str(error).splitlines()[0]
        raise InputError(f"backbone weights {path}: not readable ({reason})") from error


def _check(model: ModelConfig) -> None:
    positive = ("channels", "num_queries", "num_stages", "num_heads", "dynamic_channels")
    for name in positive:
        if getattr(model, name) < 1:
            raise InputError(f"model.{name}: must be at least 1, is {getattr(model, name)}")
    if not model.classes:
        raise InputError("model.classes: is empty; list the class names the model tells apart")
    if len(set(model.classes)) < len(model.classes):
        raise InputError("model.classes: a class name occurs twice")
    if model.channels % model.num_heads:
        raise InputError(
            f"model.channels ({model.channels}) must be divisible by "
            f"model.num_heads ({model.num_heads})"
        )
    if model.proposals not in PROPOSAL_LAYOUTS:
        choices = ", ".join(PROPOSAL_LAYOUTS)
        raise InputError(f"model.proposals '{model.proposals}': choose one of {choices}")
    if model.mask.norm not in NORMS:
        raise InputError(f"model.mask.norm '{model.mask.norm}': choose one of {', '.join(NORMS)}")
    if model.mask.norm == "GN" and model.channels % 8:
        raise InputError(f"model.mask.norm GN needs model.channels ({model.channels}) in eights")
    if not 0 <= model.backbone.frozen_stages <= 4:
        raise InputError("model.backbone.frozen_stages: must be between 0 and 4")


def _build_stage(model: ModelConfig) -> BoxStage:
    return BoxStage(
        model.channels,
        len(model.classes),
        model.num_heads,
        model.ffn_channels,
        model.dynamic_channels,
        model.class_layers,
        model.box_layers,
    )


def _build_mask_head(model: ModelConfig) -> MaskHead:
    return MaskHead(
        model.channels,
        len(model.classes),
        model.dynamic_channels,
        model.mask.roi_size,
        model.mask.num_convs,
        model.mask.norm,
    )


def _build_track_head(model: ModelConfig) -> TrackHead:
    track = model.track
    return TrackHead(
        model.channels,
        track.roi_size,
        track.sampling_ratio,
        track.hidden_channels,
        track.embedding_channels,
        track.final_relu,
    )
