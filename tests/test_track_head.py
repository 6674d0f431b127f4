"""The track heads and the track loss."""

import math

import pytest
import torch
from torch.testing import assert_close

from queryinst_vis.losses.track import track_loss, track_targets
from queryinst_vis.models.track_head import TrackHead, similarity_logits


@pytest.fixture
def head():
    torch.manual_seed(0)
    return TrackHead(4, roi_size=7, sampling_ratio=2, hidden_channels=16, embedding_channels=8)


@pytest.fixture
def features():
    torch.manual_seed(1)
    return [torch.randn(2, 4, 64 // 2**level, 96 // 2**level) for level in range(4)]


BOXES = [
    torch.tensor([[10.0, 10, 60, 50], [100, 40, 380, 250]]),
    torch.tensor([[30.0, 20, 90, 120]]),
]


# --- the head -------------------------------------------------------------------------------


def test_embeddings_follow_the_order_of_images_and_boxes(head, features):
    together = head(features, BOXES)
    assert together.shape == (3, 8)
    alone = [head([f[i, None] for f in features], [BOXES[i]]) for i in range(2)]
    assert_close(together, torch.cat(alone))


def test_forward_is_pooling_then_embed(head, features):
    assert_close(head(features, BOXES), head.embed(head.extract(features, BOXES)))


def test_embed_is_fc_relu_fc(head):
    roi_features = torch.randn(5, 4, 7, 7)
    hidden = (roi_features.reshape(5, -1) @ head.fcs[0].weight.T + head.fcs[0].bias).clamp(min=0)
    expected = hidden @ head.fcs[1].weight.T + head.fcs[1].bias
    assert_close(head.embed(roi_features), expected)
    assert (expected < 0).any()  # no final ReLU by default
    head.final_relu = True
    assert_close(head.embed(roi_features), expected.clamp(min=0))


def test_no_boxes_give_empty_differentiable_embeddings(head, features):
    embeddings = head(features, [torch.zeros(0, 4), torch.zeros(0, 4)])
    assert embeddings.shape == (0, 8)
    embeddings.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_state_dict_names_are_those_of_the_original():
    assert set(TrackHead(4, 7, 2, 16, 8).state_dict()) == {
        f"fcs.{i}.{name}" for i in (0, 1) for name in ("weight", "bias")
    }


def test_initialisation_is_normal_with_standard_deviation_0_01():
    torch.manual_seed(0)
    head = TrackHead(16, 7, 2, 256, 256)
    for layer in head.fcs:
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert abs(layer.weight.mean().item()) < 1e-4
        assert not layer.bias.any()


def test_the_track_head_has_the_published_layer_sizes():
    head = TrackHead(256)
    assert [tuple(layer.weight.shape) for layer in head.fcs] == [(1024, 12544), (1024, 1024)]


# --- QueryTrack's head ----------------------------------------------------------------------


@pytest.fixture
def query_head():
    torch.manual_seed(0)
    return TrackHead(4, 7, 2, 16, 8, dynamic_channels=2)


Q_STAR = [torch.linspace(-1, 1, 8).view(2, 4), torch.tensor([[0.3, -0.2, 0.9, 0.0]])]


def test_query_head_enhances_the_features_by_q_star_before_its_layers(query_head, features):
    roi_features = query_head.extract(features, BOXES)
    enhanced = query_head.dynamic_conv(torch.cat(Q_STAR), roi_features)
    as_maps = enhanced.reshape(3, 7, 7, 4).permute(0, 3, 1, 2)
    found = query_head(features, BOXES, Q_STAR)
    assert found.shape == (3, 8)
    assert_close(found, query_head.embed(as_maps))


def test_query_head_distinguishes_queries_on_the_same_box(query_head, features):
    swapped = [Q_STAR[0].flip(0), Q_STAR[1]]
    same = query_head(features, BOXES, Q_STAR)
    other = query_head(features, BOXES, swapped)
    assert_close(same[2], other[2])
    assert not torch.allclose(same[:2], other[:2])


def test_query_head_passes_gradient_to_queries_features_and_itself(query_head, features):
    q_star = [q.clone().requires_grad_() for q in Q_STAR]
    features = [level.requires_grad_() for level in features]
    query_head(features, BOXES, q_star).square().sum().backward()
    assert all(q.grad.any() for q in q_star)
    assert any(level.grad is not None and level.grad.any() for level in features)
    assert all(parameter.grad is not None for parameter in query_head.parameters())


def test_query_head_without_boxes_gives_no_embeddings(query_head, features):
    none = [torch.zeros(0, 4), torch.zeros(0, 4)]
    assert query_head(features, none, none).shape == (0, 8)  # q* has 4 channels as well here


def test_query_head_adds_one_dynamic_convolution_to_the_published_head(head, query_head):
    added = query_head.state_dict().keys() - head.state_dict().keys()
    assert {name.split(".")[0] for name in added} == {"dynamic_conv"}


# --- similarity -----------------------------------------------------------------------------


def test_similarity_is_a_zero_column_then_dot_products():
    detections, memory = torch.randn(3, 5), torch.randn(2, 5)
    logits = similarity_logits(detections, memory)
    assert logits.shape == (3, 3)
    assert not logits[:, 0].any()
    for i in range(3):
        for j in range(2):
            assert_close(logits[i, j + 1], detections[i].dot(memory[j]))


def test_similarity_of_empty_inputs_has_the_right_shape():
    assert similarity_logits(torch.randn(3, 5), torch.zeros(0, 5)).tolist() == [[0.0]] * 3
    assert similarity_logits(torch.zeros(0, 5), torch.randn(2, 5)).shape == (0, 3)


# --- the loss -------------------------------------------------------------------------------


def test_targets_are_positions_in_the_reference_plus_one():
    key = torch.tensor([7, 3, 9, 7])  # several positives may show one instance
    assert track_targets(key, torch.tensor([3, 5, 7])).tolist() == [3, 1, 0, 3]


def test_targets_of_empty_inputs_are_empty_or_zero():
    none = torch.zeros(0, dtype=torch.int64)
    assert track_targets(torch.tensor([4, 2]), none).tolist() == [0, 0]
    targets = track_targets(none, torch.tensor([4]))
    assert targets.shape == (0,) and targets.dtype == torch.int64


def test_loss_is_mean_over_positives_then_over_images():
    one = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])  # -log p: log 2 and log 4/3
    other = torch.zeros(1, 4)  # log 4
    loss = track_loss([one, other], [torch.tensor([0, 1]), torch.tensor([2])])
    expected = ((math.log(2) + math.log(4 / 3)) / 2 + math.log(4)) / 2
    assert loss.item() == pytest.approx(expected)


def test_image_without_positives_contributes_zero_and_is_counted():
    logits, empty = torch.zeros(1, 4), torch.zeros(0, 3, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    loss = track_loss([logits, empty], [torch.tensor([1]), none])
    assert loss.item() == pytest.approx(math.log(4) / 2)


def test_batch_without_positives_is_zero_but_reaches_the_parameters(head):
    key, reference = head.embed(torch.zeros(0, 4, 7, 7)), head.embed(torch.randn(2, 4, 7, 7))
    loss = track_loss([similarity_logits(key, reference)], [torch.zeros(0, dtype=torch.int64)])
    assert loss.item() == 0
    loss.backward()
    assert all(not parameter.grad.any() for parameter in head.parameters())


def test_an_empty_reference_has_zero_loss(head):
    key, reference = head.embed(torch.randn(2, 4, 7, 7)), head.embed(torch.zeros(0, 4, 7, 7))
    targets = track_targets(torch.tensor([1, 2]), torch.zeros(0, dtype=torch.int64))
    loss = track_loss([similarity_logits(key, reference)], [targets])
    assert loss.item() == 0
    loss.backward()
    assert all(not parameter.grad.any() for parameter in head.parameters())


def test_gradient_reaches_key_and_reference():
    key, reference = torch.randn(3, 5, requires_grad=True), torch.randn(2, 5, requires_grad=True)
    track_loss([similarity_logits(key, reference)], [torch.tensor([1, 0, 2])]).backward()
    assert key.grad.any() and reference.grad.any()


def test_loss_is_computed_in_full_precision():
    logits, targets = torch.randn(4, 3).bfloat16(), torch.tensor([0, 1, 2, 0])
    loss = track_loss([logits], [targets])
    assert loss.dtype == torch.float32
    assert_close(loss, track_loss([logits.float()], [targets]))


def test_head_and_loss_learn_to_distinguish_two_instances():
    torch.manual_seed(0)
    head = TrackHead(4, 7, 2, 16, 8)
    instances = torch.randn(3, 4, 7, 7)
    targets = track_targets(torch.tensor([10, 11, 12]), torch.tensor([11, 10]))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(100):
        noisy = instances + 0.1 * torch.randn_like(instances)
        reference = head.embed(instances[[1, 0]] + 0.1 * torch.randn(2, 4, 7, 7))
        loss = track_loss([similarity_logits(head.embed(noisy), reference)], [targets])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    logits = similarity_logits(head.embed(instances), head.embed(instances[[1, 0]]))
    assert logits.argmax(dim=1).tolist() == targets.tolist() == [2, 1, 0]
