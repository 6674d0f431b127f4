"""Checkpoints of other projects come in whole, or are refused in one line."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from queryinst_vis.config import Config
from queryinst_vis.engine.checkpoint import load_model, load_weights, save_weights
from queryinst_vis.errors import InputError
from queryinst_vis.interop import convert_checkpoint, openmmlab
from queryinst_vis.models.build import build_model, load_backbone_weights


def mmdet_names(weights):
    """Our state dict under mmdet's names: the renames, read backwards by trial."""
    golden = torch.load(Path(__file__).parent / "data" / "queryinst_mmdet.pth", weights_only=True)
    theirs = {openmmlab.convert_key(key): key for key in golden["state_dict"]}
    backbone = {key: key.replace("backbone.body.", "backbone.") for key in weights}
    return {theirs.get(key, backbone[key]): value for key, value in weights.items()}


@pytest.fixture
def resnet18_config():
    """The golden head's shape on a backbone that timm can build."""
    config = Config()
    config.model.classes = ["a", "b", "c", "d", "e"]
    config.model.backbone.name = "resnet18"
    config.model.channels, config.model.num_queries, config.model.num_stages = 32, 10, 3
    config.model.ffn_channels, config.model.dynamic_channels = 64, 8
    return config


def test_an_mmdet_checkpoint_becomes_weights_with_their_config(tmp_path, resnet18_config):
    model = build_model(resnet18_config)
    torch.save({"meta": {}, "state_dict": mmdet_names(model.state_dict())}, tmp_path / "m.pth")
    line = convert_checkpoint(tmp_path / "m.pth", tmp_path / "m.safetensors")
    assert "resnet18, 10 queries, 5 classes" in line
    config, weights = load_weights(tmp_path / "m.safetensors")
    assert config.model.num_stages == 3 and config.model.channels == 32
    assert config.model.class_layers == 1 and config.model.box_layers == 3
    for key, value in model.state_dict().items():
        assert torch.equal(weights[key], value), key
    assert load_model(tmp_path / "m.safetensors")[1].model.classes[4] == "class 4"


def test_every_key_of_the_golden_checkpoint_has_one_home():
    golden = torch.load(Path(__file__).parent / "data" / "queryinst_mmdet.pth", weights_only=True)
    converted = openmmlab.convert_state_dict(golden["state_dict"])
    assert len(converted) == len(golden["state_dict"])
    for key, value in golden["state_dict"].items():
        assert converted[openmmlab.convert_key(key)] is value


def test_eighty_rows_are_named_after_coco(tmp_path, resnet18_config):
    resnet18_config.model.classes = [str(index) for index in range(80)]
    config = openmmlab.infer_config(build_model(resnet18_config).state_dict())
    assert config.model.classes[0] == "person" and config.model.classes[79] == "toothbrush"


def test_efficientnet_lite0_becomes_timm_backbone_weights(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0")
    theirs = {}
    for key, value in network.state_dict().items():
        theirs[f"_{len(theirs)}.{key.rpartition('.')[2]}"] = value
    first = next(iter(theirs))
    theirs = {"_conv_stem.weight" if key == first else key: v for key, v in theirs.items()}
    torch.save(theirs, tmp_path / "lite0.pth")
    convert_checkpoint(tmp_path / "lite0.pth", tmp_path / "lite0.safetensors")
    config = Config()
    config.model.classes = ["person"]
    config.model.channels, config.model.num_stages = 32, 1
    config.model.backbone.name = "tf_efficientnet_lite0"
    model = build_model(config)
    load_backbone_weights(model, tmp_path / "lite0.safetensors")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = network.eval().forward_features(image).shape
        maps = model.backbone.eval()(image)
        assert expected[-1] == maps[-1].shape[-1]
        assert torch.equal(
            model.backbone.body.blocks[0][0].conv_dw.weight, network.blocks[0][0].conv_dw.weight
        )


def refuse(src, dst, match):
    with pytest.raises(InputError, match=match):
        convert_checkpoint(src, dst)
    assert not Path(dst).exists()


def test_what_cannot_be_converted_is_refused_in_one_line(tmp_path, resnet18_config):
    dst = tmp_path / "out.safetensors"
    refuse(tmp_path / "none.pth", dst, "no such file")
    refuse(tmp_path / "none.pth", tmp_path / "out.pth", r"must be named \*.safetensors")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "foreign.pth")
    refuse(tmp_path / "foreign.pth", dst, "its first key is 'weight'")
    (tmp_path / "text.pth").write_text("no checkpoint")
    refuse(tmp_path / "text.pth", dst, "checkpoint")
    torch.save({"state_dict": {"a": torch.zeros(1), "b": 3}}, tmp_path / "stray.pth")
    refuse(tmp_path / "stray.pth", dst, "'b' in it is not a tensor")
    weights = mmdet_names(build_model(resnet18_config).state_dict())
    torch.save({**weights, "track_head.fc.weight": torch.zeros(1)}, tmp_path / "more.pth")
    refuse(tmp_path / "more.pth", dst, "track_head.fc.weight")
    torch.save({"_conv_stem.weight": torch.zeros(1)}, tmp_path / "lite9.pth")
    refuse(tmp_path / "lite9.pth", dst, "only Lite0")


def test_a_pickled_object_is_not_executed(tmp_path):
    class Sneaky:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"state_dict": {}, "hook": Sneaky()}, tmp_path / "sneaky.pth")
    refuse(tmp_path / "sneaky.pth", tmp_path / "out.safetensors", "it is not executed")
    assert not (tmp_path / "executed").exists()


def test_backbone_weights_of_another_network_are_refused(tmp_path, resnet18_config):
    model = build_model(resnet18_config)
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert load_file(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"of another shape, the first is 'conv1\.weight'"):
        load_backbone_weights(model, tmp_path / "other.safetensors")


def test_training_weights_are_slimmed_down_for_passing_on(tmp_path, resnet18_config):
    torch.manual_seed(0)
    resnet18_config.data.train.images = "/somewhere/private"
    model = build_model(resnet18_config)
    save_weights(tmp_path / "best.safetensors", model, resnet18_config)
    line = convert_checkpoint(tmp_path / "best.safetensors", tmp_path / "small.safetensors")
    assert "half precision" in line
    config, weights = load_weights(tmp_path / "small.safetensors")
    assert config.data.train.images is None and config.model == resnet18_config.model
    assert all(value.dtype != torch.float32 for value in weights.values())
    assert not any(key.startswith(("mask_heads.0.", "mask_heads.1.")) for key in weights)
    for key, value in load_model(tmp_path / "small.safetensors")[0].state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[key].to(value), atol=1e-3, rtol=1e-3)
