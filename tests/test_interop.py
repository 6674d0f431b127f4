"""Checkpoints of other projects are converted completely, or refused in one line."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from queryinst_vis import cli
from queryinst_vis.checkpoints.convert import convert_checkpoint
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.checkpoints.openmmlab import export_state_dict
from queryinst_vis.checkpoints.weights import load_weights, save_weights
from queryinst_vis.config import Config
from queryinst_vis.errors import InputError
from queryinst_vis.models.build import build_model, load_backbone_weights
from queryinst_vis.models.track_head import TrackHead


@pytest.fixture
def resnet18_config():
    """The golden head's shape on a backbone that timm can build."""
    config = Config()
    config.model.classes = ["a", "b", "c", "d", "e"]
    config.model.backbone.name = "resnet18"
    config.model.channels, config.model.num_queries, config.model.num_stages = 32, 10, 3
    config.model.ffn_channels, config.model.dynamic_channels = 64, 8
    return config


@pytest.fixture
def model(resnet18_config):
    torch.manual_seed(0)
    return build_model(resnet18_config)


def save_as_mmdet(path, model, **more):
    """Write the model's weights and further keys as mmdetection's training does."""
    state = {**export_state_dict(model.state_dict()), **more}
    torch.save({"meta": {"epoch": 12}, "state_dict": state}, path)


def refuse(src, dst, match):
    with pytest.raises(InputError, match=match):
        convert_checkpoint(src, dst)
    assert not Path(dst).exists()


def test_an_mmdetection_checkpoint_is_converted_with_its_config(tmp_path, model):
    save_as_mmdet(tmp_path / "m.pth", model)
    line = convert_checkpoint(tmp_path / "m.pth", tmp_path / "m.safetensors")
    assert "resnet18, 10 queries, 5 classes" in line
    config, weights = load_weights(tmp_path / "m.safetensors")
    assert config.model.num_stages == 3 and config.model.channels == 32
    assert config.model.class_layers == 1 and config.model.box_layers == 3
    for key, value in model.state_dict().items():
        assert torch.equal(weights[key], value), key
    assert load_model(tmp_path / "m.safetensors")[1].model.classes[4] == "class 4"


def test_weights_round_trip_through_mmdetection(tmp_path, model, resnet18_config):
    """With their class names."""
    save_weights(tmp_path / "ours.safetensors", model, resnet18_config)
    line = convert_checkpoint(tmp_path / "ours.safetensors", tmp_path / "theirs.pth")
    assert line.endswith(f"with mmdetection's key names, {len(model.state_dict())} tensors")
    theirs = torch.load(tmp_path / "theirs.pth", weights_only=True)
    assert theirs["meta"]["dataset_meta"]["classes"] == ["a", "b", "c", "d", "e"]
    assert "roi_head.bbox_head.2.fc_cls.weight" in theirs["state_dict"]
    convert_checkpoint(tmp_path / "theirs.pth", tmp_path / "back.safetensors")
    config, weights = load_weights(tmp_path / "back.safetensors")
    assert config.model == resnet18_config.model
    for key, value in model.state_dict().items():
        assert torch.equal(weights[key], value), key


def test_half_precision_weights_are_exported_to_mmdetection_in_float32(
    tmp_path, model, resnet18_config
):
    """Without the mask heads that they lack: mmdetection needs only the last one."""
    save_weights(tmp_path / "o.safetensors", model, resnet18_config, True, inference_only=True)
    convert_checkpoint(tmp_path / "o.safetensors", tmp_path / "t.pth")
    state = torch.load(tmp_path / "t.pth", weights_only=True)["state_dict"]
    assert state["rpn_head.init_proposal_features.weight"].dtype == torch.float32
    assert {key.split(".")[2] for key in state if key.startswith("roi_head.mask_head.")} == {"2"}


def test_unknown_keys_are_reported_and_the_rest_is_converted(tmp_path, model):
    more = {"ema.decay": torch.zeros(1), "track_head.embed_head.convs.0.bias": torch.zeros(1)}
    save_as_mmdet(tmp_path / "m.pth", model, **more)
    lines = []
    convert_checkpoint(tmp_path / "m.pth", tmp_path / "m.safetensors", lines.append)
    assert lines == [f"skipped {key}: no counterpart in the model" for key in more]
    assert set(load_weights(tmp_path / "m.safetensors")[1]) == set(model.state_dict())


def test_a_checkpoint_that_lacks_a_weight_is_refused(tmp_path, model):
    state = export_state_dict(model.state_dict())
    del state["roi_head.bbox_head.1.ffn_norm.weight"]
    torch.save(state, tmp_path / "m.pth")
    dst = tmp_path / "m.safetensors"
    refuse(tmp_path / "m.pth", dst, r"stages\.1\.ffn_norm\.weight is absent in the checkpoint")


@pytest.mark.parametrize(
    ("prefix", "final_relu", "sampling_ratio"),
    [("track_head.embed_head.", True, 0), ("track_head.", False, 2)],
)
def test_the_track_head_of_a_masktrack_rcnn_is_converted(
    tmp_path, prefix, final_relu, sampling_ratio
):
    """mmdetection's and mmtracking's, and the original's: ready for train.init_weights."""
    head = TrackHead(8, hidden_channels=24, embedding_channels=16).state_dict()
    state = {prefix + key: value for key, value in head.items()}
    state["bbox_head.fc_cls.weight"] = torch.zeros(1)
    torch.save({"state_dict": state}, tmp_path / "m.pth")
    lines = []
    line = convert_checkpoint(tmp_path / "m.pth", tmp_path / "m.safetensors", lines.append)
    assert "only a track head" in line and lines == [
        "skipped bbox_head.fc_cls.weight: no counterpart in the model"
    ]
    config, weights = load_weights(tmp_path / "m.safetensors")
    track = config.model.track
    assert (track.enabled, track.final_relu) == (True, final_relu)
    assert (track.sampling_ratio, track.roi_size) == (sampling_ratio, 7)
    assert (track.hidden_channels, track.embedding_channels) == (24, 16)
    assert set(weights) == {"track_head." + key for key in head}
    assert all(torch.equal(weights["track_head." + key], value) for key, value in head.items())


def test_the_command_lists_unknown_keys_separately(tmp_path, capsys):
    head = TrackHead(8, hidden_channels=24, embedding_channels=16).state_dict()
    state = {f"track_head.embed_head.{key}": value for key, value in head.items()}
    torch.save({**state, "rpn_head.rpn_conv.bias": torch.zeros(1)}, tmp_path / "m.pth")
    words = ["convert-checkpoint", str(tmp_path / "m.pth"), str(tmp_path / "m.safetensors")]
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    assert printed.err == "skipped rpn_head.rpn_conv.bias: no counterpart in the model\n"
    assert printed.out.endswith("for models with model.track.final_relu=true\n")


@pytest.mark.parametrize("final_relu", [True, False])
def test_a_video_model_round_trips_through_mmdetection(tmp_path, resnet18_config, final_relu):
    track = resnet18_config.model.track
    track.enabled, track.final_relu = True, final_relu
    track.sampling_ratio = 0 if final_relu else 2  # which goes with it in the checkpoints we know
    track.hidden_channels = track.embedding_channels = 16
    save_weights(tmp_path / "o.safetensors", build_model(resnet18_config), resnet18_config)
    line = convert_checkpoint(tmp_path / "o.safetensors", tmp_path / "t.pth")
    assert ("except the track head (no ReLU)" in line) is not final_relu
    state = torch.load(tmp_path / "t.pth", weights_only=True)["state_dict"]
    name = "track_head.embed_head.fcs.0.bias" if final_relu else "track_head.fcs.0.bias"
    assert name in state and "detector.backbone.conv1.weight" in state
    line = convert_checkpoint(tmp_path / "t.pth", tmp_path / "b.safetensors")
    assert "5 classes and a track head" in line
    assert load_weights(tmp_path / "b.safetensors")[0].model == resnet18_config.model


def test_models_unknown_to_mmdetection_are_refused_on_export(tmp_path, resnet18_config):
    resnet18_config.model.mask.norm = "GN"
    path = tmp_path / "gn.safetensors"
    save_weights(path, build_model(resnet18_config), resnet18_config)
    refuse(path, tmp_path / "gn.pth", "dynamic mask heads with batch norm")
    resnet18_config.model.mask.norm = "BN"
    resnet18_config.model.backbone.name = "tf_efficientnet_lite0"
    save_weights(path, build_model(resnet18_config), resnet18_config)
    refuse(path, tmp_path / "lite0.pth", r"backbone\.body\.blocks\.\S+: has no counterpart")


def model_with_backbone(name):
    config = Config()
    config.model.classes = ["person"]
    config.model.channels, config.model.num_stages = 32, 1
    config.model.backbone.name = name
    return build_model(config)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_efficientnet_lite_is_converted_to_timm_backbone_weights(tmp_path, name):
    torch.manual_seed(0)
    network = timm.create_model(name)
    theirs = {}
    for key, value in network.state_dict().items():
        theirs[f"_{len(theirs)}.{key.rpartition('.')[2]}"] = value
    first = next(iter(theirs))
    theirs = {"_conv_stem.weight" if key == first else key: v for key, v in theirs.items()}
    torch.save(theirs, tmp_path / "lite.pth")
    line = convert_checkpoint(tmp_path / "lite.pth", tmp_path / "lite.safetensors")
    assert f"timm's {name}, " in line
    model = model_with_backbone(name)
    load_backbone_weights(model, tmp_path / "lite.safetensors")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = network.eval().forward_features(image).shape
        maps = model.backbone.eval()(image)
        assert expected[-1] == maps[-1].shape[-1]
        assert torch.equal(
            model.backbone.body.blocks[0][0].conv_dw.weight, network.blocks[0][0].conv_dw.weight
        )


def test_backbone_weights_in_the_names_of_timm_fit_models_whose_parts_timm_renames(tmp_path):
    name = "convnext_atto"
    network = timm.create_model(name)
    assert "stages.0.blocks.0.conv_dw.weight" in network.state_dict()
    save_file(network.state_dict(), tmp_path / "whole.safetensors")
    model = model_with_backbone(name)
    load_backbone_weights(model, tmp_path / "whole.safetensors")
    assert torch.equal(
        model.backbone.body.stages_3.blocks[1].conv_dw.weight,
        network.stages[3].blocks[1].conv_dw.weight,
    )


def test_what_cannot_be_converted_is_refused_in_one_line(tmp_path):
    dst = tmp_path / "out.safetensors"
    refuse(tmp_path / "none.pth", dst, "no such file")
    refuse(tmp_path / "none.pth", tmp_path / "out.pth", r"must be named \*.safetensors")
    refuse(tmp_path / "none.safetensors", tmp_path / "out.pth", "no such file")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "foreign.pth")
    refuse(tmp_path / "foreign.pth", dst, "its first key is 'weight'")
    torch.save({"_conv_stem.weight": torch.zeros(1)}, tmp_path / "lite9.pth")
    refuse(tmp_path / "lite9.pth", dst, "no EfficientNet-Lite0 to Lite4")


def test_backbone_weights_of_another_network_are_refused(tmp_path, model):
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert load_file(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"another shape, .*'conv1\.weight'"):
        load_backbone_weights(model, tmp_path / "other.safetensors")


def test_training_weights_are_reduced_for_distribution(tmp_path, model, resnet18_config):
    resnet18_config.data.train.images = "/somewhere/private"
    save_weights(tmp_path / "best.safetensors", model, resnet18_config)
    line = convert_checkpoint(tmp_path / "best.safetensors", tmp_path / "small.safetensors")
    assert "half precision" in line
    config, weights = load_weights(tmp_path / "small.safetensors")
    assert config.data.train.images is None and config.model == resnet18_config.model
    assert all(value.dtype != torch.float32 for value in weights.values())
    assert not any(key.startswith(("mask_heads.0.", "mask_heads.1.")) for key in weights)
    for key, value in load_model(tmp_path / "small.safetensors")[0].state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[key].to(value), atol=1e-3, rtol=1e-3)
