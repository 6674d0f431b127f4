"""Association scores of detections and tracks, and the rules that assign by them."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from queryinst_vis.config import TrackingConfig
from queryinst_vis.errors import InputError
from queryinst_vis.tracking import RULES, Tracker, slot_rule
from queryinst_vis.tracking.association import (
    DROPPED,
    NEW,
    association_scores,
    bisoftmax_scores,
    cosine_scores,
    greedy,
    inclusive_iou,
    masktrack,
    one_to_one,
)
from tests.sightings import OBJECTS, ids_of, random_frame, see, videos

ONE_TO_ONE = ["hungarian", "bisoftmax", "query"]
SLOT_RULES = ["masktrack", *ONE_TO_ONE]


# --- the score ------------------------------------------------------------------------------


def test_inclusive_iou_includes_the_last_pixel():
    boxes = torch.tensor([[0.0, 0, 9, 9], [5, 0, 14, 9], [10, 0, 19, 9], [3, 3, 3, 3]])
    expected = [[1, 50 / 150, 0, 1 / 100]]  # 10 x 10 pixels, half of them shared, touching, one
    assert_close(inclusive_iou(boxes[:1], boxes), torch.tensor(expected))


def test_association_score_equals_the_formula():
    """log softmax + 1 * log(score) + 2 * IoU + 10 * [same label]; new object: IoU 0, label 10."""
    tracker = Tracker()
    tracker.update(see(0, 1))
    frame = see(0, scores=[0.5])
    log_p = torch.tensor([0.0, 25.0, 0.0]).log_softmax(0)
    weighted = torch.tensor([10.0, 2 * 1.0 + 10, 0.0])  # object 1 is elsewhere, of other label
    expected = (log_p + torch.tensor(0.5).log() + weighted)[None]
    assert_close(association_scores(frame, tracker.memory, TrackingConfig()), expected)


@pytest.mark.parametrize("cue", ["score_weight", "iou_weight", "label_weight"])
def test_each_weight_scales_only_its_own_cue(cue):
    tracker = Tracker()
    tracker.update(see(0, 1, 2))
    frame = see(0, 2, 3, scores=[0.2, 0.4, 0.9], shift=4)
    off = TrackingConfig(score_weight=0, iou_weight=0, label_weight=0)
    bare = association_scores(frame, tracker.memory, off)
    one = association_scores(frame, tracker.memory, replace(off, **{cue: 1.0})) - bare
    three = association_scores(frame, tracker.memory, replace(off, **{cue: 3.0})) - bare
    assert one.abs().max() > 0.05
    assert_close(three, 3 * one, atol=1e-5, rtol=1e-5)
    certain = replace(frame, scores=torch.ones(3))
    assert_close(bare, association_scores(certain, tracker.memory, off))


def test_tracker_passes_its_weights_to_the_rule():
    """A detection of another class on a known box: with the label weight it is a new object."""
    frame = replace(see(0), labels=torch.tensor([1]), embeddings=torch.zeros(1, OBJECTS))
    for label_weight, expected in ((10.0, 1), (0.0, 0)):
        tracker = Tracker(TrackingConfig(label_weight=label_weight))
        tracker.update(see(0))
        assert tracker.update(frame).track_ids.tolist() == [expected]
    tracker = Tracker(
        TrackingConfig(iou_weight=0.0, label_weight=0.0)
    )  # all scores are equal: the first column wins
    tracker.update(see(0))
    assert tracker.update(frame).track_ids.tolist() == [1]
    for score_weight, winner in ((1.0, 0.9), (0.0, 0.2)):  # equal but for their scores
        tracker = Tracker(TrackingConfig(score_weight=score_weight))
        tracker.update(see(0))
        twice = tracker.update(see(0, 0, scores=[0.2, 0.9]))
        assert twice.scores.tolist() == pytest.approx([winner])


def test_detection_score_of_zero_does_not_wipe_out_the_other_cues():
    tracker = Tracker()
    tracker.update(see(0, 1))
    assert tracker.update(see(1, scores=[0.0])).track_ids.tolist() == [1]


# --- bi-softmax and cosine ------------------------------------------------------------------


def remember(*objects):
    tracker = Tracker()
    tracker.update(see(*objects))
    return tracker.memory


def random_matrix(seed, rows, columns):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, columns)))


def test_bisoftmax_is_the_mean_of_both_softmaxes():
    """By hand: the dot product of detection 0 and track 0 is 2, all others are 0."""
    frame, memory = see(0, 2, scores=[0.2, 0.9]), remember(0, 1, 2)  # track 1 has another label
    frame.embeddings[0] *= 2 / 25
    frame.embeddings[1] *= 0
    e = math.exp(2)
    expected = [
        # new object and each track: softmax over the row, and over the column
        [1 / (e + 3), (e / (e + 3) + e / (e + 2)) / 2, 0.0, (1 / (e + 3) + 1 / 3) / 2],
        [1 / 4, (1 / 4 + 1 / (e + 2)) / 2, 0.0, (1 / 4 + 1 / 3) / 2],
    ]
    assert_close(bisoftmax_scores(frame, memory), torch.tensor(expected))


def test_cosine_is_1_for_the_same_0_for_orthogonal_and_minus_1_for_opposite_embeddings():
    frame = see(0, 1, 0)
    frame.embeddings[2] *= -3  # length does not matter
    expected = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    assert_close(cosine_scores(frame, remember(0, 2)), expected)


def test_cosine_similarity_with_a_zero_embedding_is_0():
    frame = replace(see(0), embeddings=torch.zeros(1, OBJECTS))
    assert cosine_scores(frame, remember(0, 1)).tolist() == [[0.0, 0.0]]


# --- assignments ----------------------------------------------------------------------------


def test_greedy_assignment_drops_a_detection_that_one_to_one_keeps():
    """Both detections prefer slot 0; the first could also take slot 1."""
    scores = torch.tensor([[0.0, 5.0, 4.0], [0.0, 4.5, -9.0]])
    assert greedy(scores) == [0, DROPPED]
    assert one_to_one(scores) == [1, 0]


def test_greedy_assigns_a_slot_twice_where_one_to_one_starts_a_new_object():
    scores = torch.tensor([[0.0, 4.5], [0.0, 5.0]])
    assert greedy(scores) == [0, 0]
    assert one_to_one(scores) == [NEW, 0]


def test_one_to_one_prefers_a_new_object_over_a_worse_track():
    scores = torch.tensor([[0.0, -1.0, -2.0], [0.0, 3.0, -3.0]])
    assert one_to_one(scores) == [NEW, 0]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 4), tracks=st.integers(1, 3))
def test_one_to_one_maximises_the_total_score(seed, count, tracks):
    scores = random_matrix(seed, count, tracks + 1)

    def total(slots):
        return sum(float(scores[row, max(slot, -1) + 1]) for row, slot in enumerate(slots))

    def fits(slots):
        known = [slot for slot in slots if slot != NEW]
        return len(set(known)) == len(known)

    found = one_to_one(scores)
    assert len(found) == count and fits(found)
    every = filter(fits, product([NEW, *range(tracks)], repeat=count))
    assert total(found) == pytest.approx(max(total(slots) for slots in every))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_one_to_one_is_invariant_to_row_order_and_to_row_offsets(seed):
    scores = random_matrix(seed, 6, 5)
    slots = one_to_one(scores)
    order = np.random.default_rng(seed).permutation(6)
    assert one_to_one(scores[order]) == [slots[row] for row in order]
    assert one_to_one(scores + random_matrix(seed, 6, 1)) == slots


# --- rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_keeps_identities_despite_motion_shuffling_and_gaps(rule):
    frames = [see(0, 1, 2), see(2, 0, shift=3), see(3, 1, shift=5), see(0, 1, 2, 3, shift=6)]
    assert ids_of(Tracker(TrackingConfig(rule)), frames) == [
        [0, 1, 2],
        [2, 0],
        [3, 1],
        [0, 1, 2, 3],
    ]


@pytest.mark.parametrize("rule", SLOT_RULES)
def test_every_rule_recognises_a_single_new_object(rule):
    newcomer = see(2)
    newcomer.embeddings = -see(0).embeddings
    assert ids_of(Tracker(TrackingConfig(rule)), [see(0), newcomer]) == [[0], [1]]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_accepts_a_frame_without_detections(rule):
    assert ids_of(Tracker(TrackingConfig(rule)), [see(), see(0), see(), see(0)]) == [
        [],
        [0],
        [],
        [0],
    ]


@pytest.mark.parametrize("rule", ONE_TO_ONE)
@settings(deadline=None, max_examples=30)
@given(video=videos)
def test_one_to_one_rules_drop_no_detection_and_give_no_id_twice(rule, video):
    tracker = Tracker(TrackingConfig(rule))
    for frame in video:
        published = tracker.update(frame)
        assert torch.equal(published.boxes, frame.boxes)
        assert published.track_ids.tolist() == tracker.last_raw_ids.tolist()
        assert len(set(published.track_ids.tolist())) == len(frame)


@pytest.mark.parametrize("rule", ONE_TO_ONE)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_assignments_to_known_tracks_do_not_depend_on_detection_order(rule, seed):
    rng = np.random.default_rng(seed)
    first, frame, order = random_frame(rng, 5), random_frame(rng, 6), rng.permutation(6)

    def known(frame):
        tracker = Tracker(TrackingConfig(rule))
        tracker.update(first)
        tracker.update(frame)
        ids = tracker.last_raw_ids
        return torch.where(ids < len(first), ids, NEW)

    assert known(frame)[order].tolist() == known(frame[order]).tolist()


def test_hungarian_assigns_the_second_choice_where_masktrack_drops_a_detection():
    """Two objects look alike, and both detections are nearer to the second one's last box."""
    first = replace(see(0, 2), embeddings=torch.ones(2, OBJECTS))
    frame = replace(see(2, 2), embeddings=torch.ones(2, OBJECTS))
    frame.boxes -= torch.tensor([[5.0], [10.0]])
    lost, kept = Tracker(TrackingConfig("masktrack")), Tracker(TrackingConfig("hungarian"))
    assert ids_of(lost, [first, frame]) == [[0, 1], [1]]
    assert lost.last_raw_ids.tolist() == [1, -1]
    assert ids_of(kept, [first, frame]) == [[0, 1], [1, 0]]


def test_bisoftmax_never_associates_different_classes():
    tracker = Tracker(TrackingConfig("bisoftmax"))
    tracker.update(see(0))
    assert tracker.update(replace(see(0), labels=torch.tensor([1]))).track_ids.tolist() == [1]


def test_the_query_rule_uses_only_embeddings():
    tracker = Tracker(TrackingConfig("query"))
    tracker.update(see(0, 1))
    elsewhere = replace(see(1, 0, scores=[0.1, 0.2], shift=70), labels=torch.tensor([8, 9]))
    assert tracker.update(elsewhere).track_ids.tolist() == [1, 0]


@pytest.mark.parametrize(("threshold", "expected"), [(0.59, 0), (0.61, 1), (None, 1)])
def test_similarity_below_the_threshold_of_the_query_rule_is_a_new_object(threshold, expected):
    blurred = replace(see(0), embeddings=torch.tensor([[0.6, 0.8, 0.0, 0.0]]))  # cosine 0.6
    tracker = Tracker(TrackingConfig("query", match_threshold=threshold))
    assert ids_of(tracker, [see(0), blurred]) == [[0], [expected]]


FAR = 40  # a shift by 4/3 of the diagonal of an object's box


@pytest.mark.parametrize("rule", SLOT_RULES)
@pytest.mark.parametrize(("max_jump", "expected"), [(None, 0), (1.34, 0), (1.33, 1)])
def test_an_object_that_jumps_too_far_is_a_new_one(rule, max_jump, expected):
    tracker = Tracker(TrackingConfig(rule, max_jump=max_jump))
    assert ids_of(tracker, [see(0), see(0, shift=FAR)]) == [[0], [expected]]


@pytest.mark.parametrize("rule", SLOT_RULES)
@pytest.mark.parametrize(("absent", "expected"), [(2, 1), (3, 0)])
def test_the_allowed_jump_grows_with_the_square_root_of_the_gap(rule, absent, expected):
    tracker = Tracker(TrackingConfig(rule, max_jump=0.7))  # twice that after 4 frames
    frames = [see(0), *[see()] * absent, see(0, shift=FAR)]
    assert ids_of(tracker, frames)[-1] == [expected]


def test_the_jump_is_relative_to_the_larger_box():
    frame = see(0, shift=FAR)
    frame.boxes += torch.tensor([-15, -15, 15, 15])  # twice as large: 2/3 of its diagonal
    for first, second in ((see(0), frame), (frame, see(0))):
        tracker = Tracker(TrackingConfig(max_jump=0.7))
        assert ids_of(tracker, [first, second]) == [[0], [0]]


@pytest.mark.parametrize("rule", SLOT_RULES)
@settings(deadline=None, max_examples=20)
@given(video=videos)
def test_an_infinite_jump_limit_excludes_nothing(rule, video):
    ours = Tracker(TrackingConfig(rule, max_jump=1e30))
    assert ids_of(ours, video) == ids_of(Tracker(TrackingConfig(rule)), video)


def test_each_rule_declares_the_embeddings_it_needs():
    assert {name: Tracker(TrackingConfig(name)).embedding for name in RULES} == {
        "masktrack": "track_head",
        "hungarian": "track_head",
        "bisoftmax": "track_head",
        "query": "query",
        "fused": "track_head",
        "bytetrack": None,
        "ocsort": None,
    }


def test_a_rule_is_added_by_one_table_entry(monkeypatch):
    """Any function of (detections, memory, settings) is a rule."""
    hermit = slot_rule(lambda detections, memory, settings: [NEW, DROPPED])
    monkeypatch.setitem(RULES, "hermit", hermit)
    tracker = Tracker(TrackingConfig(rule="hermit"))
    tracker.update(see(0))
    assert tracker.update(see(0, 0)).track_ids.tolist() == [1]
    assert tracker.last_raw_ids.tolist() == [1, -1]


def test_masktrack_rule_returns_slots():
    slots = masktrack(see(1, 2, 1), remember(0, 1), TrackingConfig())
    assert slots == [1, NEW, DROPPED]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"rule": "hermit"},
            r"tracking\.rule: unknown rule 'hermit'; choose from: "
            "masktrack, hungarian, bisoftmax, query, fused, bytetrack, ocsort$",
        ),
        (
            {"rule": "hungarian", "match_threshold": 0.5},
            r"tracking\.match_threshold: rule 'hungarian' has none; leave it null",
        ),
        (
            {"rule": "query", "match_threshold": 1.5},
            r"tracking\.match_threshold: must be at most 1, is 1\.5",
        ),
        ({"rule": "query", "match_threshold": float("nan")}, "must be a finite number, is nan"),
        ({"match_threshold": 0.5}, "rule 'masktrack' has none"),
        (
            {"rule": "bytetrack", "match_threshold": 0.0},
            r"tracking\.match_threshold: must be an IoU above 0 for rule 'bytetrack', is 0\.0",
        ),
        ({"high_score": 1.5}, r"tracking\.high_score: must be at most 1, is 1\.5"),
        ({"min_hits": 0}, r"tracking\.min_hits: must be at least 1, is 0"),
    ],
)
def test_an_unknown_choice_is_refused_with_the_valid_ones(arguments, message):
    with pytest.raises(InputError, match=message):
        Tracker(TrackingConfig(**arguments))
