"""Weights transferred to a model with another backbone or more stages."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from queryinst_vis import cli
from queryinst_vis.checkpoints.convert import convert_checkpoint
from queryinst_vis.checkpoints.fit_neck import LevelFit, fit_neck
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.checkpoints.query_rules import Source, pick_queries
from queryinst_vis.checkpoints.transfer import initialise_from, transfer_checkpoint
from queryinst_vis.checkpoints.weights import load_weights, save_weights
from queryinst_vis.errors import InputError
from queryinst_vis.models.boxes import draw_proposals
from queryinst_vis.models.build import build_model
from tests.tiny import tiny_config, write_images


@pytest.fixture
def config():
    return tiny_config(track=False)


@pytest.fixture
def source(config, tmp_path):
    """A checkpoint of two stages."""
    torch.manual_seed(11)
    save_weights(tmp_path / "image.safetensors", build_model(config), config)
    return tmp_path / "image.safetensors"


def test_a_backbone_is_transferred_whole_or_not_at_all(source, config):
    """Some layers of lcnet_050 have the shapes of lcnet_035's; a mixture would be no backbone."""
    config.model.backbone.name = "lcnet_050"
    model, old = build_model(config), load_weights(source)[1]
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    text = "\n".join(initialise_from(model, config, source))
    new = model.state_dict()
    backbone = [name for name in new if name.startswith("backbone.") and "num_batches" not in name]
    assert any(name in old and old[name].shape == new[name].shape for name in backbone)
    assert all(torch.equal(new[name], fresh[name]) for name in backbone)
    assert torch.equal(new["stages.0.ffn.0.weight"], old["stages.0.ffn.0.weight"])
    assert "backbone: a different one in the checkpoint" in text


def test_a_new_backbone_starts_from_its_pretrained_weights(source, config, tmp_path):
    config.model.backbone.name = "lcnet_050"
    torch.manual_seed(3)
    body = build_model(config).backbone.body.state_dict()
    torch.save(body, tmp_path / "imagenet.pth")
    config.model.backbone.weights = str(tmp_path / "imagenet.pth")
    transfer_checkpoint(source, config, tmp_path / "start.safetensors")
    new = load_weights(tmp_path / "start.safetensors")[1]
    assert all(torch.equal(new[f"backbone.body.{name}"], body[name]) for name in body)


def test_additional_stages_start_as_copies_of_the_last(source, config):
    config.model.num_stages = 4
    model = build_model(config)
    text = "\n".join(initialise_from(model, config, source))
    old, new = load_weights(source)[1], model.state_dict()
    for name in (name for name in new if name.startswith(("stages.", "mask_heads."))):
        kind, index, rest = name.split(".", 2)
        assert torch.equal(new[name], old[f"{kind}.{min(int(index), 1)}.{rest}"]), name
    assert "stages: 2, 3 not in the checkpoint, copied from its 1" in text


def test_mask_heads_missing_in_a_published_file_are_copied_from_its_only_one(
    source, config, tmp_path
):
    convert_checkpoint(source, tmp_path / "published.safetensors")
    model = build_model(config)
    text = "\n".join(initialise_from(model, config, tmp_path / "published.safetensors"))
    first, last = (head.state_dict() for head in model.mask_heads)
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert "mask_heads: 0 not in the checkpoint, copied from its 1" in text


# More queries


def test_more_queries_start_on_a_grid_from_the_nearest_queries(source, config, tmp_path):
    old = load_weights(source)[1]
    config.model.num_queries, config.model.proposals = 12, "grid"
    lines = transfer_checkpoint(source, config, tmp_path / "start.safetensors", "nearest")
    new = load_weights(tmp_path / "start.safetensors")[1]
    grid = draw_proposals(12, "grid")
    assert torch.equal(new["proposals"], grid)
    nearest = torch.cdist(grid[:, :2], old["proposals"][:, :2]).argmin(dim=1)
    assert torch.cdist(new["queries"], old["queries"]).argmin(dim=1).equal(nearest)
    assert len(new["queries"].unique(dim=0)) == 12, "copies differ"
    used = len(nearest.unique())
    assert f"  queries: 12 from {used} of the checkpoint's 5, with their own proposals" in lines


def test_as_many_or_fewer_queries_keep_their_boxes(source, config, tmp_path):
    """The queries of a grid are nearest to themselves."""
    config.model.proposals = "grid"
    torch.manual_seed(2)
    model = build_model(config)
    save_weights(tmp_path / "grid.safetensors", model, config)
    rows = pick_queries("nearest", Source(config, model.state_dict(), []), 3)
    config.model.num_queries = 3
    transfer_checkpoint(
        tmp_path / "grid.safetensors", config, tmp_path / "start.safetensors", "nearest"
    )
    new = load_weights(tmp_path / "start.safetensors")[1]
    assert len(set(rows)) == 3
    assert torch.equal(new["queries"], model.queries[rows])
    assert torch.equal(new["proposals"], model.proposals[rows])


# The FPN of another backbone


def test_ridge_regression_finds_a_linear_map_and_measures_what_it_explains():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 500, 6, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, 500, 1, generator=generator, dtype=torch.float64)
    exact = inputs @ torch.arange(6.0, dtype=torch.float64)[:, None] + 3
    for targets, explained in ((exact, 1.0), (noise, 0.0)):
        fit = LevelFit(6, 1)
        fit.add(inputs[0], targets[0])
        fit.measure(fit.solve(), inputs[1], targets[1])
        assert fit.explained == pytest.approx(explained, abs=0.05)
    fit = LevelFit(6, 1)
    fit.add(inputs[0], exact[0])
    assert fit.solve().flatten().tolist() == pytest.approx([0, 1, 2, 3, 4, 5, 3], abs=0.01)


def test_lateral_convolutions_are_fitted_to_those_of_the_checkpoint(source, config, tmp_path):
    images = write_images(tmp_path / "photos", 20)
    old = load_model(source, "cpu")[0]
    model = build_model(config)
    model.load_state_dict(load_weights(source)[1])
    for block in model.neck.pyramid.inner_blocks:
        torch.nn.init.normal_(block[0].weight)
    lines = fit_neck(model, config, Source(*load_weights(source), config.model.classes), images)
    # deeper levels of an untrained network have too few positions and hardly vary
    assert "fitted on 20 images, R² per level 1.00, 1.00, " in lines[0]
    with torch.no_grad():
        levels = model.backbone(torch.randn(1, 3, 64, 64))
        for level, new, expected in zip(
            levels[:2],
            model.neck.pyramid.inner_blocks,
            old.neck.pyramid.inner_blocks,
            strict=False,
        ):
            assert (new(level) - expected(level)).norm() < 0.05 * expected(level).norm()


def test_fitting_needs_the_same_width_and_ten_images(source, config, tmp_path):
    images = write_images(tmp_path / "photos", 9)
    target = tmp_path / "start.safetensors"
    with pytest.raises(InputError, match=r"images.json has 9 images; at least 10"):
        transfer_checkpoint(source, config, target, neck_images=images)
    config.model.channels = 16
    with pytest.raises(InputError, match=r"checkpoint has 32 channels, the model 16"):
        transfer_checkpoint(source, config, target, neck_images=images)
    assert not target.exists()


def test_the_command_fits_the_fpn_to_another_backbone(source, config, tmp_path, capsys):
    images = write_images(tmp_path / "photos", 12)
    config.model.backbone.name = "lcnet_050"
    OmegaConf.save(OmegaConf.structured(config), tmp_path / "config.yaml")
    words = ["transfer-weights", source, tmp_path / "config.yaml", tmp_path / "start.safetensors"]
    words += ["--fit-neck", images.annotations, images.images]
    assert cli.main([str(word) for word in words]) == 0
    out = capsys.readouterr().out
    assert "backbone: a different one" in out and "fitted on 12 images" in out
