"""A model that only infers answers as it did before, from fewer layers."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from queryinst_vis.models.build import build_model
from queryinst_vis.models.cpu.forms import Forms
from queryinst_vis.models.cpu.inference_form import to_inference_form
from queryinst_vis.models.cpu.lazy_pyramid import LazyFPN, LazyPyramid
from queryinst_vis.models.cpu.packed import PackedLinear, can_pack, packing_works
from queryinst_vis.models.cpu.roi_align import CpuRoIExtractor
from queryinst_vis.models.cpu.winograd import WinogradConv2d
from queryinst_vis.models.postprocess import detect
from tests.tiny import tiny_config

SIZES = [(96, 128), (90, 100)]


def batch_norms(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def build(name="resnet18", **mask):
    """A model whose batch norms have seen something, with a track head."""
    torch.manual_seed(0)
    config = tiny_config()
    config.model.backbone.name = name
    config.model.track.enabled = True
    for key, value in mask.items():
        setattr(config.model.mask, key, value)
    model = build_model(config).eval()
    for norm in batch_norms(model):
        norm.running_mean.normal_(std=0.2)
        norm.running_var.uniform_(0.5, 1.5)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
    return model


def answers(model, images):
    return detect(model, images, SIZES, SIZES, score_threshold=0.0)


def test_a_backbone_to_be_compiled_keeps_its_linear_layers():
    for pack in (True, False):  # as in Swin's blocks
        model = build()
        model.backbone.large, model.large = nn.Linear(512, 512), nn.Linear(512, 512)
        packs = can_pack(model.large, torch.float32)
        to_inference_form(model, pack_backbone=pack)
        assert isinstance(model.large, PackedLinear) == packs
        assert isinstance(model.backbone.large, PackedLinear) == (packs and pack)


@pytest.mark.parametrize(
    ("backbone", "mask"),
    [
        ("resnet18", {"norm": "BN"}),
        ("resnet18", {"norm": "BN", "flow": True}),
        ("tf_efficientnet_lite0", {"norm": "GN"}),
        ("resnetv2_50", {"norm": "BN"}),  # norms before convolutions, and shortcuts around them
    ],
)
@pytest.mark.parametrize(("winograd", "pixels"), [(False, 1e-3), (True, 5e-3)])
def test_answers_stay(backbone, mask, winograd, pixels):
    model = build(backbone, **mask)
    images = torch.randn(2, 3, *SIZES[0])
    before = answers(model, images)
    # Winograd's sums round in another order, and random weights make much of that
    after = answers(to_inference_form(model, forms=Forms(winograd=winograd)), images)
    for ours, theirs in zip(after, before, strict=True):
        assert torch.equal(ours.labels, theirs.labels)
        assert_close(ours.boxes, theirs.boxes, rtol=1e-4, atol=pixels)
        assert_close(ours.scores, theirs.scores, rtol=1e-4, atol=1e-5)
        assert_close(ours.mask_logits, theirs.mask_logits, rtol=1e-3, atol=1e-3)
        assert_close(ours.embeddings, theirs.embeddings, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backbone", ["resnet18", "tf_efficientnet_lite0"])
def test_no_batch_norm_is_left(backbone):
    model = build(backbone, norm="BN")
    assert batch_norms(model)
    assert not batch_norms(to_inference_form(model))


class Forked(nn.Module):
    """A convolution that not only its batch norm reads: C2 of a model."""

    def __init__(self, body):
        super().__init__()
        self.body, self.conv, self.norm = body, nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64)

    def forward(self, images):
        first, *rest = self.body(images)
        made = self.conv(first)
        return [self.norm(made) + made, *rest]


def test_a_convolution_with_two_readers_keeps_its_norm():
    model = build()
    model.backbone.body = Forked(model.backbone.body).eval()
    images = torch.randn(2, 3, *SIZES[0])
    before = answers(model, images)
    after = answers(to_inference_form(model), images)
    assert batch_norms(model) == [model.backbone.body.norm]
    assert_close(after[0].boxes, before[0].boxes, rtol=1e-4, atol=1e-3)


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
        assert_close(ours.scores.sum(), theirs.scores.sum(), rtol=0.02, atol=0)


needs_packing = pytest.mark.skipif(
    not can_pack(nn.Linear(512, 512), torch.float32), reason="this PyTorch has no packed layers"
)


@needs_packing
@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_is_the_layer(rows, bias):
    layer = nn.Linear(512, 513, bias=bias)
    inputs = torch.randn(2, rows, 512)
    assert_close(PackedLinear(layer)(inputs), layer(inputs), rtol=1e-4, atol=1e-5)


@needs_packing
def test_only_large_matrices_are_packed():
    assert not can_pack(nn.Linear(64, 64), torch.float32)
    assert not can_pack(nn.Linear(512, 512), torch.float64)
    assert not can_pack(nn.Linear(512, 512, device="meta"), torch.float32)


FORMS = {
    "fold_norms": lambda module: not isinstance(module, nn.BatchNorm2d),
    "lazy_pyramid": lambda module: isinstance(module, LazyFPN),
    "roi_align": lambda module: isinstance(module, CpuRoIExtractor) and module.by_vectors,
    "winograd": lambda module: isinstance(module, WinogradConv2d),
    "packed": lambda module: isinstance(module, PackedLinear),
}
"""What shows in a module that a form is used; of batch norms, that it is not one."""


@needs_packing
@pytest.mark.parametrize("off", FORMS)
def test_every_form_can_be_switched_off(off):
    torch.manual_seed(0)
    config = tiny_config()
    config.model.channels = 128
    config.model.dynamic_channels = 64
    config.model.mask.norm = "BN"
    model = to_inference_form(build_model(config), forms=Forms(**{off: False}))
    for name, shows in FORMS.items():
        found = [shows(module) for module in model.modules()]
        is_used = all(found) if name == "fold_norms" else any(found)
        assert is_used == (name != off), name
    with torch.inference_mode():
        features = model(torch.randn(1, 3, 64, 64), [(64, 64)]).features
    assert isinstance(features, LazyPyramid) == (off != "lazy_pyramid")


def test_without_the_operators_linear_layers_stay_as_they_are(monkeypatch):
    """As in another version of PyTorch, where they are missing or want other arguments."""
    layer = nn.Linear(512, 512)
    for change in (None, lambda *arguments: layer.no_such_attribute, lambda weight: weight):
        packing_works.cache_clear()
        with monkeypatch.context() as patch:
            if change is None:
                patch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
            else:
                patch.setattr("torch.ops.mkldnn._reorder_linear_weight", change)
                patch.setattr("torch.ops.mkldnn._linear_pointwise", lambda *_: _["missing"])
            assert not can_pack(layer, torch.float32)
    packing_works.cache_clear()
