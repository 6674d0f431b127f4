"""Key names in OpenMMLab's checkpoints and in those of this package.

``{i}``, ``{j}`` and ``{k}`` are placeholders for numbers. A pair gives the prefixes of two names
with the same remainder; the first matching pair is used.
"""

from __future__ import annotations

import re

_BOX = "roi_head.bbox_head.{i}."
_MASK = "roi_head.mask_head.{i}."
_DYNAMIC = "instance_interactive_conv."
_SWIN = "backbone.stages.{i}.blocks.{j}."
_TIMM_SWIN = "backbone.body.layers_{i}.blocks.{j}."

PAIRS: tuple[tuple[str, str], ...] = (
    # ResNet, ResNeXt
    ("backbone.layer{i}.{j}.conv2.conv_offset.", "backbone.body.layer{i}.{j}.conv2.offset."),
    ("backbone.layer{i}.", "backbone.body.layer{i}."),
    ("backbone.conv1.", "backbone.body.conv1."),
    ("backbone.bn1.", "backbone.body.bn1."),
    # Swin; in timm a downsampling layer belongs to the following stage
    ("backbone.patch_embed.projection.", "backbone.body.patch_embed.proj."),
    ("backbone.patch_embed.norm.", "backbone.body.patch_embed.norm."),
    (_SWIN + "attn.w_msa.", _TIMM_SWIN + "attn."),
    (_SWIN + "ffn.layers.0.0.", _TIMM_SWIN + "mlp.fc1."),
    (_SWIN + "ffn.layers.1.", _TIMM_SWIN + "mlp.fc2."),
    (_SWIN + "norm{k}.", _TIMM_SWIN + "norm{k}."),
    ("backbone.stages.0.downsample.", "backbone.body.layers_1.downsample."),
    ("backbone.stages.1.downsample.", "backbone.body.layers_2.downsample."),
    ("backbone.stages.2.downsample.", "backbone.body.layers_3.downsample."),
    ("backbone.norm{i}.", "backbone.norms.{i}."),
    # FPN and queries
    ("neck.lateral_convs.{i}.conv.", "neck.pyramid.inner_blocks.{i}.0."),
    ("neck.fpn_convs.{i}.conv.", "neck.pyramid.layer_blocks.{i}.0."),
    ("rpn_head.init_proposal_bboxes.weight", "proposals"),
    ("rpn_head.init_proposal_features.weight", "queries"),
    # Box stages
    (_BOX + "attention.attn.", "stages.{i}.attention."),
    (_BOX + "attention_norm.", "stages.{i}.attention_norm."),
    (_BOX + _DYNAMIC + "dynamic_layer.", "stages.{i}.dynamic_conv.kernel_layer."),
    (_BOX + _DYNAMIC + "norm_in.", "stages.{i}.dynamic_conv.norm_in."),
    (_BOX + _DYNAMIC + "norm_out.", "stages.{i}.dynamic_conv.norm_out."),
    (_BOX + _DYNAMIC + "fc_layer.", "stages.{i}.projection."),
    (_BOX + _DYNAMIC + "fc_norm.", "stages.{i}.projection_norm."),
    (_BOX + "instance_interactive_conv_norm.", "stages.{i}.query_norm."),
    (_BOX + "ffn.layers.0.0.", "stages.{i}.ffn.0."),
    (_BOX + "ffn.layers.1.", "stages.{i}.ffn.2."),
    (_BOX + "ffn_norm.", "stages.{i}.ffn_norm."),
    (_BOX + "cls_fcs.", "stages.{i}.class_layers."),
    (_BOX + "fc_cls.", "stages.{i}.class_predictor."),
    (_BOX + "reg_fcs.", "stages.{i}.box_layers."),
    (_BOX + "fc_reg.", "stages.{i}.box_predictor."),
    # Mask heads
    (_MASK + _DYNAMIC + "dynamic_layer.", "mask_heads.{i}.dynamic_conv.kernel_layer."),
    (_MASK + _DYNAMIC + "norm_in.", "mask_heads.{i}.dynamic_conv.norm_in."),
    (_MASK + _DYNAMIC + "norm_out.", "mask_heads.{i}.dynamic_conv.norm_out."),
    (_MASK + "convs.{j}.conv.", "mask_heads.{i}.convs.{j}.0."),
    (_MASK + "convs.{j}.bn.", "mask_heads.{i}.convs.{j}.1."),
    (_MASK + "upsample.", "mask_heads.{i}.upsample."),
    (_MASK + "conv_logits.", "mask_heads.{i}.predictor."),
    # Track head of mmdetection 3 and mmtracking
    ("track_head.embed_head.fcs.{i}.", "track_head.fcs.{i}."),
)
"""Names of mmdetection 3 (and 2) and of this package, one-to-one."""

OLDER_PAIRS: tuple[tuple[str, str], ...] = (
    # The official repository contains the original Swin code, whose names timm uses
    ("backbone.patch_embed.proj.", "backbone.body.patch_embed.proj."),
    ("backbone.layers.{i}.blocks.{j}.", _TIMM_SWIN),
    ("backbone.layers.0.downsample.", "backbone.body.layers_1.downsample."),
    ("backbone.layers.1.downsample.", "backbone.body.layers_2.downsample."),
    ("backbone.layers.2.downsample.", "backbone.body.layers_3.downsample."),
    # Deformable convolutions before mmdetection 2
    ("backbone.layer{i}.{j}.conv2_offset.", "backbone.body.layer{i}.{j}.conv2.offset."),
    # The track head of MaskTrack R-CNN's repository, and both heads saved separately
    ("track_head.fcs.{i}.", "track_head.fcs.{i}."),
    ("embed_head.fcs.{i}.", "track_head.fcs.{i}."),
    ("fcs.{i}.", "track_head.fcs.{i}."),
)
"""Additional names for import only; they are tried first."""

DETECTOR = "detector."  # prefix of the detector's names in video models of mmdetection


def convert_key(key: str) -> str | None:
    """The name of an OpenMMLab weight in this package, or None without a counterpart."""
    return _rename(key.removeprefix(DETECTOR), _IMPORT)


def export_key(name: str) -> str | None:
    """The name of a weight of this package in mmdetection 3, or None without a counterpart."""
    return _rename(name, _EXPORT)


def _rename(name: str, rules: tuple[tuple[re.Pattern[str], str], ...]) -> str | None:
    for pattern, replacement in rules:
        renamed, count = pattern.subn(replacement, name)
        if count:
            return renamed
    return None


def _rule(source: str, target: str) -> tuple[re.Pattern[str], str]:
    """A pattern for names with prefix ``source``, and the replacement of the prefix."""
    beginning = re.sub(r"\\{(\w)\\}", r"(?P<\1>\\d+)", re.escape(source))
    if not source.endswith("."):
        beginning += "$"  # the whole name
    return re.compile("^" + beginning), re.sub(r"{(\w)}", r"\\g<\1>", target)


_IMPORT = tuple(_rule(theirs, ours) for theirs, ours in OLDER_PAIRS + PAIRS)
_EXPORT = tuple(_rule(ours, theirs) for theirs, ours in PAIRS)
