"""Conversion of OpenMMLab weights to our names and back, bit by bit."""

from pathlib import Path

import pytest
import timm
import torch
from timm.models.swin_transformer import PatchMerging, get_relative_position_index
from torch import nn

from queryinst_vis.checkpoints.openmmlab import (
    convert_key,
    convert_state_dict,
    export_state_dict,
    translate,
)
from queryinst_vis.checkpoints.openmmlab_config import infer_config
from queryinst_vis.config import Config
from queryinst_vis.errors import InputError
from queryinst_vis.models.build import build_model
from queryinst_vis.models.track_head import TrackHead

DATA = Path(__file__).parent / "data"


def golden(name):
    return torch.load(DATA / f"{name}.pth", weights_only=True)


def same_bits(actual, expected):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert actual[key].dtype == value.dtype and torch.equal(actual[key], value), key


# Golden checkpoints; test_golden_*.py check what the converted weights compute


def test_the_golden_queryinst_round_trips_bit_by_bit():
    theirs = golden("queryinst_mmdet")["state_dict"]
    ours = convert_state_dict(theirs)
    assert len(ours) == len(theirs)
    same_bits(export_state_dict(ours), theirs)
    same_bits(convert_state_dict(export_state_dict(ours)), ours)


@pytest.mark.parametrize("prefix", ["track_head.", ""])
def test_the_golden_track_head_of_mmdetection_round_trips_bit_by_bit(prefix):
    """As part of a MaskTrackRCNN, and as a separate file."""
    head = golden("tracker_mmdet")["state_dict"]
    ours = convert_state_dict({prefix + key: value for key, value in head.items()})
    TrackHead(8, hidden_channels=32, embedding_channels=32).load_state_dict(
        {name.removeprefix("track_head."): value for name, value in ours.items()}
    )
    theirs = {"track_head." + key: value for key, value in head.items()}
    same_bits(export_state_dict(ours), theirs)


def test_the_track_head_of_the_original_keeps_its_names():
    """mmdetection's head applies a final ReLU, so it must not be recognised as one."""
    head = golden("masktrack_original")["state_dict"]
    theirs = {"track_head." + key: value for key, value in head.items()}
    same_bits(convert_state_dict(theirs), theirs)
    same_bits(convert_state_dict(head), theirs)
    same_bits(export_state_dict(theirs, final_relu=False), theirs)


def test_a_video_model_is_a_detector_and_a_track_head():
    theirs = {f"detector.{k}": v for k, v in golden("queryinst_mmdet")["state_dict"].items()}
    theirs |= {f"track_head.{k}": v for k, v in golden("tracker_mmdet")["state_dict"].items()}
    ours = convert_state_dict(theirs)
    assert {"queries", "track_head.fcs.1.bias"} <= ours.keys()
    same_bits(export_state_dict(ours), theirs)


# Names that the golden files do not have


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.layer3.22.bn2.running_var", "backbone.body.layer3.22.bn2.running_var"),
        ("backbone.layer4.0.conv2.conv_offset.bias", "backbone.body.layer4.0.conv2.offset.bias"),
        ("backbone.layer4.0.conv2_offset.weight", "backbone.body.layer4.0.conv2.offset.weight"),
        ("backbone.patch_embed.projection.bias", "backbone.body.patch_embed.proj.bias"),
        ("backbone.patch_embed.proj.bias", "backbone.body.patch_embed.proj.bias"),
        ("backbone.patch_embed.norm.weight", "backbone.body.patch_embed.norm.weight"),
        (
            "backbone.stages.2.blocks.17.attn.w_msa.relative_position_bias_table",
            "backbone.body.layers_2.blocks.17.attn.relative_position_bias_table",
        ),
        (
            "backbone.stages.0.blocks.1.attn.w_msa.qkv.weight",
            "backbone.body.layers_0.blocks.1.attn.qkv.weight",
        ),
        (
            "backbone.layers.0.blocks.1.attn.qkv.weight",
            "backbone.body.layers_0.blocks.1.attn.qkv.weight",
        ),
        (
            "backbone.stages.3.blocks.0.ffn.layers.0.0.bias",
            "backbone.body.layers_3.blocks.0.mlp.fc1.bias",
        ),
        (
            "backbone.stages.3.blocks.0.ffn.layers.1.bias",
            "backbone.body.layers_3.blocks.0.mlp.fc2.bias",
        ),
        ("backbone.layers.3.blocks.0.mlp.fc2.bias", "backbone.body.layers_3.blocks.0.mlp.fc2.bias"),
        (
            "backbone.stages.1.blocks.0.norm2.weight",
            "backbone.body.layers_1.blocks.0.norm2.weight",
        ),
        (
            "backbone.stages.1.downsample.reduction.weight",
            "backbone.body.layers_2.downsample.reduction.weight",
        ),
        (
            "backbone.layers.1.downsample.reduction.weight",
            "backbone.body.layers_2.downsample.reduction.weight",
        ),
        ("backbone.norm3.bias", "backbone.norms.3.bias"),
        ("detector.neck.fpn_convs.1.conv.bias", "neck.pyramid.layer_blocks.1.0.bias"),
        ("backbone.absolute_pos_embed", None),
        ("backbone.stem.0.weight", None),
        ("roi_head.mask_head.0.convs.0.gn.weight", None),
        ("rpn_head.rpn_conv.weight", None),
        ("bbox_head.fc_cls.weight", None),
        ("track_head.embed_head.convs.0.conv.weight", None),
    ],
)
def test_parameter_names_are_mapped(theirs, ours):
    assert convert_key(theirs) == ours


def test_parameters_without_a_counterpart_are_named():
    state = {"queries": torch.zeros(1), "bbox_head.fc_cls.weight": torch.zeros(1)}
    assert translate(state) == ({}, list(state))
    with pytest.raises(InputError, match=r"2 of 2 keys .* queries, bbox_head\.fc_cls\.weight"):
        convert_state_dict(state)


@pytest.mark.parametrize(
    "name",
    [
        "backbone.body.blocks.0.0.conv_dw.weight",  # EfficientNet
        "mask_queries.queries",  # separate mask queries (Table 6)
        "mask_heads.1.flow.0.weight",  # HTC's information flow (Table 4)
        "track_head.dynamic_conv.kernel_layer.weight",  # QueryTrack's head
    ],
)
def test_parameters_unknown_to_mmdetection_are_not_exported(name):
    with pytest.raises(InputError, match=f"^{name}: has no counterpart"):
        export_state_dict({"queries": torch.zeros(1), name: torch.zeros(1)})


# Swin: mmdetection gathers the 2x2 positions of a downsampling in another order


class UnfoldedMerging(nn.Module):
    """mmdetection's patch merging, from its description: unfold, norm, reduction."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, x):  # (B, C, H, W)
        merged = nn.functional.unfold(x, kernel_size=2, stride=2).transpose(1, 2)
        return self.reduction(self.norm(merged))


def test_a_converted_swin_downsampling_gives_the_same_output():
    torch.manual_seed(0)
    theirs, ours = UnfoldedMerging(6), PatchMerging(6)
    prefix = "backbone.stages.0.downsample."
    state = {prefix + key: value for key, value in theirs.state_dict().items()}
    converted = convert_state_dict(state)
    ours.load_state_dict(
        {
            name.removeprefix("backbone.body.layers_1.downsample."): v
            for name, v in converted.items()
        }
    )
    x = torch.rand(2, 6, 8, 10)
    torch.testing.assert_close(ours(x.permute(0, 2, 3, 1)).flatten(1, 2), theirs(x))
    same_bits(export_state_dict(converted), state)


def test_swin_weights_of_the_official_repository_are_in_timm_layout():
    value = torch.rand(12, 24)
    converted = convert_state_dict({"backbone.layers.0.downsample.reduction.weight": value})
    same_bits(converted, {"backbone.body.layers_1.downsample.reduction.weight": value})


@pytest.mark.parametrize("window", [7, 12])
def test_position_indices_are_dropped_on_import_and_recomputed_on_export(window):
    prefix = "backbone.stages.0.blocks.0.attn.w_msa."
    theirs = {
        prefix + "relative_position_bias_table": torch.rand((2 * window - 1) ** 2, 3),
        prefix + "relative_position_index": get_relative_position_index(window, window),
    }
    ours = convert_state_dict(theirs)
    assert list(ours) == ["backbone.body.layers_0.blocks.0.attn.relative_position_bias_table"]
    same_bits(export_state_dict(ours), theirs)


def test_every_swin_parameter_has_a_counterpart_in_mmdetection():
    with torch.device("meta"):
        body = timm.create_model("swin_tiny_patch4_window7_224", features_only=True)
    ours = {f"backbone.body.{name}": torch.rand(v.shape) for name, v in body.state_dict().items()}
    exported = export_state_dict(ours)
    indices = {key for key in exported if key.endswith("relative_position_index")}
    assert len(indices) == 12 and len(exported) == len(ours) + 12
    same_bits(convert_state_dict(exported), ours)


# The architecture, read off the weights


def built_on_meta(name, **changes):
    """A small model's config and the shapes of its weights; ``mask__norm`` is ``mask.norm``."""
    config = Config()
    config.model.classes = [f"class {index}" for index in range(3)]
    config.model.backbone.name = name
    config.model.backbone.frozen_stages = 0
    config.model.num_stages, config.model.channels = 2, 32
    config.model.ffn_channels, config.model.dynamic_channels = 48, 8
    for key, value in changes.items():
        section, _, leaf = key.rpartition("__")
        setattr(getattr(config.model, section) if section else config.model, leaf, value)
    with torch.device("meta"):
        return config, build_model(config).state_dict()


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet101",
        "resnext101_64x4d",
        "swin_tiny_patch4_window7_224",
        "swin_base_patch4_window7_224",
        "swin_large_patch4_window12_384",
    ],
)
def test_the_backbone_is_recognised(name):
    _, weights = built_on_meta("resnet18")
    with torch.device("meta"):
        body = timm.create_model(name, features_only=True)
        lateral = torch.empty(32, body.feature_info.channels()[-4], 1, 1)
    weights = {k: v for k, v in weights.items() if not k.startswith("backbone.")}
    weights |= {f"backbone.body.{k}": v for k, v in body.state_dict().items()}
    weights["neck.pyramid.inner_blocks.0.0.weight"] = lateral
    assert infer_config(weights).model.backbone.name == name


def test_the_model_is_recognised():
    config, weights = built_on_meta(
        "resnet50",
        num_queries=7,
        class_layers=2,
        box_layers=1,
        mask__num_convs=3,
        mask__norm="none",
        backbone__deformable_stages=[3, 4],
        track__enabled=True,
        track__final_relu=True,
        track__sampling_ratio=0,
        track__hidden_channels=24,
        track__embedding_channels=16,
    )
    inferred = infer_config(weights, final_relu=True)
    config.model.backbone.frozen_stages = inferred.model.backbone.frozen_stages
    assert inferred.model == config.model
    assert inferred.inference.one_label_per_query
    assert inferred.inference.max_per_image == 7, "as many as queries, as published"


def test_classes_come_from_the_checkpoint_or_are_coco_for_80():
    _, weights = built_on_meta("resnet18")
    assert infer_config(weights).model.classes == ["class 0", "class 1", "class 2"]
    assert infer_config(weights, classes=["a", "b", "c"]).model.classes == ["a", "b", "c"]
    assert infer_config(weights, classes=["a"]).model.classes == ["class 0", "class 1", "class 2"]
    _, weights = built_on_meta("resnet18", classes=[str(index) for index in range(80)])
    classes = infer_config(weights).model.classes
    assert classes[0] == "person" and classes[79] == "toothbrush"


def test_an_unknown_or_incomplete_architecture_is_refused():
    _, weights = built_on_meta("resnet18")
    with pytest.raises(InputError, match=r"'stages\.0\.ffn\.0\.weight' is missing"):
        infer_config({k: v for k, v in weights.items() if not k.startswith("stages.0.ffn")})
    without_c4 = {k: v for k, v in weights.items() if not k.startswith("backbone.body.layer3")}
    with pytest.raises(InputError, match=r"0, 64, 64\).*resnet18, resnet34"):
        infer_config(without_c4)
