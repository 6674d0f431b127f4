"""The set loss: bipartite matching, zero loss for perfect predictions, empty images."""

import pytest
import torch
import torch.distributed as dist

from queryinst_vis.config import Config, LossConfig
from queryinst_vis.losses.criterion import Criterion, dice_loss, mask_targets
from queryinst_vis.losses.matcher import HungarianMatcher
from queryinst_vis.models.build import build_model
from queryinst_vis.structures import Batch
from queryinst_vis.training.step import TrainingStep
from tests.losses_support import PAIR, gradients, pair_batch, stage, target


def test_each_instance_is_matched_to_its_own_query():
    torch.manual_seed(0)
    gt = target(*PAIR, labels=[0, 1])
    matches = HungarianMatcher()(torch.randn(3, 6, 2), torch.rand(3, 6, 4).cumsum(-1) * 20, gt)
    assert len(matches) == 3
    for match in matches:
        assert match.queries.tolist() == sorted(set(match.queries.tolist()))
        assert sorted(match.instances.tolist()) == [0, 1]


def test_more_instances_than_queries_leave_the_rest_unmatched():
    gt = target(*PAIR, (0, 0, 9, 9), labels=[0, 0, 0])
    (match,) = HungarianMatcher()(torch.zeros(1, 2, 1), torch.tensor([PAIR]).float(), gt)
    assert match.queries.tolist() == [0, 1] and match.instances.tolist() == [0, 1]


def test_the_class_decides_between_equal_boxes():
    gt = target(PAIR[0], labels=[1])
    boxes = torch.tensor([[PAIR[0], PAIR[0]]]).float()
    (match,) = HungarianMatcher()(torch.tensor([[[3.0, -3], [-3, 3]]]), boxes, gt)
    assert match.queries.tolist() == [1]


def test_perfect_predictions_have_zero_loss():
    gt = target(*PAIR, labels=[1, 0])
    perfect = stage(PAIR, [[-20.0, 20], [20, -20]])

    def masks(index, picks):
        shown = mask_targets(gt.masks, perfect.boxes[0][picks[0]], 28)
        return (shown[:, None] * 40 - 20).expand(-1, 2, -1, -1)

    losses, _ = Criterion(LossConfig())([perfect], [gt], masks)
    assert set(losses) == {"s0.cls", "s0.l1", "s0.giou", "s0.dice"}
    for loss in losses.values():
        assert loss.item() == pytest.approx(0, abs=1e-3)


def test_only_the_mask_of_the_ground_truth_class_is_supervised():
    gt = target(PAIR[0], labels=[1])
    output = stage(PAIR[:1], [[-20.0, 20]])

    def masks(index, picks):
        good = mask_targets(gt.masks, output.boxes[0][picks[0]], 28) * 40 - 20
        return torch.stack((-good, good), dim=1)

    losses, _ = Criterion(LossConfig())([output], [gt], masks)
    assert losses["s0.dice"].item() == pytest.approx(0, abs=1e-3)


def test_images_without_instances_train_only_the_classification():
    def masks(index, picks):
        raise AssertionError("no query is matched, so no mask may be asked for")

    losses, matches = Criterion(LossConfig())(
        [stage(PAIR, [[5.0, 5], [5, 5]])], [target(labels=[])], masks
    )
    assert losses["s0.cls"] > 1
    assert losses["s0.l1"] == losses["s0.giou"] == losses["s0.dice"] == 0
    assert len(matches[0][0].queries) == 0


def test_every_process_runs_the_mask_head_since_synchronised_batch_norm_waits_for_it(tmp_path):
    picked = []

    def masks(index, picks):
        picked.append([queries.tolist() for queries in picks])
        return torch.ones(1, 2, 28, 28)

    dist.init_process_group("gloo", f"file://{tmp_path}/meeting", world_size=1, rank=0)
    try:
        losses, _ = Criterion(LossConfig())(
            [stage(PAIR, [[5.0, 5], [5, 5]])], [target(labels=[])], masks
        )
    finally:
        dist.destroy_process_group()
    assert picked == [[[0]]]
    assert losses["s0.dice"] == 0


def test_weights_scale_their_losses():
    gt = target(*PAIR, labels=[0, 1])
    output = stage([(0, 0, 20, 20), (40, 0, 90, 50)], torch.zeros(2, 2))

    def masks(index, picks):
        return torch.zeros(2, 2, 28, 28)

    plain, _ = Criterion(LossConfig(cls=1, l1=1, giou=1, dice=1))([output], [gt], masks)
    published, _ = Criterion(LossConfig())([output], [gt], masks)
    for name, weight in {"cls": 2, "l1": 5, "giou": 2, "dice": 8}.items():
        torch.testing.assert_close(published[f"s0.{name}"], weight * plain[f"s0.{name}"])


def test_without_parallel_supervision_only_the_last_stage_trains_masks():
    gt = target(PAIR[0])
    output = stage(PAIR[:1], torch.zeros(1, 1))
    asked = []

    def masks(index, picks):
        asked.append(index)
        return torch.zeros(1, 1, 28, 28)

    losses, _ = Criterion(LossConfig(), parallel_masks=False)([output] * 3, [gt], masks)
    assert asked == [2]
    assert {name for name in losses if name.endswith("dice")} == {"s2.dice"}
    assert {f"s{index}.giou" for index in range(3)} <= set(losses)


def test_a_diverged_model_gives_a_non_finite_loss():
    gt = target(PAIR[0])
    nan = float("nan")

    def masks(index, picks):
        return torch.full((1, 1, 28, 28), nan)

    losses, _ = Criterion(LossConfig())([stage([(nan,) * 4], [[nan]])], [gt], masks)
    assert not sum(losses.values()).isfinite()


def test_dice_is_one_minus_the_overlap():
    logits = torch.full((1, 4, 4), -40.0)
    logits[:, :2] = 40
    gt = torch.zeros(1, 4, 4)
    gt[:, 1:3] = 1
    assert dice_loss(logits, gt).item() == pytest.approx(0.5, abs=1e-4)
    assert dice_loss(logits, 1 - (logits > 0).float()).item() == pytest.approx(1, abs=1e-4)


@pytest.fixture(scope="module")
def training_step():
    torch.manual_seed(0)
    config = Config()
    config.model.classes = ["a"]
    config.model.backbone.name = "resnet18"
    config.model.channels, config.model.ffn_channels, config.model.dynamic_channels = 32, 32, 8
    config.model.num_queries, config.model.num_stages = 5, 2
    config.model.track.enabled = True
    config.model.track.hidden_channels = config.model.track.embedding_channels = 16
    model = build_model(config)
    for part in model.stages:  # boxes of a new model may lie outside the image
        torch.nn.init.normal_(part.box_predictor.weight, std=0.01)
    return TrainingStep(model, Criterion(config.losses), 1.0).train()


def test_all_stages_are_supervised_in_parallel(training_step):
    losses, grads = gradients(training_step, pair_batch(target(*PAIR), target(*PAIR)))
    assert len(losses) == 2 * 4 + 1 and "track" in losses
    for part in ("stages.0.", "stages.1.", "mask_heads.0.", "mask_heads.1.", "track_head."):
        assert any(grads[name] > 0 for name in grads if name.startswith(part))
    assert grads["queries"] > 0 and grads["proposals"] > 0


def test_the_reference_frame_gets_gradients_but_no_detection_loss(training_step):
    batch = pair_batch(target(*PAIR), target(PAIR[1], ids=[1]))
    batch.reference.images.requires_grad_(True)
    losses = training_step(batch)
    losses["track"].backward(retain_graph=True)
    assert batch.reference.images.grad.abs().sum() > 0
    batch.reference.images.grad = None
    sum(loss for name, loss in losses.items() if name != "track").backward()
    assert batch.reference.images.grad is None


def test_mask_gradient_reaches_the_queries(training_step):
    training_step.zero_grad()
    losses = training_step(pair_batch(target(*PAIR), target(*PAIR)))
    losses["s1.dice"].backward()
    assert training_step.model.queries.grad.abs().sum() > 0  # paper 3.3


def test_pairs_without_instances_train_without_a_crash(training_step):
    empty = target(labels=[])
    for key, reference in ((empty, target(*PAIR)), (target(*PAIR), empty), (empty, empty)):
        losses, _ = gradients(training_step, pair_batch(key, reference))
        assert sum(losses.values()).isfinite()
        assert losses["track"] == 0


def test_bidirectional_track_loss_equals_the_batch_of_both_orders(training_step):
    first, second = target(*PAIR, ids=[3, 4]), target(PAIR[1], (2, 2, 20, 20), ids=[4, 5])
    batch = pair_batch(first, second)
    images, others = batch.images, batch.reference.images
    orders = Batch(
        torch.cat((images, others)),
        [first, second],
        Batch(torch.cat((others, images)), [second, first]),
    )
    step = TrainingStep(training_step.model, training_step.criterion, both_ways=True).eval()
    shared, one_way = step(batch), training_step.eval()(orders)
    assert set(shared) == set(one_way) and shared["track"] > 0
    for name, loss in one_way.items():
        torch.testing.assert_close(shared[name], loss, rtol=1e-4, atol=1e-5)
