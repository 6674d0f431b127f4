"""The fused rule: calibrated odds, two rounds, motion and appearance."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from queryinst_vis.config import FusedConfig, TrackingConfig
from queryinst_vis.errors import InputError
from queryinst_vis.structures import Detections
from queryinst_vis.tracking import Tracker
from queryinst_vis.tracking.fused import FusedTracks, choose, log_odds, overlaps, pair_cues
from queryinst_vis.tracking.kalman import BoxFilter
from tests.sightings import SIZE, ids_of, random_frame, see


def person(left, look, top=20.0, score=0.9):
    """A person of 40x100 pixels at ``left`` whose embedding is the ``look``-th unit vector."""
    return Detections(
        boxes=torch.tensor([[left, top, left + 40, top + 100]]),
        scores=torch.tensor([score]),
        labels=torch.tensor([0]),
        image_size=SIZE,
        embeddings=3 * torch.eye(4)[[look]],
    )


def together(*detections):
    return Detections(
        **{
            name: torch.cat([getattr(d, name) for d in detections])
            for name in ("boxes", "scores", "labels", "embeddings")
        },
        image_size=SIZE,
    )


def track(frames, **settings):
    return ids_of(Tracker(TrackingConfig("fused", **settings)), frames)


@pytest.mark.parametrize("rule", ["fused", "masktrack"])
def test_someone_walks_on_during_damaged_frames(rule):
    """The largest displacement grows with the frames since a track was seen."""
    for frames, expected in (((), [0, 1]), (range(5, 20), [0])):
        tracker, ids = Tracker(TrackingConfig(rule, max_jump=0.7)), set()
        for number in [*range(5), *frames, 20]:
            if number in frames:
                tracker.skip()
            else:
                ids |= {*tracker.update(person(10 * number, 0), number / 25).track_ids.tolist()}
        assert sorted(ids) == expected


# --- motion -----------------------------------------------------------------------------------


def test_a_box_in_steady_motion_is_extrapolated():
    motion = BoxFilter()
    motion.append(np.array([[0.0, 0, 40, 100]]))
    for frame in range(1, 30):
        motion.predict()
        motion.update([0], np.array([[3.0 * frame, frame, 3.0 * frame + 40, frame + 100]]))
    motion.predict()
    np.testing.assert_allclose(motion.boxes(), [[90, 30, 130, 130]], atol=0.5)
    motion.predict(4)
    np.testing.assert_allclose(motion.boxes(), [[102, 34, 142, 134]], atol=1)


def test_one_prediction_over_several_frames_equals_several_of_one_frame():
    together, apart = BoxFilter(), BoxFilter()
    for motion in (together, apart):
        motion.append(np.array([[0.0, 0, 40, 100]]))
        motion.predict()
        motion.update([0], np.array([[5.0, 0, 45, 100]]))
    together.predict(3)
    for _ in range(3):
        apart.predict()
    np.testing.assert_allclose(together.mean, apart.mean)
    np.testing.assert_allclose(together.covariance[..., 0], apart.covariance[..., 0], rtol=0.05)


def boxes_by(right):
    """A box of 40x100 pixels, moved to the right."""
    return np.array([right, 0.0, 40 + right, 100])


def test_distances_are_in_standard_deviations_and_grow_with_the_box():
    motion = BoxFilter()
    motion.append(np.array([[0.0, 0, 40, 100], [-20, 0, 20, 200]]))
    at_rest, near, far = motion.distances(np.array([boxes_by(0), boxes_by(20), boxes_by(60)]))
    assert at_rest[0] == 0
    assert far[0] == pytest.approx(3 * near[0])
    large = motion.distances(np.array([[20.0, 50, 60, 150]]))[0, 1]
    assert large == pytest.approx(near[0])  # twice as far, and twice as tall
    motion.predict(5)
    assert motion.distances(np.array([boxes_by(60)]))[0, 0] < far[0]


def test_filters_are_independent():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (5, 2))
    boxes = np.hstack([corners, corners + rng.uniform(10, 60, (5, 2))])
    joint, single = BoxFilter(), BoxFilter()
    joint.append(boxes)
    single.append(boxes[3:4])
    for _ in range(4):
        joint.predict()
        single.predict()
        joint.update([1, 3], boxes[[1, 3]] + 2)
        single.update([0], boxes[3:4] + 2)
    joint.keep(np.array([0, 3]))
    np.testing.assert_allclose(joint.mean[1:], single.mean)
    np.testing.assert_allclose(joint.covariance[1:], single.covariance)


# --- scores -----------------------------------------------------------------------------------


def test_the_odds_are_the_weighted_cues():
    weights = FusedConfig(overlap=2, distance=-0.5, similarity=3, gap=-1, bias=-1.5)
    tracks = FusedTracks()
    tracks.begin_frame(None, None)
    tracks.append(replace(person(0, 0), embeddings=torch.eye(4)[[0]]))
    for _ in range(3):
        tracks.begin_frame(None, None)
    seen = replace(person(0, 0), embeddings=torch.tensor([[0.6, 0.8, 0, 0]]))
    cues = pair_cues(seen, tracks)
    assert cues["overlap"] == pytest.approx(1)
    assert cues["distance"] == pytest.approx(0)
    assert cues["similarity"] == pytest.approx(0.6)
    assert cues["gap"] == pytest.approx(np.log(3))
    expected = 2 * 1 + 3 * 0.6 - np.log(3) - 1.5
    assert log_odds(cues, TrackingConfig("fused", fused=weights)) == pytest.approx(expected)


def test_iou_of_boxes_equals_a_count_by_hand():
    boxes = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 30]])
    np.testing.assert_allclose(overlaps(boxes, boxes), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]])
    assert overlaps(boxes, boxes[:0]).shape == (3, 0)


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_assignments_are_one_to_one_and_above_the_minimum(rows, columns, seed):
    scores = np.random.default_rng(seed).normal(size=(rows, columns))
    scores[scores < -1.5] = -np.inf
    chosen = choose(scores, least=0.2)
    pairs = [(row, column) for row, column in enumerate(chosen.tolist()) if column >= 0]
    assert len({column for _, column in pairs}) == len(pairs)
    assert all(scores[pair] > 0.2 for pair in pairs)
    free_rows = sorted({*range(rows)} - {row for row, _ in pairs})
    free_columns = sorted({*range(columns)} - {column for _, column in pairs})
    assert not any(scores[row, column] > 0.2 for row in free_rows for column in free_columns)


# --- identities -------------------------------------------------------------------------------


def test_two_people_who_cross_keep_their_identities():
    """At the crossing their boxes coincide; motion and appearance distinguish them."""
    frames = [
        together(person(10.0 * frame, 0), person(200 - 10.0 * frame, 1)) for frame in range(21)
    ]
    assert track(frames) == [[0, 1]] * 21


def test_similar_people_who_cross_are_told_apart_by_motion():
    frames = [
        together(person(12.0 * frame, 0), person(242 - 12.0 * frame, 0, top=26.0))
        for frame in range(21)
    ]
    assert track(frames) == [[0, 1]] * 21


def test_a_reappearing_person_is_recognised_by_appearance_and_position():
    walk = [person(4.0 * frame, 0) for frame in range(10)]
    back = person(100, 0)
    assert track([*walk, *[see()] * 10, back])[-1] == [0]
    assert track([*walk, *[see()] * 10, person(100, 1)])[-1] == [1]


def test_a_similar_person_far_away_is_a_new_identity():
    frames = [person(0, 0), person(0, 0), person(160, 0)]
    assert track(frames, max_jump=0.7)[-1] == [1]
    assert track([*frames[:2], see(), see(), person(160, 0)], max_jump=0.7)[-1] == [1]


def test_a_larger_bias_creates_fewer_identities():
    frames = [person(0, 0), person(0, 0), person(60, 1)]
    assert track(frames)[-1] == [1]
    assert track(frames, fused=FusedConfig(bias=4.0))[-1] == [0]


def test_weak_detections_continue_tracks_but_start_none():
    weak = person(6, 0, score=0.2)
    assert track([weak, weak], high_score=0.5) == [[], []]
    frames = [person(0, 0), person(3, 0), weak, person(9, 0)]
    assert track(frames, high_score=0.5) == [[0]] * 4


def test_a_weak_detection_far_from_a_track_is_not_matched():
    frames = [person(0, 0), person(0, 0), person(50, 0, score=0.2)]
    assert track(frames, high_score=0.5) == [[0], [0], []]


def test_a_duplicate_detection_starts_no_track():
    frames = [person(0, 0), together(person(1, 0), person(5, 1))]
    assert track(frames) == [[0], [0]]


def test_tracks_of_the_first_frame_are_published_immediately():
    tracker = Tracker(TrackingConfig("fused", min_hits=2))
    assert ids_of(tracker, [together(person(0, 0), person(100, 1))] * 2) == [[0, 1]] * 2
    assert ids_of(tracker, [person(300, 2), person(302, 2)]) == [[], [2]]
    tracker.forget()
    assert ids_of(tracker, [person(300, 2)]) == [[3]]


def test_identities_are_numbered_without_gaps_however_many_tracks_fail():
    """Unconfirmed tracks take no identity."""
    rng = np.random.default_rng(0)
    tracker = Tracker(TrackingConfig("fused", min_hits=3))
    published = [i for _ in range(80) for i in tracker.update(random_frame(rng, 6)).track_ids]
    assert sorted({int(i) for i in published}) == list(range(len({int(i) for i in published})))


def test_memory_does_not_grow_with_the_video():
    tracker, rng = Tracker(TrackingConfig("fused", expire_after=3)), np.random.default_rng(0)
    tracks, sizes = [], []
    for _ in range(100):
        tracker.update(random_frame(rng, 5))
        tracks.append(len(tracker.memory))
        sizes.append(len(pickle.dumps(tracker)))
    assert max(tracks) <= 20
    assert max(sizes[50:]) <= 1.1 * max(sizes[:50])


def test_embeddings_are_required_and_must_keep_their_size():
    tracker = Tracker(TrackingConfig("fused"))
    with pytest.raises(InputError, match="have no embeddings"):
        tracker.update(replace(person(0, 0), embeddings=None))
    tracker.update(person(0, 0))
    with pytest.raises(InputError, match=r"3 channels.* 4"):
        tracker.update(replace(person(0, 0), embeddings=torch.ones(1, 3)))
