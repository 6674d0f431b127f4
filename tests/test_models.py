"""Model properties beyond parity: batching, freezing, stripping, refusals."""

import re
from pathlib import Path

import pytest
import timm
import torch

from queryinst_vis.config import Config
from queryinst_vis.errors import InputError
from queryinst_vis.models import queryinst
from queryinst_vis.models.backbone import Backbone
from queryinst_vis.models.build import build_model
from queryinst_vis.models.postprocess import detect
from queryinst_vis.models.roi import RoIExtractor
from queryinst_vis.utils import hub
from tests.closeness import assert_equal_detections
from tests.tiny import distinct_model


def slim_config(**model):
    config = Config()
    config.model.classes = ["circle", "square", "star"]
    config.model.backbone.name = "resnet18"
    config.model.channels, config.model.ffn_channels = 32, 64
    config.model.dynamic_channels, config.model.num_heads = 8, 4
    config.model.num_queries, config.model.num_stages = 7, 2
    config.model.track.enabled = True
    config.model.track.hidden_channels = config.model.track.embedding_channels = 16
    for name, value in model.items():
        setattr(config.model, name, value)
    return config


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return distinct_model(slim_config())


def run(model, images, sizes, **settings):
    with torch.no_grad():
        return detect(model, images, sizes, sizes, score_threshold=0.0, **settings)


def assert_same(ours, theirs):
    assert_equal_detections(ours, theirs)
    assert (ours.masks() == theirs.masks()).float().mean() > 0.999


def test_a_batch_of_four_equals_four_batches_of_one(model):
    images = torch.randn(4, 3, 96, 128)
    sizes = [(96, 128)] * 4
    together = run(model, images, sizes)
    assert len({tuple(found.labels.tolist()) for found in together}) > 1  # not one image 4 times
    for index in range(4):
        assert_same(together[index], run(model, images[index : index + 1], sizes[:1])[0])


def test_a_batch_of_mixed_sizes_equals_each_image_padded_to_it(model):
    sizes = [(96, 128), (64, 128), (80, 70), (33, 90)]
    images = torch.zeros(4, 3, 96, 128)
    for image, (height, width) in zip(images, sizes, strict=True):
        image[:, :height, :width] = torch.randn(3, height, width)
    together = run(model, images, sizes)
    for index in range(4):
        alone = run(model, images[index : index + 1], sizes[index : index + 1])[0]
        assert_same(together[index], alone)


def test_results_scale_to_the_original_frame(model):
    images = torch.randn(1, 3, 96, 128)
    (small,) = detect(model, images, [(96, 128)], [(96, 128)], score_threshold=0.0)
    (large,) = detect(model, images, [(96, 128)], [(192, 384)], score_threshold=0.0)
    torch.testing.assert_close(large.boxes, small.boxes * torch.tensor([3.0, 2.0, 3.0, 2.0]))
    assert large.masks().shape == (len(large), 192, 384)


def test_one_label_per_query_names_every_query_at_most_once(model):
    images, sizes = torch.randn(1, 3, 96, 128), [(96, 128)]
    (pairs,) = run(model, images, sizes)
    (single,) = run(model, images, sizes, one_label_per_query=True)
    assert len(pairs) == 21 and len(single) == 7
    assert len(torch.unique(pairs.boxes, dim=0)) == 7
    assert len(torch.unique(single.boxes, dim=0)) == 7


def test_selection_keeps_the_strongest_above_the_threshold(model):
    images, sizes = torch.randn(1, 3, 96, 128), [(96, 128)]
    (everything,) = run(model, images, sizes)
    assert everything.scores.tolist() == sorted(everything.scores.tolist(), reverse=True)
    (top,) = run(model, images, sizes, max_per_image=5)
    assert torch.equal(top.scores, everything.scores[:5])
    threshold = everything.scores[4].item()
    (strong,) = detect(model, images, sizes, sizes, score_threshold=threshold)
    assert torch.equal(strong.scores, everything.scores[:5])


def test_nothing_above_the_threshold_is_an_empty_result(model):
    (nothing,) = detect(
        model, torch.randn(1, 3, 64, 64), [(64, 64)], [(64, 64)], score_threshold=1.1
    )
    assert len(nothing) == 0
    assert nothing.masks().shape == (0, 64, 64)
    assert nothing.rles() == [] and nothing.embeddings.shape == (0, 16)


def test_only_the_last_mask_head_is_needed_for_inference():
    torch.manual_seed(0)
    network = build_model(slim_config()).eval()
    images, sizes = torch.randn(1, 3, 64, 64), [(64, 64)]
    before = run(network, images, sizes)[0]
    names = set(network.state_dict())
    after = run(network.strip_training_heads(), images, sizes)[0]
    assert torch.equal(before.mask_logits, after.mask_logits)
    dropped = names - set(network.state_dict())
    assert dropped and all(name.startswith("mask_heads.0.") for name in dropped)


@pytest.mark.parametrize(
    ("queries", "backbone", "count"),
    [
        (100, "resnet50", 172_688_808),
        (300, "resnet101", 191_732_936),
    ],
)
def test_parameter_counts_equal_mmdetection(queries, backbone, count):
    config = Config()
    config.model.classes = [f"class {index}" for index in range(80)]
    config.model.num_queries, config.model.backbone.name = queries, backbone
    with torch.device("meta"):
        network = build_model(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize(
    ("name", "stages", "last"),
    [
        ("resnet18", 1, "layer1"),
        ("resnet18", 3, "layer3"),
        ("tf_efficientnet_lite0", 1, "blocks.1"),
        ("tf_efficientnet_lite0", 2, "blocks.2"),
    ],
)
def test_frozen_stages_freeze_the_stem_and_that_many_stages(name, stages, last):
    body = Backbone(name, frozen_stages=stages).body
    frozen = [key for key, value in body.named_parameters() if not value.requires_grad]
    trained = [key for key, value in body.named_parameters() if value.requires_grad]
    assert frozen[-1].startswith(last + ".") and not trained[0].startswith(last + ".")
    assert frozen + trained == [key for key, _ in body.named_parameters()]
    assert all(value.requires_grad for value in Backbone(name, frozen_stages=0).parameters())


def test_frozen_batch_norms_keep_their_statistics_in_training():
    backbone = Backbone("resnet18", frozen_stages=1, norm_eval=False).train()
    before = {name: value.clone() for name, value in backbone.body.named_buffers()}
    backbone(torch.randn(2, 3, 64, 64))
    changed = {
        name.split(".")[0]
        for name, value in backbone.body.named_buffers()
        if not torch.equal(value, before[name])
    }
    assert changed == {"layer2", "layer3", "layer4"}


@pytest.mark.parametrize(
    ("name", "fetched"),
    [
        ("resnet18", "resnet18.tv_in1k"),  # the paper's; timm's choice are longer trained ones
        ("resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("tf_efficientnet_lite0", "tf_efficientnet_lite0"),  # torchvision has none
    ],
)
def test_pretrained_selects_the_imagenet_weights_of_the_paper(monkeypatch, name, fetched):
    create, asked = timm.create_model, []

    def offline(name, pretrained=False, **options):
        if pretrained:
            asked.append(name)
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr(hub, "why_no_answer", lambda endpoint: None)
    Backbone(name)
    assert asked == []
    Backbone(name, pretrained=True)
    assert asked == [fetched]


def test_backbone_batch_norms_stay_in_evaluation_mode():
    norms = [
        m for m in Backbone("resnet18").train().modules() if isinstance(m, torch.nn.BatchNorm2d)
    ]
    assert norms and not any(norm.training for norm in norms)
    norms = Backbone("resnet18", frozen_stages=0, norm_eval=False).train().modules()
    assert all(norm.training for norm in norms)


def test_feature_maps_have_strides_4_to_32():
    for name in ("resnet18", "tf_efficientnet_lite0", "swin_tiny_patch4_window7_224"):
        size = 224
        with torch.no_grad():
            backbone = Backbone(name).eval()
            maps = backbone(torch.randn(1, 3, size, size))
        assert [level.shape[-1] for level in maps] == [size // s for s in (4, 8, 16, 32)]
        assert [level.shape[1] for level in maps] == backbone.channels


def test_roi_extraction_keeps_the_order_of_boxes_across_levels_and_images():
    features = [torch.randn(2, 4, 64 // 2**level, 64 // 2**level) for level in range(4)]
    small, large = [10.0, 10.0, 40.0, 40.0], [0.0, 0.0, 250.0, 250.0]
    boxes = [torch.tensor([large, small]), torch.tensor([small])]
    extract = RoIExtractor(7)
    together = extract(features, boxes)
    assert together.shape == (3, 4, 7, 7)
    empty = torch.zeros(0, 4)
    torch.testing.assert_close(together[1:2], extract(features, [torch.tensor([small]), empty]))
    torch.testing.assert_close(together[2:], extract(features, [empty, torch.tensor([small])]))
    assert extract(features, [empty, empty]).shape == (0, 4, 7, 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": []}, "model.classes: is empty"),
        ({"classes": ["a", "a"]}, "occurs twice"),
        ({"num_stages": 0}, "model.num_stages: must be at least 1"),
        ({"num_heads": 5}, "must be divisible by model.num_heads"),
    ],
)
def test_inconsistent_model_settings_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        build_model(slim_config(**change))


def test_unknown_backbones_and_norms_are_refused():
    config = slim_config()
    config.model.mask.norm = "LN"
    with pytest.raises(InputError, match="BN, SyncBN, GN, none"):
        build_model(config)
    config.model.mask.norm = "BN"
    config.model.backbone.name = "resnet51"
    with pytest.raises(InputError, match=r"'resnet51'.*resnet50"):
        build_model(config)
    config.model.backbone.name = "vit_tiny_patch16_224"
    with pytest.raises(InputError, match="strides"):
        build_model(config)


def test_the_reference_model_does_not_branch_on_device_or_training():
    """Faster forms for a device replace its modules (``models/cpu``)."""
    files = sorted(Path(queryinst.__file__).parent.glob("*.py"))
    assert files
    for path in files:
        found = re.search(
            r"device\.type|is_cuda|is_grad_enabled|self\.training|\.cpu\(\)|models\.cpu",
            path.read_text(),
        )
        assert found is None, f"{path.name}: {found.group()}"


def test_a_backbone_whose_stages_have_no_names_is_not_frozen_as_a_whole():
    with torch.device("meta"):
        backbone = Backbone("efficientformer_l1", frozen_stages=1)
    assert not backbone.can_freeze  # the trainer refuses it
    assert all(parameter.requires_grad for parameter in backbone.parameters())
