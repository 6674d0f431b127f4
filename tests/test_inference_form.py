"""The inference form: the same outputs from fewer layers."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from queryinst_vis.models.cpu.forms import Forms
from queryinst_vis.models.cpu.inference_form import to_inference_form
from queryinst_vis.models.cpu.roi_align import CpuRoIExtractor
from queryinst_vis.models.postprocess import detect
from tests.closeness import assert_equal_detections
from tests.norm_support import batch_norms, build

SIZES = [(96, 128), (90, 100)]


def answers(model, images):
    return detect(model, images, SIZES, SIZES, score_threshold=0.0)


@pytest.mark.parametrize(
    ("backbone", "mask"),
    [
        ("resnet18", {"norm": "BN"}),
        ("resnet18", {"norm": "BN", "flow": True}),
        ("tf_efficientnet_lite0", {"norm": "GN"}),
        ("resnetv2_50", {"norm": "BN"}),  # norms before convolutions, and shortcuts around them
    ],
)
def test_the_inference_form_gives_the_same_outputs(backbone, mask):
    model = build(backbone, **mask)
    images = torch.randn(2, 3, *SIZES[0])
    before = answers(model, images)
    after = answers(to_inference_form(model), images)
    for ours, theirs in zip(after, before, strict=True):
        assert_equal_detections(ours, theirs)


@pytest.mark.parametrize("backbone", ["resnet18", "tf_efficientnet_lite0"])
def test_the_inference_form_has_no_batch_norm(backbone):
    model = build(backbone, norm="BN")
    assert batch_norms(model)
    assert not batch_norms(to_inference_form(model))


class Forked(nn.Module):
    """A convolution whose output is read by more than its batch norm."""

    def __init__(self, body):
        super().__init__()
        self.body, self.conv, self.norm = body, nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64)

    def forward(self, images):
        first, *rest = self.body(images)
        made = self.conv(first)
        return [self.norm(made) + made, *rest]


def test_a_convolution_with_two_consumers_keeps_its_norm():
    model = build()
    model.backbone.body = Forked(model.backbone.body).eval()
    images = torch.randn(2, 3, *SIZES[0])
    before = answers(model, images)
    after = answers(to_inference_form(model), images)
    assert batch_norms(model) == [model.backbone.body.norm]
    assert_equal_detections(after[0], before[0])


def test_nothing_needs_gradients_and_training_heads_are_gone():
    model = to_inference_form(build())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(isinstance(head, nn.Identity) for head in model.mask_heads[:-1])


def test_bf16_weights_work_under_autocast():
    """Nearly the same scores: bf16 has 8 bits of precision."""
    model = build()
    images = torch.randn(2, 3, *SIZES[0])
    before = answers(copy.deepcopy(model), images)
    to_inference_form(model, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        after = answers(model, images)
    assert model.stages[0].class_predictor.weight.dtype == torch.bfloat16
    for ours, theirs in zip(after, before, strict=True):
        assert ours.scores.dtype == ours.boxes.dtype == torch.float32
        assert_close(ours.scores.sum(), theirs.scores.sum(), rtol=0.05, atol=0)


FORMS = {
    "fold_norms": lambda module: not isinstance(module, nn.BatchNorm2d),
    "roi_align": lambda module: isinstance(module, CpuRoIExtractor),
}
"""What shows in a module that a form is used; of batch norms, that it is not one."""


@pytest.mark.parametrize("off", FORMS)
def test_every_form_can_be_switched_off(off):
    model = to_inference_form(build(norm="BN"), forms=Forms(**{off: False}))
    for name, shows in FORMS.items():
        found = [shows(module) for module in model.modules()]
        is_used = all(found) if name == "fold_norms" else any(found)
        assert is_used == (name != off), name
