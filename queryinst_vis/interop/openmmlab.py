"""QueryInst checkpoints of mmdetection 3.x: their key names to ours, values untouched."""

from __future__ import annotations

import re

from torch import Tensor
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from queryinst_vis.config import Config
from queryinst_vis.errors import InputError

FIRST_KEY = "rpn_head.init_proposal_bboxes.weight"  # tells a QueryInst of mmdetection

_BOX = r"roi_head\.bbox_head\.(\d+)\."
_MASK = r"roi_head\.mask_head\.(\d+)\."

RENAMES: tuple[tuple[str, str], ...] = (
    (r"backbone\.", r"backbone.body."),
    (r"neck\.lateral_convs\.(\d+)\.conv\.", r"neck.pyramid.inner_blocks.\1.0."),
    (r"neck\.fpn_convs\.(\d+)\.conv\.", r"neck.pyramid.layer_blocks.\1.0."),
    (r"rpn_head\.init_proposal_bboxes\.weight", r"proposals"),
    (r"rpn_head\.init_proposal_features\.weight", r"queries"),
    (_BOX + r"attention\.attn\.", r"stages.\1.attention."),
    (_BOX + r"attention_norm\.", r"stages.\1.attention_norm."),
    (
        _BOX + r"instance_interactive_conv\.dynamic_layer\.",
        r"stages.\1.dynamic_conv.kernel_layer.",
    ),
    (_BOX + r"instance_interactive_conv\.(norm_in|norm_out)\.", r"stages.\1.dynamic_conv.\2."),
    (_BOX + r"instance_interactive_conv\.fc_layer\.", r"stages.\1.projection."),
    (_BOX + r"instance_interactive_conv\.fc_norm\.", r"stages.\1.projection_norm."),
    (_BOX + r"instance_interactive_conv_norm\.", r"stages.\1.query_norm."),
    (_BOX + r"ffn\.layers\.0\.0\.", r"stages.\1.ffn.0."),
    (_BOX + r"ffn\.layers\.1\.", r"stages.\1.ffn.2."),
    (_BOX + r"ffn_norm\.", r"stages.\1.ffn_norm."),
    (_BOX + r"cls_fcs\.", r"stages.\1.class_layers."),
    (_BOX + r"fc_cls\.", r"stages.\1.class_predictor."),
    (_BOX + r"reg_fcs\.", r"stages.\1.box_layers."),
    (_BOX + r"fc_reg\.", r"stages.\1.box_predictor."),
    (
        _MASK + r"instance_interactive_conv\.dynamic_layer\.",
        r"mask_heads.\1.dynamic_conv.kernel_layer.",
    ),
    (_MASK + r"instance_interactive_conv\.(norm_in|norm_out)\.", r"mask_heads.\1.dynamic_conv.\2."),
    (_MASK + r"convs\.(\d+)\.conv\.", r"mask_heads.\1.convs.\2.0."),
    (_MASK + r"convs\.(\d+)\.bn\.", r"mask_heads.\1.convs.\2.1."),
    (_MASK + r"upsample\.", r"mask_heads.\1.upsample."),
    (_MASK + r"conv_logits\.", r"mask_heads.\1.predictor."),
)
"""Beginnings of mmdet's keys and what they become; no beginning matches another's key."""


def convert_key(key: str) -> str | None:
    """Our name of one of mmdet's keys, or None where we have no such weight."""
    for pattern, replacement in RENAMES:
        renamed, count = re.subn("^" + pattern, replacement, key)
        if count:
            return renamed
    return None


def convert_state_dict(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of an mmdet 3.x QueryInst to ours, bit for bit.

    Raises:
        InputError: keys that have no counterpart in our model.
    """
    renamed = {key: convert_key(key) for key in state_dict}
    homeless = [key for key, name in renamed.items() if name is None]
    if homeless:
        raise InputError(
            f"{len(homeless)} of {len(state_dict)} keys are not those of an mmdet QueryInst: "
            + ", ".join(homeless[:5])
        )
    return {renamed[key]: value for key, value in state_dict.items()}


RESNETS = {(2, 64): "resnet18", (6, 64): "resnet34", (6, 256): "resnet50", (23, 256): "resnet101"}
"""ResNet names by the blocks of layer3 and the channels of C2."""


def infer_config(weights: dict[str, Tensor]) -> Config:
    """Read the architecture off converted weights.

    What shapes cannot tell is mmdet's default (8 attention heads). The weights do not name
    their classes: 80 rows are taken for COCO's, others are numbered.

    Args:
        weights: under our names.

    Raises:
        InputError: the backbone is not a ResNet of 18, 34, 50 or 101 layers.
    """
    config = Config()
    model = config.model
    model.backbone.name = _resnet_name(weights)
    model.num_queries, model.channels = weights["queries"].shape
    model.num_stages = _count(weights, r"stages\.(\d+)\.")
    model.ffn_channels = len(weights["stages.0.ffn.0.weight"])
    model.dynamic_channels = len(weights["stages.0.dynamic_conv.norm_in.weight"])
    model.class_layers = _count(weights, r"stages\.0\.class_layers\.(\d+)\.") // 2
    model.box_layers = _count(weights, r"stages\.0\.box_layers\.(\d+)\.") // 2
    model.mask.num_convs = _count(weights, r"mask_heads\.0\.convs\.(\d+)\.")
    model.classes = _class_names(len(weights["stages.0.class_predictor.weight"]))
    config.input.test_short, config.input.test_long = 800, 1333
    return config


def _class_names(count: int) -> list[str]:
    categories = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    coco = [name for name in categories if name not in ("__background__", "N/A")]
    return coco if count == len(coco) else [f"class {index}" for index in range(count)]


def _resnet_name(weights: dict[str, Tensor]) -> str:
    blocks = _count(weights, r"backbone\.body\.layer3\.(\d+)\.")
    channels = weights["neck.pyramid.inner_blocks.0.0.weight"].shape[1]
    name = RESNETS.get((blocks, channels))
    if name is None:
        raise InputError(
            f"its backbone ({blocks} blocks in layer3, {channels} channels in C2) is none of "
            + ", ".join(RESNETS.values())
        )
    return name


def _count(weights: dict[str, Tensor], pattern: str) -> int:
    """How many different numbers stand in the group of ``pattern``."""
    return len({found[1] for key in weights if (found := re.match(pattern, key))})
