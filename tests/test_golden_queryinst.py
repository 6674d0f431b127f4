"""Parity with mmdetection 3.3's QueryInst: every stage output, loss and gradient."""

from pathlib import Path

import pytest
import torch
from torch import nn

from queryinst_vis.checkpoints.openmmlab import convert_key, convert_state_dict
from queryinst_vis.config import LossConfig
from queryinst_vis.losses.criterion import Criterion, mask_targets
from queryinst_vis.models.box_stage import BoxStage
from queryinst_vis.models.boxes import draw_proposals, initial_boxes
from queryinst_vis.models.mask_head import MaskHead
from queryinst_vis.models.neck import FPN
from queryinst_vis.models.postprocess import detect
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.models.roi import RoIExtractor, assign_levels
from queryinst_vis.structures import Batch, Target
from queryinst_vis.training.step import TrainingStep
from tests.closeness import assert_equal_to_rounding

CHANNELS = [8, 16, 32, 64]
STAGES = range(3)


class StoredFeatures(nn.Module):
    """A backbone that answers with the golden maps: library ResNets fix their stem's width."""

    channels = CHANNELS

    def __init__(self, maps):
        super().__init__()
        self.maps = maps

    def forward(self, images):
        return self.maps


def build(golden, maps):
    model = QueryInst(
        StoredFeatures(maps),
        FPN(CHANNELS, 32),
        proposals=draw_proposals(10, "image"),
        channels=32,
        stages=[BoxStage(32, 5, 4, 64, 8, class_layers=1, box_layers=3) for _ in STAGES],
        mask_heads=[MaskHead(32, 5, 8) for _ in STAGES],
    )
    weights = convert_state_dict(golden["state_dict"])
    weights = {key: value for key, value in weights.items() if not key.startswith("backbone.")}
    model.load_state_dict(weights, strict=True)
    return model


@pytest.fixture(scope="module")
def golden():
    path = Path(__file__).parent / "data" / "queryinst_mmdet.pth"
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def inference(golden):
    model = build(golden, golden["backbone_feats"]).eval()
    size = golden["meta"]["img_shape"]
    with torch.no_grad():
        return model, model(golden["input"], [size])


@pytest.fixture(scope="module")
def training(golden):
    """Model after one backward pass, the losses, and what they were computed from."""
    train = golden["train"]
    model = build(golden, train["backbone_feats"]).train()
    targets = [
        Target(
            boxes=gt["bboxes"],
            labels=gt["labels"],
            masks=gt["masks"].bool(),
            instance_ids=torch.arange(len(gt["labels"])),
            image_size=tuple(gt["img_shape"]),
        )
        for gt in train["gt"]
    ]
    step = TrainingStep(model, Criterion(LossConfig()))
    losses = step(Batch(train["inputs"], targets))
    sum(losses.values()).backward()
    return model, losses, targets


def test_the_feature_pyramid_equals_mmdetection(golden, inference):
    for ours, theirs in zip(inference[1].features, golden["fpn_feats"], strict=True):
        assert_equal_to_rounding(ours, theirs)


def test_the_initial_boxes_equal_mmdetection(golden, inference):
    boxes = initial_boxes(inference[0].proposals, [golden["meta"]["img_shape"]])
    assert_equal_to_rounding(boxes[0], golden["init_boxes"])


@pytest.mark.parametrize("index", STAGES)
def test_roi_features_and_levels_equal_mmdetection(golden, index):
    stage = golden["stages"][index]
    boxes = stage["rois"][:, 1:]
    assert torch.equal(assign_levels(boxes, 4), stage["roi_level"])
    assert_equal_to_rounding(RoIExtractor(7)(golden["fpn_feats"], [boxes]), stage["roi_feats"])


def test_roi_levels_of_all_box_sizes_equal_mmdetection():
    sides = torch.tensor([10.0, 111, 113, 223, 225, 447, 449, 2000])
    boxes = torch.stack((torch.zeros(8), torch.zeros(8), sides, sides), dim=1)
    assert assign_levels(boxes, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("index", STAGES)
def test_stage_outputs_equal_mmdetection(golden, inference, index):
    ours, theirs = inference[1].stages[index], golden["stages"][index]
    assert_equal_to_rounding(ours.class_logits, theirs["cls_score"])
    assert_equal_to_rounding(ours.q_star, theirs["attn_feats"])
    assert_equal_to_rounding(ours.queries, theirs["obj_feats"])
    assert_equal_to_rounding(ours.boxes[0], theirs["boxes"])


@pytest.mark.parametrize("index", STAGES)
def test_mask_logits_equal_mmdetection(golden, inference, index):
    model, output = inference
    everybody = torch.arange(output.stages[index].boxes.shape[1])
    with torch.no_grad():
        masks = model.mask_logits(index, output, [everybody])
    assert_equal_to_rounding(masks, golden["stages"][index]["mask_logits"])


@pytest.mark.parametrize("rescale", [True, False])
def test_detections_equal_mmdetection(golden, inference, rescale):
    theirs = golden["pred_rescale_true" if rescale else "pred_rescale_false"]
    size = tuple(golden["meta"]["img_shape"])
    original = tuple(golden["meta"]["ori_shape"]) if rescale else size
    (ours,) = detect(
        inference[0], golden["input"], [size], [original], score_threshold=0.0, max_per_image=10
    )
    order = theirs["scores"].argsort(descending=True, stable=True)
    assert_equal_to_rounding(ours.scores, theirs["scores"][order])
    assert torch.equal(ours.labels, theirs["labels"][order])
    assert_equal_to_rounding(ours.boxes, theirs["bboxes"][order])
    masks = ours.masks()
    assert theirs["masks"].any() and not theirs["masks"].all()
    assert (masks == theirs["masks"][order]).float().mean() >= 0.999


@pytest.fixture(scope="module")
def matched(golden, training):
    """The training images' stage outputs, matches ``[stage][image]`` and targets."""
    model, _, targets = training
    with torch.no_grad():
        output = model(golden["train"]["inputs"], [target.image_size for target in targets])
    return output.stages, Criterion(LossConfig()).match(output.stages, targets), targets


def test_assignments_equal_mmdetection(golden, matched):
    _, matches, _ = matched
    for index in STAGES:
        for image in range(2):
            assigned = torch.zeros(10, dtype=torch.long)
            match = matches[index][image]
            assigned[match.queries] = match.instances + 1
            assert torch.equal(assigned, golden["train"]["assigned_gt_inds"][index][image])


def test_mask_targets_equal_mmdetection(golden, matched):
    stages, matches, targets = matched
    for index in STAGES:
        cropped = [
            mask_targets(target.masks[match.instances], stages[index].boxes[i][match.queries], 28)
            for i, (match, target) in enumerate(zip(matches[index], targets, strict=True))
        ]
        assert (
            torch.cat(cropped) == golden["train"]["mask_targets"][index]
        ).float().mean() >= 0.999


def test_losses_equal_mmdetection(golden, training):
    names = {"cls": "loss_cls", "l1": "loss_bbox", "giou": "loss_iou", "dice": "loss_mask"}
    _, losses, _ = training
    assert len(losses) == 3 * len(names)
    for index in STAGES:
        for ours, theirs in names.items():
            expected = golden["train"]["losses"][f"s{index}.{theirs}"]
            torch.testing.assert_close(losses[f"s{index}.{ours}"], expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        sum(losses.values()), golden["train"]["total_loss"], rtol=1e-4, atol=0
    )


def test_gradient_norms_equal_mmdetection(golden, training):
    expected = {
        convert_key(key): norm
        for key, norm in golden["train"]["grad_norms"].items()
        if not key.startswith("backbone.")
    }
    # no RoI of this case reads P4 and P5: their output convolutions have no gradient at all
    ours = {
        name: torch.zeros(1) if parameter.grad is None else parameter.grad
        for name, parameter in training[0].named_parameters()
    }
    assert set(ours) == set(expected)
    for name, norm in expected.items():
        assert ours[name].norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), name


def test_batch_norm_buffers_equal_mmdetection(golden, training):
    buffers = dict(training[0].named_buffers())
    for key, expected in golden["train"]["buffers_after"].items():
        torch.testing.assert_close(buffers[convert_key(key)], expected, rtol=1e-3, atol=1e-5)
