"""Losses of instances without a mask and of queries inside ignore regions."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis.config import LossConfig
from queryinst_vis.data.loader import train_loader
from queryinst_vis.errors import InputError
from queryinst_vis.losses.criterion import Criterion, mask_targets
from queryinst_vis.losses.ignore import covered_share
from queryinst_vis.models.build import build_model
from queryinst_vis.training.step import TrainingStep
from queryinst_vis.training.train import train
from tests.losses_support import PAIR, SIZE, gradients, pair_batch, stage, target
from tests.tiny import tiny_config, write_images

HEIGHT, WIDTH = SIZE


def without_masks(gt, *instances):
    """The target, of which some instances have only a box."""
    has_mask, masks = gt.has_mask.clone(), gt.masks.clone()
    has_mask[list(instances)] = False
    masks[~has_mask] = False
    return replace(gt, has_mask=has_mask, masks=masks)


def with_region(gt, x0, y0, x1, y1):
    ignore = torch.zeros(SIZE, dtype=torch.bool)
    ignore[y0:y1, x0:x1] = True
    return replace(gt, ignore=ignore)


# --- boxes without masks ----------------------------------------------------------------------


def test_instances_have_masks_by_default():
    assert target(*PAIR).has_mask.tolist() == [True, True]
    assert target(labels=[]).has_mask.shape == (0,) and target(*PAIR).ignore is None
    moved = with_region(without_masks(target(*PAIR), 1), 0, 0, 9, 9).to("cpu")
    assert moved.has_mask.tolist() == [True, False] and moved.ignore.sum() == 81


def losses_and_masks(gt):
    """Losses of two good queries, and the queries whose masks were predicted."""
    output, asked = stage(PAIR, [[2.0, -2], [-2, 2]]), []

    def masks(index, picks):
        asked.append(torch.cat(picks).tolist())
        return torch.linspace(-3, 3, 28 * 28).view(28, 28).expand(len(asked[-1]), 2, 28, 28)

    losses, _ = Criterion(LossConfig())([output], [gt], masks)
    return losses, asked


def test_a_box_without_mask_trains_class_and_box_only():
    gt = target(*PAIR, labels=[0, 1])
    whole, asked_whole = losses_and_masks(gt)
    boxed, asked = losses_and_masks(without_masks(gt, 0))
    assert (asked_whole, asked) == ([[0, 1]], [[1]])
    for name in ("s0.cls", "s0.l1", "s0.giou"):
        assert torch.equal(boxed[name], whole[name])


def test_the_mask_loss_is_a_mean_over_the_instances_with_a_mask():
    gt = target(*PAIR, labels=[0, 1])
    dice = [losses_and_masks(without_masks(gt, i))[0]["s0.dice"] for i in (0, 1)]
    both = losses_and_masks(gt)[0]["s0.dice"]
    torch.testing.assert_close(both, (dice[0] + dice[1]) / 2)


def test_without_any_mask_no_mask_is_predicted():
    losses, asked = losses_and_masks(without_masks(target(*PAIR, labels=[0, 1]), 0, 1))
    assert asked == [] and losses["s0.dice"] == 0


def test_masks_are_assigned_to_their_queries_across_images():
    """Three images: a mask and a box, boxes alone, a mask."""
    gts = [
        without_masks(target(*PAIR), 0),
        without_masks(target(*PAIR), 0, 1),
        target(PAIR[0]),
    ]
    boxes = torch.tensor([PAIR[::-1], PAIR, PAIR]).float()
    one = stage(PAIR, torch.zeros(2, 1))
    output = replace(one, boxes=boxes, class_logits=torch.zeros(3, 2, 1))

    def masks(index, picks):
        assert [pick.tolist() for pick in picks] == [[0], [], [0]]
        shown = [mask_targets(gts[0].masks[1:], boxes[0, :1], 28)]
        shown.append(mask_targets(gts[2].masks, boxes[2, :1], 28))
        return torch.cat(shown)[:, None] * 40 - 20

    losses, _ = Criterion(LossConfig())([output], gts, masks)
    assert losses["s0.dice"].item() == pytest.approx(0, abs=1e-3)


@pytest.fixture(scope="module")
def training_step():
    torch.manual_seed(0)
    config = tiny_config()
    model = build_model(config)
    for module in model.stages:  # boxes of a new model may lie outside the image
        torch.nn.init.normal_(module.box_predictor.weight, std=0.01)
    return TrainingStep(model, Criterion(config.losses), 1.0).train()


def test_a_box_without_mask_gives_the_mask_heads_no_gradient(training_step):
    gt = target(*PAIR, labels=[0, 1])
    boxed = without_masks(gt, 0, 1)
    losses, grads = gradients(training_step, pair_batch(boxed, boxed))
    assert not any(grads.get(n, 0) for n in grads if n.startswith("mask_heads."))
    assert losses["track"] > 0 and any(grads[n] > 0 for n in grads if n.startswith("track_head."))
    assert grads["stages.1.class_predictor.weight"] > 0
    assert grads["stages.1.box_predictor.weight"] > 0
    _, grads = gradients(training_step, pair_batch(without_masks(gt, 0), boxed))
    assert any(grads[n] > 0 for n in grads if n.startswith("mask_heads."))


# --- regions to ignore -----------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_covered_share_of_a_box_is_a_count_of_pixels(seed):
    generator = torch.Generator().manual_seed(seed)
    region = torch.rand(13, 17, generator=generator) < 0.4
    corners = torch.randint(-4, 21, (2, 50, 2), generator=generator)
    low, high = corners.amin(0), corners.amax(0)
    expected = []
    for (x0, y0), (x1, y1) in zip(low.tolist(), high.tolist(), strict=True):
        part = region[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        expected.append(part.sum().item() / part.numel() if part.numel() else 0.0)
    share = covered_share(region, torch.cat((low, high), dim=1).float())
    torch.testing.assert_close(share, torch.tensor(expected, dtype=torch.float64))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_covered_share_counts_fractions_of_pixels(seed):
    """Coordinates in eighths of a pixel: whole ones, once every pixel is 8 x 8."""
    generator = torch.Generator().manual_seed(seed)
    region = torch.rand(9, 11, generator=generator) < 0.5
    corners = torch.randint(0, 72, (2, 40, 2), generator=generator)
    boxes = torch.cat((corners.amin(0), corners.amax(0)), dim=1).double()
    fine = region.repeat_interleave(8, 0).repeat_interleave(8, 1)
    torch.testing.assert_close(covered_share(region, boxes / 8), covered_share(fine, boxes))


def test_the_covered_share_handles_any_batch_shape_and_non_finite_boxes():
    region = torch.ones(4, 4, dtype=torch.bool)
    boxes = torch.tensor([[[0, 0, 2, 2], [3, 3, 1, 1]], [[9, 9, 12, 12], [-5, -5, 99, 99]]]).float()
    assert covered_share(region, boxes).tolist() == [[1, 0], [0, 1]]
    odd = torch.tensor([[float("nan")] * 4, [float("-inf"), 0, float("inf"), 2]])
    assert covered_share(region, odd).tolist() == [0, 1]


CROWD = (40, 4, 80, 44)
INSIDE, HALF, OUTSIDE = (44, 8, 76, 40), (20, 4, 60, 44), (2, 50, 30, 62)


def class_gradient(gt, overlap, *boxes):
    """Absolute gradient of each query's class logit, and the class loss."""
    output = stage(boxes, torch.zeros(len(boxes), 1))
    output.class_logits.requires_grad_(True)

    def masks(index, picks):
        return torch.zeros(len(torch.cat(picks)), 1, 28, 28)

    losses, _ = Criterion(LossConfig(ignore_overlap=overlap))([output], [gt], masks)
    losses["s0.cls"].backward()
    return output.class_logits.grad.abs().view(-1), losses["s0.cls"].detach()


def test_an_unmatched_query_inside_a_crowd_is_ignored():
    gt = with_region(target(PAIR[0]), *CROWD)
    grads, loss = class_gradient(gt, 0.7, PAIR[0], INSIDE, HALF, OUTSIDE)
    assert grads[1] == 0 and (grads[[0, 2, 3]] > 0).all()
    unasked, published = class_gradient(gt, None, PAIR[0], INSIDE, HALF, OUTSIDE)
    assert torch.equal(grads[[0, 2, 3]], unasked[[0, 2, 3]]) and unasked[1] > 0
    torch.testing.assert_close(loss, published * (1 - 1 / _weight_of_queries(unasked, 1)))


def _weight_of_queries(grads, row):
    """Sum of all queries' focal losses in units of one negative's; all logits are 0."""
    positive_share = 0.25 / 0.75  # alpha of a positive against that of a negative
    return (len(grads) - 1) + positive_share


@pytest.mark.parametrize(("overlap", "ignored"), [(0.49, True), (0.5, True), (0.51, False)])
def test_the_threshold_is_the_minimum_share_of_the_box(overlap, ignored):
    grads, _ = class_gradient(with_region(target(PAIR[0]), *CROWD), overlap, PAIR[0], HALF)
    assert (grads[1] == 0) == ignored


def test_a_box_wholly_inside_is_ignored_at_an_overlap_of_1():
    inside = (44.3, 8.7, 76.1, 40.9)
    grads, _ = class_gradient(with_region(target(PAIR[0]), *CROWD), 1.0, PAIR[0], inside)
    assert grads[1] == 0


def test_a_matched_query_inside_a_crowd_keeps_its_loss():
    gt = with_region(target(INSIDE), *CROWD)
    grads, loss = class_gradient(gt, 0.7, INSIDE, (46, 10, 74, 38))
    unasked, _ = class_gradient(gt, None, INSIDE, (46, 10, 74, 38))
    assert grads[1] == 0 and grads[0] == unasked[0] > 0 and loss > 0


def test_an_image_with_only_a_crowd_trains_only_queries_outside_it():
    grads, _ = class_gradient(with_region(target(labels=[]), *CROWD), 0.7, INSIDE, OUTSIDE)
    assert grads[0] == 0 and grads[1] > 0


def test_only_the_part_of_a_box_inside_the_image_counts():
    gt = with_region(target(PAIR[0]), 80, 0, WIDTH, HEIGHT)
    grads, _ = class_gradient(gt, 0.9, PAIR[0], (80, 0, 3 * WIDTH, 2 * HEIGHT))
    assert grads[1] == 0


def test_each_stage_uses_its_own_boxes():
    gt = with_region(target(PAIR[0]), *CROWD)
    outputs = [stage((PAIR[0], box), torch.zeros(2, 1)) for box in (INSIDE, OUTSIDE)]
    for output in outputs:
        output.class_logits.requires_grad_(True)

    def masks(index, picks):
        return torch.zeros(1, 1, 28, 28)

    losses, _ = Criterion(LossConfig(ignore_overlap=0.7))(outputs, [gt], masks)
    sum(losses.values()).backward()
    assert outputs[0].class_logits.grad[0, 1] == 0 and outputs[1].class_logits.grad[0, 1] != 0


def test_images_with_and_without_crowds_share_a_batch():
    crowded, plain = with_region(target(PAIR[0]), *CROWD), target(PAIR[0])
    one = stage((PAIR[0], INSIDE), torch.zeros(2, 1))
    logits = torch.zeros(2, 2, 1, requires_grad=True)
    output = replace(one, class_logits=logits, boxes=one.boxes.expand(2, -1, -1))

    def masks(index, picks):
        return torch.zeros(2, 1, 28, 28)

    losses, _ = Criterion(LossConfig(ignore_overlap=0.7))([output], [crowded, plain], masks)
    losses["s0.cls"].backward()
    assert logits.grad[0, 1] == 0 and logits.grad[1, 1] != 0


@pytest.mark.parametrize("overlap", [0.0, -0.5, 1.5, float("nan")])
def test_an_ignore_overlap_outside_0_to_1_is_refused(tmp_path, overlap):
    images = write_images(tmp_path / "images")
    config = tiny_config(images, track=False)
    config.losses.ignore_overlap = overlap
    with pytest.raises(InputError, match=r"losses\.ignore_overlap: must be .*, is"):
        train(config, tmp_path / "run", devices=1)


# --- all of it together ----------------------------------------------------------------------


def test_a_batch_of_negatives_only_trains(tmp_path):
    """The only class of the model occurs in no image."""
    images = write_images(tmp_path / "images")
    images.keep_empty = True
    config = tiny_config(images, track=True)
    config.model.classes = ["unknown"]
    config.data.allow_absent_classes = True
    config.losses.ignore_overlap = 0.7
    batch = next(iter(train_loader(config)))
    assert all(len(t.boxes) == 0 for t in batch.targets + batch.reference.targets)
    torch.manual_seed(0)
    step = TrainingStep(build_model(config), Criterion(config.losses), both_ways=True).train()
    losses = step(batch)
    sum(losses.values()).backward()
    assert losses["s1.cls"] > 0 and all(loss.isfinite() for loss in losses.values())
    rest = [loss for name, loss in losses.items() if not name.endswith("cls")]
    assert all(loss == 0 for loss in rest)
