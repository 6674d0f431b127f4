"""Motion-based rules: ByteTrack and OC-SORT through roboflow's `trackers`, and our own."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis.config import TrackingConfig
from queryinst_vis.structures import Detections
from queryinst_vis.tracking import Tracker
from tests.sightings import SIZE, ids_of, random_frame, see, videos

LIBRARY = ["bytetrack", "ocsort"]
both = pytest.mark.parametrize("rule", LIBRARY)
every = pytest.mark.parametrize("rule", [*LIBRARY, "fused"])


def passers_by(people=6, frames=12, rest=3):
    """Six people of equal appearance pass from left to right, one after the other."""
    video = []
    for _ in range(people):
        for frame in range(frames):
            video.append(replace(see(0), boxes=box_at(12.0 * frame)))
        video += [see()] * rest
    return video


def box_at(left, top=20.0):
    return torch.tensor([[left, top, left + 40, top + 60]])


# --- identities -----------------------------------------------------------------------------


@every
def test_six_people_passing_in_turn_get_six_identities(rule):
    ids = ids_of(Tracker(TrackingConfig(rule)), passers_by())
    assert [i for frame in ids for i in frame] == [i for i in range(6) for _ in range(12)]


@every
def test_an_occluded_object_is_recovered_at_its_extrapolated_position(rule):
    """Its last box does not overlap the one in which it reappears."""
    video = [replace(see(0), boxes=box_at(9.0 * frame)) for frame in range(15)]
    for frame in range(8, 13):
        video[frame] = see()
    ids = ids_of(Tracker(TrackingConfig(rule)), video)
    assert ids == [[0]] * 8 + [[]] * 5 + [[0]] * 2


@both
def test_detections_need_no_embeddings(rule):
    frame = replace(see(0, 1), embeddings=None)
    assert ids_of(Tracker(TrackingConfig(rule)), [frame, frame]) == [[0, 1], [0, 1]]


@every
@settings(deadline=None, max_examples=30)
@given(video=videos, seed=st.integers(0, 2**32 - 1))
def test_published_detections_are_rows_of_the_input_in_any_order(rule, video, seed):
    """The library changes the order; boxes, masks and identities stay together."""
    tracker = Tracker(TrackingConfig(rule, high_score=0.4))
    rng = np.random.default_rng(seed)
    for frame in video:
        frame = frame[torch.tensor(rng.permutation(len(frame)), dtype=torch.int64)]
        published = tracker.update(frame)
        raw = tracker.last_raw_ids
        assert published.track_ids.tolist() == raw[raw >= 0].tolist()
        assert len(set(published.track_ids.tolist())) == len(published)
        for name in ("boxes", "scores", "labels", "mask_logits"):
            assert torch.equal(getattr(published, name), getattr(frame, name)[raw >= 0])


@every
def test_assignments_to_known_tracks_do_not_depend_on_detection_order(rule):
    tracker = Tracker(TrackingConfig(rule))
    video = [see(0, 1, 2, 3), see(3, 1, 0, 2, shift=2), see(2, 3, 1, 0, shift=4)]
    assert ids_of(tracker, video) == [[0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]]


@every
def test_an_identity_does_not_change_its_class(rule):
    car = see(0)
    toilet = replace(see(0), labels=torch.tensor([7]))
    assert ids_of(Tracker(TrackingConfig(rule)), [car, toilet, car]) == [[0], [1], [0]]


@every
@settings(deadline=None, max_examples=20)
@given(first=videos, second=videos)
def test_ids_start_at_0_per_video_and_trackers_are_independent(rule, first, second):
    config = TrackingConfig(rule)
    used, beside, fresh = Tracker(config), Tracker(config), Tracker(config)
    ids_of(used, first)
    used.reset()
    for frame in second:
        ids_of(beside, [random_frame(np.random.default_rng(len(frame)), 3)])
        assert ids_of(used, [frame]) == ids_of(fresh, [frame])
    born = [i for frame in ids_of(Tracker(config), second) for i in frame]
    assert sorted(set(born)) == list(range(len(set(born))))


@every
def test_after_forget_all_objects_get_new_ids(rule):
    tracker = Tracker(TrackingConfig(rule))
    ids_of(tracker, [see(0, 1)] * 3)
    tracker.forget()
    assert ids_of(tracker, [see(0, 1)] * 2) == [[2, 3]] * 2


@every
def test_evenly_spaced_times_give_the_same_tracks_as_no_times(rule):
    timed, untimed = Tracker(TrackingConfig(rule)), Tracker(TrackingConfig(rule))
    for index, frame in enumerate(passers_by(people=2)):
        ids = timed.update(frame, time=5 + index / 30).track_ids.tolist()
        assert ids == untimed.update(frame).track_ids.tolist()


@every
def test_motion_is_extrapolated_over_a_longer_time_step(rule):
    times = [*np.arange(8) / 30, 7 / 30 + 0.5, 7 / 30 + 0.5 + 1 / 30]
    tracker, ids = Tracker(TrackingConfig(rule)), []
    for time in times:
        frame = replace(see(0), boxes=box_at(240.0 * time))
        ids += tracker.update(frame, time=float(time)).track_ids.tolist()
    assert ids == [0] * 10


# --- scores ---------------------------------------------------------------------------------


@every
def test_weak_detections_start_tracks_unless_a_threshold_excludes_them(rule):
    """The library's own thresholds are 0.6 and 0.7."""
    frame = see(0, scores=[0.06])
    assert ids_of(Tracker(TrackingConfig(rule)), [frame, frame]) == [[0], [0]]


@every
def test_detections_below_the_high_score_start_no_track(rule):
    tracker = Tracker(TrackingConfig(rule, high_score=0.5))
    assert ids_of(tracker, [see(0, 1, scores=[0.4, 0.5])] * 3) == [[0]] * 3
    assert tracker.last_raw_ids.tolist() == [-1, 0]


@pytest.mark.parametrize(("rule", "expected"), [("bytetrack", [0]), ("fused", [0]), ("ocsort", [])])
def test_weak_detections_continue_tracks_except_with_ocsort(rule, expected):
    tracker = Tracker(TrackingConfig(rule, high_score=0.5))
    weak = see(0, scores=[0.1])
    assert ids_of(tracker, [see(0), see(0), weak, see(0)]) == [[0], [0], expected, [0]]


def test_strong_detections_are_matched_before_weak_ones_that_fit_better():
    tracker = Tracker(TrackingConfig("bytetrack", high_score=0.5))
    both_fit = replace(see(0, 0, scores=[0.9, 0.2]), boxes=torch.cat([box_at(12), box_at(10)]))
    start = replace(see(0), boxes=box_at(10))
    assert ids_of(tracker, [start, both_fit]) == [[0], [0]]
    assert tracker.last_raw_ids.tolist() == [0, -1]


# --- limits ---------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(("min_hits", "unpublished"), [(1, 0), (2, 1), (3, 2)])
def test_a_track_is_published_after_min_hits_consecutive_frames(rule, min_hits, unpublished):
    tracker = Tracker(TrackingConfig(rule, min_hits=min_hits))
    ids_of(tracker, [see(2)] * 5)
    ids = ids_of(tracker, [see(0, 2)] * 5)
    assert ids == [[0]] * unpublished + [[1, 0]] * (5 - unpublished)


@both
@pytest.mark.parametrize("expire_after", [None, 4])
@pytest.mark.parametrize("late", [False, True])
def test_expiry_counts_unseen_frames_and_ids_are_not_reused(rule, expire_after, late):
    tracker = Tracker(TrackingConfig(rule, expire_after=expire_after))
    absent = (expire_after or 30) - 1 + late
    ids = ids_of(tracker, [see(0), see(0), *[see()] * absent, see(0)])
    assert ids[-1] == [1 if late else 0]


@every
def test_max_tracks_drops_the_longest_unseen_track(rule):
    tracker = Tracker(TrackingConfig(rule, max_tracks=2))
    ids_of(tracker, [see(0, 1), see(0), see(2)])
    assert ids_of(tracker, [see(0, 1, 2)]) == [[0, 3, 2]]


@both
@pytest.mark.parametrize(("threshold", "expected"), [(0.55, 1), (0.45, 0)])
def test_the_threshold_is_an_iou(rule, threshold, expected):
    moved = replace(see(0), boxes=box_at(40 / 3))  # an IoU of 1/2
    tracker = Tracker(TrackingConfig(rule, match_threshold=threshold))
    assert ids_of(tracker, [replace(see(0), boxes=box_at(0)), moved])[1] == [expected]


@both
def test_memory_does_not_grow_with_the_video(rule):
    tracker, rng = Tracker(TrackingConfig(rule, expire_after=3)), np.random.default_rng(0)
    sizes = []
    for _ in range(120):
        tracker.update(random_frame(rng, 5))
        sizes.append(len(pickle.dumps(tracker)))
    assert max(sizes[60:]) <= 1.2 * max(sizes[:60])


@every
def test_any_boxes_can_be_tracked(rule):
    """Empty, huge, and far outside the frame."""
    corner = torch.tensor([[5.0, 5, 5, 5], [-1e6, -1e6, 1e6, 1e6], [1e5, 3, 1e5 + 1e-3, 4]])
    labels = torch.zeros(3, dtype=torch.int64)
    frame = Detections(corner, torch.rand(3), labels, SIZE, embeddings=torch.eye(3))
    tracker = Tracker(TrackingConfig(rule))
    for scale in (1.0, 3.0, 0.01, 1.0):
        assert len(tracker.update(replace(frame, boxes=corner * scale))) == 3
