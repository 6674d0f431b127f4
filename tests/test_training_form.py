"""The CPU training form: frozen batch norms fused into convolutions, equal losses."""

import copy
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from queryinst_vis.losses.criterion import Criterion
from queryinst_vis.models.build import build_model
from queryinst_vis.models.cpu.forms import Forms
from queryinst_vis.models.cpu.roi_align import CpuRoIExtractor
from queryinst_vis.models.cpu.training_form import (
    FoldedConv,
    convolution_backward_works,
    depthwise_5x5,
    to_training_form,
)
from queryinst_vis.models.roi import RoIExtractor
from queryinst_vis.structures import Batch, Target
from queryinst_vis.training.launch import choose_precision
from queryinst_vis.training.recipe import resolve_precision
from queryinst_vis.training.step import TrainingStep
from tests.closeness import assert_equal_to_rounding
from tests.tiny import tiny_config


def build(backbone="tf_efficientnet_lite0", frozen_stages=1, norm_eval=True):
    torch.manual_seed(0)
    config = tiny_config()
    config.model.backbone.name = backbone
    config.model.backbone.frozen_stages = frozen_stages
    config.model.backbone.norm_eval = norm_eval
    model = build_model(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics as after a training
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return model, config


def losses_of(model, config):
    images = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(2, 96, 128, dtype=torch.bool)
    masks[0, 10:60, 20:70] = masks[1, 40:90, 60:120] = True
    boxes = torch.tensor([[20.0, 10, 70, 60], [60, 40, 120, 90]])
    target = Target(boxes, torch.tensor([0, 1]), masks, torch.tensor([1, 2]), (96, 128))
    step = TrainingStep(model, Criterion(config.losses)).train()
    return step(Batch(images, [target, target]))


@pytest.mark.parametrize(
    ("backbone", "frozen_stages"),
    [("tf_efficientnet_lite0", 0), ("tf_efficientnet_lite0", 2), ("resnet18", 1), ("resnet50", 0)],
)
def test_the_training_form_gives_the_same_losses_and_gradients(backbone, frozen_stages):
    plain, config = build(backbone, frozen_stages)
    folded = to_training_form(copy.deepcopy(plain))
    assert any(isinstance(module, FoldedConv) for module in folded.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.backbone.modules())
    expected, found = losses_of(plain, config), losses_of(folded, config)
    assert found.keys() == expected.keys()
    for name, loss in expected.items():
        assert found[name].item() == pytest.approx(loss.item(), rel=1e-4), name
    sum(expected.values()).backward()
    sum(found.values()).backward()
    for (name, theirs), (other, ours) in zip(
        plain.named_parameters(), folded.named_parameters(), strict=True
    ):
        assert name == other
        assert (theirs.grad is None) == (ours.grad is None), name
        if theirs.grad is not None and theirs.grad.norm() > 0:
            error = (ours.grad - theirs.grad).norm() / theirs.grad.norm()
            assert error < 1e-2, name


def test_the_training_form_uses_the_cpu_roi_align():
    model = to_training_form(build()[0])
    extractors = [m for m in model.modules() if isinstance(m, RoIExtractor)]
    assert extractors and all(isinstance(m, CpuRoIExtractor) for m in extractors)


def test_forms_can_be_switched_off():
    model = to_training_form(build()[0], Forms(False, False))
    kinds = (FoldedConv, CpuRoIExtractor)
    assert not any(isinstance(module, kinds) for module in model.modules())


def test_state_dicts_of_both_forms_are_interchangeable():
    plain, _ = build()
    folded = to_training_form(copy.deepcopy(plain))
    theirs, ours = plain.state_dict(), folded.state_dict()
    assert list(theirs) == list(ours)
    for name, value in theirs.items():
        assert torch.equal(value, ours[name]), name
    other, _ = build(frozen_stages=0)
    other.load_state_dict(ours)


def test_a_copied_model_uses_its_own_norms():
    """The moving average of the weights is such a copy of the model."""
    model, _ = build()
    original = to_training_form(model)
    image = torch.randn(1, 3, 64, 64)
    before = original.eval().extract_features(image)[0]
    duplicate = copy.deepcopy(original)
    with torch.no_grad():
        for name, value in original.backbone.state_dict().items():
            if name.endswith("bias"):
                value.add_(1)
    assert_equal_to_rounding(duplicate.extract_features(image)[0], before)
    assert not torch.allclose(original.extract_features(image)[0], before)


def test_trained_batch_norms_are_kept():
    model, _ = build(norm_eval=False)
    names = list(model.state_dict())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    to_training_form(model)
    assert list(model.state_dict()) == names
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.backbone.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_5x5_depthwise_convolutions_equal_pytorch(stride, layout):
    torch.manual_seed(0)
    x = torch.randn(2, 6, 13, 18, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    weight = torch.randn(6, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True)
    ours = depthwise_5x5(x, weight, bias, stride)
    theirs = F.conv2d(x, weight, bias, stride, groups=6)
    assert torch.equal(ours, theirs)
    gradient = torch.randn_like(ours)
    for found, expected in zip(
        torch.autograd.grad(ours, (x, weight, bias), gradient),
        torch.autograd.grad(theirs, (x, weight, bias), gradient),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


def test_without_the_operator_the_plain_convolution_is_used(monkeypatch):
    """For example in another PyTorch version, where it is missing or has other arguments."""

    def refuse(*arguments):
        raise RuntimeError("unknown arguments")

    x, weight, bias = torch.randn(1, 3, 9, 9), torch.randn(3, 1, 5, 5), torch.randn(3)
    weight.requires_grad_()
    assert "Depthwise5x5" in depthwise_5x5(x, weight, bias, (1, 1)).grad_fn.name()
    monkeypatch.setattr(torch.ops.aten, "convolution_backward", refuse, raising=False)
    convolution_backward_works.cache_clear()
    plain = depthwise_5x5(x, weight, bias, (1, 1))
    convolution_backward_works.cache_clear()
    assert "Depthwise5x5" not in plain.grad_fn.name()
    assert torch.equal(plain, F.conv2d(x, weight, bias, groups=3))


def test_convolutions_follow_autocast():
    model, _ = build()
    to_training_form(model)
    dtypes = set()
    for module in model.backbone.modules():
        if isinstance(module, FoldedConv):
            module.register_forward_hook(lambda module, inputs, out: dtypes.add(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model.extract_features(torch.randn(1, 3, 64, 64))
    assert dtypes == {torch.bfloat16}


@pytest.mark.parametrize(
    ("capabilities", "accelerator", "expected"),
    [
        ({"amx_bf16": True}, False, "bf16-mixed"),
        ({"avx512_bf16": True}, False, "32-true"),
        ({}, False, "32-true"),
        ({"amx_bf16": True}, True, "32-true"),
    ],
)
def test_automatic_precision_follows_the_machine(monkeypatch, capabilities, accelerator, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator)
    assert choose_precision("auto") == expected
    assert choose_precision("bf16-mixed") == "bf16-mixed"


def test_a_resumed_run_keeps_its_precision(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    asked, saved = tiny_config(), tiny_config()
    saved.train.precision = "32-true"
    assert resolve_precision(asked, None).train.precision == "bf16-mixed"
    assert resolve_precision(asked, saved).train.precision == "32-true"
    asked.train.precision = "bf16-mixed"
    assert resolve_precision(asked, saved).train.precision == "bf16-mixed"


def test_train_enlarges_the_kernel_cache_unless_the_user_sets_it():
    code = (
        "import os, sys\n"
        "from queryinst_vis.cli import main\n"
        "main(['train', 'missing.yaml', '--work-dir', 'work'])\n"
        "print(os.environ['ONEDNN_PRIMITIVE_CACHE_CAPACITY'])"
    )
    for given, expected in (({}, "20000"), ({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7"}, "7")):
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=given
        )
        assert run.stdout.strip() == expected
