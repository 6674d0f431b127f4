"""The paper's variants: mask branch (Tables 4 and 5), sharing (Table 6), and backbones."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_config

from queryinst_vis.config import TrainConfig
from queryinst_vis.errors import InputError
from queryinst_vis.losses.criterion import Criterion
from queryinst_vis.models.backbone import Backbone
from queryinst_vis.models.build import build_model
from queryinst_vis.models.deformable import ModulatedDeformConv
from queryinst_vis.structures import Batch, Target
from queryinst_vis.training.schedule import parameter_groups
from queryinst_vis.training.step import TrainingStep

VARIANTS = {
    "published": {},
    "vanilla": {"dynamic": False},
    "vanilla, last stage": {"dynamic": False, "parallel": False},
    "last stage": {"parallel": False},
    "flow": {"flow": True},
    "vanilla, flow": {"dynamic": False, "flow": True},
    "own query": {"share_query": False},
    "own attention": {"share_attention": False},
    "nothing shared": {"share_query": False, "share_attention": False},
}
SIZE = (64, 96)


def variant(**switches):
    torch.manual_seed(0)
    config = tiny_config(track=False)
    config.model.num_stages = 3
    for name, value in switches.items():
        setattr(config.model.mask, name, value)
    model = build_model(config)
    for stage in model.stages:  # boxes that stay inside the image, where there is something to read
        torch.nn.init.zeros_(stage.box_predictor.weight)
        torch.nn.init.zeros_(stage.box_predictor.bias)
    return config, model


def everybody(model):
    return [torch.arange(len(model.queries))]


def batch():
    boxes = torch.tensor([[8.0, 8, 40, 40], [48, 16, 90, 60]])
    masks = torch.zeros((2, *SIZE), dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    torch.manual_seed(1)
    target = Target(boxes, torch.tensor([0, 1]), masks, torch.arange(2), SIZE)
    return Batch(torch.randn(1, 3, *SIZE), [target])


@pytest.mark.parametrize("switches", VARIANTS.values(), ids=VARIANTS)
def test_every_parameter_of_every_variant_gets_a_gradient(switches):
    config, model = variant(**switches)
    losses = TrainingStep(model.train(), Criterion(config.losses, config.model.mask.parallel))(
        batch()
    )
    sum(losses.values()).backward()
    silent = [
        name
        for name, value in model.named_parameters()
        if value.requires_grad and (value.grad is None or not value.grad.isfinite().all())
    ]
    # boxes this small do not read the coarsest maps
    assert [name for name in silent if not name.startswith("neck.")] == []
    supervised = {name for name in losses if name.endswith("dice")}
    assert supervised == (
        {"s0.dice", "s1.dice", "s2.dice"} if config.model.mask.parallel else {"s2.dice"}
    )


@pytest.mark.parametrize("switches", VARIANTS.values(), ids=VARIANTS)
def test_stripping_what_only_training_needs_changes_no_mask(switches):
    _, model = variant(**switches)
    model.eval()
    with torch.no_grad():
        whole = model(batch().images, [SIZE])
        before = model.mask_logits(-1, whole, everybody(model))
        model.strip_training_heads()
        after = model.mask_logits(-1, model(batch().images, [SIZE]), everybody(model))
    assert torch.equal(before, after)


def gradient_of_masks(model, stage, parameter):
    output = model(batch().images, [SIZE])
    model.zero_grad()
    model.mask_logits(stage, output, everybody(model)).square().sum().backward()
    return parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)


def test_vanilla_masks_do_not_read_queries():
    _, dynamic = variant()
    assert gradient_of_masks(dynamic, -1, dynamic.queries)
    _, vanilla = variant(dynamic=False)
    assert not gradient_of_masks(vanilla, -1, vanilla.queries)


def test_without_flow_mask_heads_are_isolated_and_with_it_they_are_not():
    _, isolated = variant()
    assert not gradient_of_masks(isolated, 2, isolated.mask_heads[0].convs[0][0].weight)
    _, flowing = variant(flow=True)
    assert gradient_of_masks(flowing, 2, flowing.mask_heads[0].convs[0][0].weight)
    assert not gradient_of_masks(flowing, 0, flowing.mask_heads[1].convs[0][0].weight)


def test_with_separate_mask_queries_masks_do_not_affect_box_queries():
    _, model = variant(share_query=False)
    assert gradient_of_masks(model, -1, model.mask_queries.queries)
    assert not gradient_of_masks(model, -1, model.queries)


def test_separate_mask_attention_still_reads_the_shared_queries():
    _, model = variant(share_attention=False)
    attention = model.mask_queries.stages[0].attention.in_proj_weight
    assert gradient_of_masks(model, 0, attention)
    assert gradient_of_masks(model, 0, model.queries)
    assert not gradient_of_masks(model, 0, model.stages[0].attention.in_proj_weight)


def test_sharing_both_is_the_published_model_and_the_smallest():
    sizes = {
        name: sum(value.numel() for value in variant(**switches)[1].parameters())
        for name, switches in VARIANTS.items()
    }
    published = sizes["published"]
    assert sizes["own attention"] > published
    assert sizes["nothing shared"] > sizes["own query"] > published


@pytest.mark.parametrize(
    ("switches", "named"),
    [
        ({"dynamic": False, "share_query": False}, "dynamic"),
        ({"dynamic": False, "share_attention": False}, "dynamic"),
        ({"parallel": False, "flow": True}, "parallel: true, or flow: false"),
        ({"parallel": False, "share_query": False}, "parallel: true, or flow: false"),
    ],
)
def test_invalid_variant_combinations_are_refused_with_the_valid_ones(switches, named):
    with pytest.raises(InputError, match=named):
        variant(**switches)


def test_deformable_convolutions_start_as_half_the_plain_output():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False)
    images = torch.randn(2, 8, 9, 11)
    expected = conv(images) / 2  # a modulation of sigmoid(0)
    torch.testing.assert_close(ModulatedDeformConv(conv)(images), expected, rtol=1e-4, atol=1e-5)


def test_deformable_stages_are_the_requested_ones():
    backbone = Backbone("resnet50", deformable_stages=[3, 4])
    found = {
        name.split(".")[1]
        for name, module in backbone.named_modules()
        if isinstance(module, ModulatedDeformConv)
    }
    assert found == {"layer3", "layer4"}
    assert [level.shape[1] for level in backbone(torch.zeros(1, 3, 64, 64))] == backbone.channels


@pytest.mark.parametrize(
    ("name", "stages", "reason"),
    [("resnet18", [3], "no bottlenecks"), ("resnet50", [1], "2, 3 and 4")],
)
def test_unsupported_deformable_stages_are_refused(name, stages, reason):
    with pytest.raises(InputError, match=reason):
        Backbone(name, deformable_stages=stages)


def test_swin_accepts_any_size_and_normalises_every_level():
    backbone = Backbone("swin_tiny_patch4_window7_224", frozen_stages=0).eval()
    levels = backbone(torch.randn(1, 3, 96, 160))
    assert [tuple(level.shape[1:]) for level in levels] == [
        (96, 24, 40),
        (192, 12, 20),
        (384, 6, 10),
        (768, 3, 5),
    ]
    for level in levels:
        torch.testing.assert_close(
            level.mean(dim=1), torch.zeros_like(level[:, 0]), rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224"])
def test_only_the_requested_stages_are_frozen(name):
    with torch.device("meta"):
        backbone = Backbone(name, frozen_stages=2)
    trained = [key for key, value in backbone.body.named_parameters() if value.requires_grad]
    frozen = [key for key, value in backbone.body.named_parameters() if not value.requires_grad]
    third, second = {
        "resnet18": ("layer3.", "layer2."),
        "swin_tiny_patch4_window7_224": ("layers_2.", "layers_1."),
    }[name]
    assert any(key.startswith(third) for key in trained)
    assert any(key.startswith(second) for key in frozen)
    assert not any(key.startswith(third) for key in frozen)


def test_stochastic_depth_reaches_the_blocks():
    backbone = Backbone("resnet18", drop_path=0.2)
    rates = [m.drop_prob for m in backbone.modules() if type(m).__name__ == "DropPath"]
    assert rates and max(rates) == pytest.approx(0.2)


def test_norms_biases_and_position_tables_can_be_excluded_from_weight_decay():
    config = tiny_config()
    config.model.backbone.name = "swin_tiny_patch4_window7_224"
    with torch.device("meta"):
        model = build_model(config)
    names = {id(value): name for name, value in model.named_parameters()}
    groups = parameter_groups(model, TrainConfig(decay_norms=False, weight_decay=0.1))
    spared = {names[id(v)] for g in groups if g["weight_decay"] == 0 for v in g["params"]}
    decayed = {names[id(v)] for g in groups if g["weight_decay"] == 0.1 for v in g["params"]}
    assert "backbone.body.layers_3.blocks.0.attn.relative_position_bias_table" in spared
    assert "backbone.norms.3.weight" in spared and "stages.0.query_norm.weight" in spared
    assert "stages.0.projection.weight" in decayed and "queries" in decayed
    assert not spared & decayed
    plain = parameter_groups(model, TrainConfig(weight_decay=0.1))
    assert {group["weight_decay"] for group in plain} == {0.1}
    assert sum(len(group["params"]) for group in plain) == len(spared | decayed)
