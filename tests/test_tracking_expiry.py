"""When the tracker forgets a track: after frames, after seconds, or over the limit on tracks."""

import pytest

from queryinst_vis.config import TrackingConfig
from queryinst_vis.errors import InputError
from queryinst_vis.tracking import Tracker
from tests.sightings import ids_of, see


def test_by_default_tracks_never_expire():
    tracker = Tracker()
    tracker.update(see(0))
    for _ in range(50):
        tracker.update(see(1))
    assert tracker.update(see(0)).track_ids.tolist() == [0]


@pytest.mark.parametrize(("absent", "expected"), [(2, 0), (3, 1)])
def test_expiry_counts_unseen_frames_and_ids_are_not_reused(absent, expected):
    tracker = Tracker(TrackingConfig(expire_after=3))
    tracker.update(see(0))
    for _ in range(absent):
        tracker.update(see())  # empty frames count
    assert len(tracker.memory) == (1 if absent < 3 else 0)
    assert tracker.update(see(0)).track_ids.tolist() == [expected]


def test_a_match_restarts_the_expiry():
    tracker = Tracker(TrackingConfig(expire_after=2))
    ids = ids_of(tracker, [see(0), see(1), see(0), see(1), see(0)])
    assert ids == [[0], [1], [0], [1], [0]]


def test_max_tracks_drops_the_longest_unseen_track_first():
    tracker = Tracker(TrackingConfig(max_tracks=2))
    ids_of(tracker, [see(0, 1), see(0), see(2)])
    assert tracker.memory.ids.tolist() == [0, 2]  # object 1 was unseen for longest
    assert tracker.update(see(1)).track_ids.tolist() == [3]


def test_max_tracks_drops_the_newest_of_equally_recent_tracks_after_publishing_it():
    tracker = Tracker(TrackingConfig(max_tracks=2))
    assert tracker.update(see(0, 1, 2)).track_ids.tolist() == [0, 1, 2]
    assert tracker.memory.ids.tolist() == [0, 1]


timed_rules = pytest.mark.parametrize("rule", ["masktrack", "query", "bytetrack", "ocsort"])


@timed_rules
@pytest.mark.parametrize(("back_at", "expected"), [(2.5, 0), (3.0, 1), (100.0, 1)])
def test_expire_seconds_does_not_depend_on_the_frame_rate(rule, back_at, expected):
    tracker = Tracker(TrackingConfig(rule, expire_seconds=2.0))
    times = [0.0, 1.0, back_at]
    ids = [tracker.update(see(0), time).track_ids.tolist() for time in times]
    assert ids == [[0], [0], [expected]]


@timed_rules
@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"expire_seconds": 2.0}, 0),
        ({"expire_seconds": 2.0, "expire_after": 5}, 1),
        ({"expire_seconds": 0.5, "expire_after": 50}, 1),
    ],
)
def test_the_earlier_of_both_expiry_limits_applies(rule, limits, expected):
    """Unseen for ten frames, which last one second."""
    tracker = Tracker(TrackingConfig(rule, **limits))
    for index in range(12):
        ids = tracker.update(see(0) if index in (0, 11) else see(), index / 10).track_ids
    assert ids.tolist() == [expected]


@timed_rules
def test_expire_seconds_without_frame_times_is_refused(rule):
    tracker = Tracker(TrackingConfig(rule, expire_seconds=2.0))
    message = r"expire_seconds needs the times of the frames.* or use tracking\.expire_after"
    with pytest.raises(InputError, match=message):
        tracker.update(see(0))
