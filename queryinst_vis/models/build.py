"""Build a QueryInst from a Config: the only module of models/ that uses the configuration."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from queryinst_vis.config import (
    BackboneConfig,
    Config,
    MaskHeadConfig,
    ModelConfig,
    TrackHeadConfig,
    check_numbers,
)
from queryinst_vis.errors import InputError
from queryinst_vis.models.backbone import Backbone
from queryinst_vis.models.box_stage import BoxStage
from queryinst_vis.models.boxes import PROPOSAL_LAYOUTS, draw_proposals
from queryinst_vis.models.deformable import is_offset
from queryinst_vis.models.mask_head import NORMS, MaskHead
from queryinst_vis.models.mask_queries import MaskQueries
from queryinst_vis.models.neck import FPN
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.models.track_head import TrackHead
from queryinst_vis.utils.tensor_files import (
    check_tensors,
    is_safetensors,
    read_safetensors,
    read_torch_file,
)

BOX_ROI_SIZE = 7
_PART = re.compile(r"^(\w+)\.(\d+)\.")
MAX_PARAMETERS = 5_000_000_000  # 20 GB in float32
"""Far above any model of this kind: a larger one is a mistake or an attack."""


def build_model(config: Config, pretrained_backbone: bool = False) -> QueryInst:
    """Build the model described by ``config.model``, with newly initialised weights.

    Args:
        config: only ``config.model`` is used.
        pretrained_backbone: download ImageNet weights of the backbone with timm.

    Raises:
        InputError: inconsistent values, or a backbone that cannot be built.

    Example::

        model = queryinst_vis.build_model(queryinst_vis.load_config("config.yaml"))
        print(sum(parameter.numel() for parameter in model.parameters()))
    """
    model = config.model
    _check(model)
    backbone = Backbone(
        model.backbone.name,
        frozen_stages=model.backbone.frozen_stages,
        norm_eval=model.backbone.norm_eval,
        pretrained=pretrained_backbone,
        drop_path=model.backbone.drop_path,
        deformable_stages=model.backbone.deformable_stages,
    )
    network = QueryInst(
        backbone,
        FPN(backbone.channels, model.channels),
        draw_proposals(model.num_queries, model.proposals),
        model.channels,
        stages=[_build_stage(model) for _ in range(model.num_stages)],
        mask_heads=[_build_mask_head(model, index) for index in range(model.num_stages)],
        track_head=_build_track_head(model) if model.track.enabled else None,
        mask_queries=_build_mask_queries(model),
        mask_flow=model.mask.flow,
    )
    if not model.mask.parallel:
        network.strip_training_heads()  # they would not be trained
    # faster convolutions on CPUs and GPUs, especially strided depthwise ones
    return network.to(memory_format=torch.channels_last)


def load_backbone_weights(model: QueryInst, path: str | Path) -> None:
    """Load ImageNet weights with timm's key names (.safetensors, .pth) into the backbone.

    Keys of a classifier in the file are ignored. In models such as Swin, timm names the parts of
    the backbone ``layers_0`` instead of ``layers.0``; both are accepted.

    Raises:
        InputError: the file is unreadable or lacks a weight of this backbone.
    """
    weights = _read_tensors(Path(path))
    weights |= {_PART.sub(r"\1_\2.", key, count=1): value for key, value in weights.items()}
    expected = model.backbone.body.state_dict()
    expected = {key: value for key, value in expected.items() if not is_offset(key)}
    wrong = [
        key
        for key, value in expected.items()
        if key not in weights or weights[key].shape != value.shape
    ]
    if wrong:
        raise InputError(
            f"backbone weights {path}: {len(wrong)} of {len(expected)} weights are missing or "
            f"of another shape, the first is '{wrong[0]}'; is the file for another backbone?"
        )
    model.backbone.body.load_state_dict({key: weights[key] for key in expected}, strict=False)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    what = "backbone weights"
    if not path.is_file():
        raise InputError(f"{what} {path}: no such file")
    weights = (
        read_safetensors(path, what)[1] if is_safetensors(path) else read_torch_file(path, what)
    )
    if not isinstance(weights, dict):
        raise InputError(f"{what} {path}: contains no named tensors")
    tensors = {key: value for key, value in weights.items() if isinstance(value, Tensor)}
    check_tensors(tensors, f"{what} {path}")
    return tensors


def _check(model: ModelConfig) -> None:
    check_numbers(model, "model")
    if not model.classes:
        raise InputError("model.classes: is empty; list the class names of the model")
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
        raise InputError(
            f"model.mask.norm GN: model.channels ({model.channels}) must be divisible by 8"
        )
    _check_size(model)
    _check_colours(model.backbone)
    _check_variant(model.mask)
    _check_track_head(model.track)


def _check_size(model: ModelConfig) -> None:
    """Reject widths that are individually valid but together exceed any memory."""
    width, mask, track = model.channels, model.mask, model.track
    per_stage = (
        2 * (2 * width * width * model.dynamic_channels)  # DynConv kernels for boxes and masks
        + BOX_ROI_SIZE**2 * width * width  # projection after DynConv(box)
        + 2 * width * model.ffn_channels
        + (4 + model.class_layers + model.box_layers + 9 * mask.num_convs) * width * width
    )
    total = model.num_stages * per_stage + model.num_queries * width
    if track.enabled:
        total += track.roi_size**2 * width * track.hidden_channels
        total += track.hidden_channels * (track.hidden_channels + track.embedding_channels)
    if total > MAX_PARAMETERS:
        raise InputError(
            f"model: would have {total:.1e} parameters, more than {MAX_PARAMETERS:.0e}; check its "
            "channels, its layers and its numbers of stages and queries"
        )


def _check_colours(backbone: BackboneConfig) -> None:
    for name in ("mean", "std"):
        values = getattr(backbone, name)
        if len(values) != 3:
            raise InputError(f"model.backbone.{name}: expected three numbers (RGB), is {values}")


def _check_variant(mask: MaskHeadConfig) -> None:
    """Allow only the combinations of the paper's Tables 4 to 6."""
    separate = not (mask.share_query and mask.share_attention)
    if separate and not mask.dynamic:
        raise InputError(
            "model.mask.dynamic: vanilla mask heads (false) read no queries, so share_query and "
            "share_attention must stay true"
        )
    if not mask.parallel and (mask.flow or not mask.share_query):
        name = "flow: true" if mask.flow else "share_query: false"
        raise InputError(
            f"model.mask.parallel: false is incompatible with model.mask.{name}, which trains the "
            "mask heads of all stages; choose parallel: true, or flow: false with share_query: true"
        )


def _check_track_head(track: TrackHeadConfig) -> None:
    if track.dynamic and not track.enabled:
        raise InputError("model.track.dynamic: needs model.track.enabled=true")


def _build_stage(model: ModelConfig) -> BoxStage:
    return BoxStage(
        model.channels,
        len(model.classes),
        num_heads=model.num_heads,
        ffn_channels=model.ffn_channels,
        dynamic_channels=model.dynamic_channels,
        class_layers=model.class_layers,
        box_layers=model.box_layers,
    )


def _build_mask_head(model: ModelConfig, index: int) -> MaskHead:
    return MaskHead(
        model.channels,
        len(model.classes),
        dynamic_channels=model.dynamic_channels,
        roi_size=model.mask.roi_size,
        num_convs=model.mask.num_convs,
        norm=model.mask.norm,
        dynamic=model.mask.dynamic,
        flow=model.mask.flow and index > 0,
    )


def _build_mask_queries(model: ModelConfig) -> MaskQueries | None:
    if model.mask.share_query and model.mask.share_attention:
        return None
    return MaskQueries(
        model.num_queries,
        model.channels,
        num_stages=model.num_stages,
        num_heads=model.num_heads,
        ffn_channels=model.ffn_channels,
        share_query=model.mask.share_query,
        share_attention=model.mask.share_attention,
    )


def _build_track_head(model: ModelConfig) -> TrackHead:
    track = model.track
    return TrackHead(
        model.channels,
        roi_size=track.roi_size,
        sampling_ratio=track.sampling_ratio,
        hidden_channels=track.hidden_channels,
        embedding_channels=track.embedding_channels,
        final_relu=track.final_relu,
        dynamic_channels=model.dynamic_channels if track.dynamic else None,
    )
