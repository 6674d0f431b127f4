"""The optimiser and its schedule: parameter groups, warm-up, milestones, epochs."""

from dataclasses import replace

import pytest

from queryinst_vis.checkpoints.training_state import load_training_state
from queryinst_vis.config import TrainConfig, load_config
from queryinst_vis.models.build import build_model
from queryinst_vis.training.recipe import describe_schedule, plan_schedule
from queryinst_vis.training.schedule import build_optimizer, learning_rate, set_learning_rate
from queryinst_vis.training.train import train
from tests.tiny import tiny_config
from tests.training_support import metric

# The optimiser


def test_learning_rate_warms_up_linearly_and_decays_at_each_milestone():
    recipe = TrainConfig(
        lr=1.0, warmup_steps=4, warmup_factor=0.2, lr_steps=[6, 8], lr_gamma=0.1, max_steps=10
    )
    rates = [learning_rate(step, recipe) for step in range(10)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01])


def test_without_warmup_the_first_step_has_the_base_learning_rate():
    assert learning_rate(0, TrainConfig(lr=0.5, warmup_steps=0, lr_steps=[])) == 0.5


def test_backbone_has_its_own_learning_rate_and_frozen_stages_are_not_optimised():
    config = tiny_config()
    recipe = replace(config.train, lr=1.0, backbone_lr_multiplier=0.1, warmup_steps=0, lr_steps=[])
    model = build_model(config)
    optimizer = build_optimizer(model, recipe)
    set_learning_rate(optimizer, 0, recipe)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    decays = {group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {recipe.weight_decay}, "one weight decay for all, as published"
    frozen = 0
    for name, parameter in model.named_parameters():
        expected = 0.1 if name.startswith("backbone.") else 1.0
        frozen += not parameter.requires_grad
        assert rates.get(id(parameter)) == (expected if parameter.requires_grad else None), name
    assert frozen > 0


# Length of training, and scaling of the learning rate


def test_epochs_rescale_steps_milestones_and_evaluation_interval():
    recipe = TrainConfig(
        max_steps=100, lr_steps=[60, 90], eval_every=10, warmup_steps=50, batch_size=2, epochs=30
    )
    planned = plan_schedule(recipe, epoch=40, processes=2)
    assert (planned.max_steps, planned.lr_steps, planned.eval_every) == (300, [180, 270], 30)
    assert (planned.warmup_steps, planned.lr) == (30, recipe.lr)
    assert describe_schedule(planned, 40, 2) == (
        "300 steps of 4 (2 processes x 2 batch x 1 accumulate): 30 epochs of 40 samples"
    )


def test_an_override_of_max_steps_replaces_epochs_with_the_same_shape_of_the_schedule(tmp_path):
    text = "train: {epochs: 30, max_steps: 100, lr_steps: [60, 90], eval_every: 10}"
    (tmp_path / "config.yaml").write_text(text)
    recipe = load_config(tmp_path / "config.yaml", ["train.max_steps=500"]).train
    assert (recipe.epochs, recipe.max_steps) == (None, 500)
    assert (recipe.lr_steps, recipe.eval_every, recipe.warmup_steps) == ([300, 450], 50, 50)
    overrides = ["train.max_steps=500", "train.lr_steps=[400]"]
    assert load_config(tmp_path / "config.yaml", overrides).train.lr_steps == [400]
    overrides = ["train.max_steps=500", "train.epochs=12"]
    assert load_config(tmp_path / "config.yaml", overrides).train.epochs == 12


def test_learning_rate_scales_with_the_batch_size_only_with_scale_lr():
    recipe = TrainConfig(lr=1e-4, batch_size=2, accumulate=3, reference_batch=16)
    assert plan_schedule(recipe, 40, processes=8).lr == 1e-4
    planned = plan_schedule(replace(recipe, scale_lr=True), 40, processes=8)
    assert planned.lr == pytest.approx(3e-4)
    assert describe_schedule(planned, 40, 8).endswith("; lr 0.0003, scaled by 48 / 16")


def test_training_prints_its_length_and_can_be_resumed_with_more_epochs(
    tmp_path, tiny_images, capsys
):
    config = tiny_config(train=tiny_images, track=False)
    config.train = replace(config.train, max_steps=100, epochs=1.5, scale_lr=True, lr_steps=[])
    train(config, tmp_path, devices=1)
    said = capsys.readouterr()
    assert "3 steps of 2 (1 processes x 2 batch x 1 accumulate)" in said.out + said.err
    assert load_training_state(tmp_path / "last.ckpt").step == 3
    assert metric(tmp_path, "lr")[3] == pytest.approx(1e-3 * 2 / 16)
    config.train.epochs = 2
    train(config, tmp_path, resume=True, devices=1)
    assert load_training_state(tmp_path / "last.ckpt").step == 4
