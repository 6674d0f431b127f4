"""The config of converted weights, inferred from their names and shapes."""

from __future__ import annotations

import re

from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from queryinst_vis.checkpoints.weights import StateDict
from queryinst_vis.config import Config, TrackHeadConfig
from queryinst_vis.errors import InputError

RESNETS = {
    (2, 64, 64): "resnet18",
    (6, 64, 64): "resnet34",
    (6, 256, 64): "resnet50",
    (23, 256, 64): "resnet101",
    (23, 256, 4): "resnext101_64x4d",
}
"""Key: blocks of layer3, channels of C2, input channels of the grouped 3x3 convolution."""

SWINS = {
    (6, 96, 7): "swin_tiny_patch4_window7_224",
    (18, 96, 7): "swin_small_patch4_window7_224",
    (18, 128, 7): "swin_base_patch4_window7_224",
    (18, 128, 12): "swin_base_patch4_window12_384",
    (18, 192, 7): "swin_large_patch4_window7_224",
    (18, 192, 12): "swin_large_patch4_window12_384",
}
"""Key: blocks of the third stage, channels of C2, window size."""

ROI_SIZE = 7  # of all published track heads


def infer_config(
    weights: StateDict, final_relu: bool = False, classes: list[str] | None = None
) -> Config:
    """Infer the architecture from converted weights.

    Settings that shapes do not determine are mmdetection's defaults (8 attention heads). Input
    sizes and limits are the published ones for COCO or, with a track head, for YouTube-VIS.

    Args:
        weights: converted weights of a QueryInst.
        final_relu: the track head is mmdetection's (with adaptive RoIAlign sampling).
        classes: class names of the checkpoint. If None, or if the number differs: COCO's names
            for 80 classes, otherwise numbered names.

    Raises:
        InputError: a weight that determines the architecture is missing, or the backbone is
            unknown.
    """
    config = Config()
    model = config.model
    try:
        model.backbone.name = _backbone_name(weights)
        model.backbone.deformable_stages = _numbers(
            weights, r"backbone\.body\.layer(\d+)\.\d+\.conv2\.offset\."
        )
        model.num_queries, model.channels = weights["queries"].shape
        model.num_stages = len(_numbers(weights, r"stages\.(\d+)\."))
        model.ffn_channels = len(weights["stages.0.ffn.0.weight"])
        model.dynamic_channels = len(weights["stages.0.dynamic_conv.norm_in.weight"])
        model.class_layers = len(_numbers(weights, r"stages\.0\.class_layers\.(\d+)\.")) // 2
        model.box_layers = len(_numbers(weights, r"stages\.0\.box_layers\.(\d+)\.")) // 2
        model.mask.num_convs = len(_numbers(weights, r"mask_heads\.0\.convs\.(\d+)\."))
        num_classes = len(weights["stages.0.class_predictor.weight"])
    except KeyError as error:
        raise InputError(f"{error} is missing, which determines the architecture") from error
    if not any(".convs.0.1." in name for name in weights):
        model.mask.norm = "none"
    if classes is None or len(classes) != num_classes:
        classes = _default_class_names(num_classes)
    model.classes = list(classes)
    config.inference.max_per_image = model.num_queries  # as published, for 100 and for 300
    if has_track_head(weights):
        model.track = infer_track_head(weights, final_relu)
        config.inference.one_label_per_query = True
    else:
        config.input.test_short, config.input.test_long = 800, 1333
        config.inference.score_threshold = 0.0
    return config


def has_track_head(weights: StateDict) -> bool:
    """Whether both layers of a track head are among the weights."""
    return all(f"track_head.fcs.{index}.weight" in weights for index in (0, 1))


def infer_track_head(weights: StateDict, final_relu: bool) -> TrackHeadConfig:
    """The ``model.track`` section of converted weights that have a track head."""
    return TrackHeadConfig(
        enabled=True,
        roi_size=ROI_SIZE,
        sampling_ratio=0 if final_relu else 2,
        hidden_channels=len(weights["track_head.fcs.0.weight"]),
        embedding_channels=len(weights["track_head.fcs.1.weight"]),
        final_relu=final_relu,
    )


def _default_class_names(count: int) -> list[str]:
    categories = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    coco = [name for name in categories if name not in ("__background__", "N/A")]
    return coco if count == len(coco) else [f"class {index}" for index in range(count)]


def _backbone_name(weights: StateDict) -> str:
    channels = weights["neck.pyramid.inner_blocks.0.0.weight"].shape[1]
    if "backbone.body.patch_embed.proj.weight" in weights:
        blocks = len(_numbers(weights, r"backbone\.body\.layers_2\.blocks\.(\d+)\."))
        table = weights["backbone.body.layers_0.blocks.0.attn.relative_position_bias_table"]
        traits = (blocks, channels, (round(len(table) ** 0.5) + 1) // 2)
        known, kinds = SWINS, "blocks in the third stage, channels in C2, side of the window"
    else:
        blocks = len(_numbers(weights, r"backbone\.body\.layer3\.(\d+)\."))
        traits = (blocks, channels, weights["backbone.body.layer1.0.conv2.weight"].shape[1])
        known, kinds = RESNETS, "blocks in layer3, channels in C2, in a group of its 3x3"
    if traits not in known:
        raise InputError(
            f"unknown backbone ({kinds}: {', '.join(map(str, traits))}); supported are "
            + ", ".join(known.values())
        )
    return known[traits]


def _numbers(weights: StateDict, pattern: str) -> list[int]:
    """The distinct numbers matched by the group of ``pattern``, in order."""
    return sorted({int(found[1]) for name in weights if (found := re.match(pattern, name))})
