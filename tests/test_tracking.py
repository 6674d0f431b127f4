"""The online tracker: identities, memory, and errors."""

import math
from copy import deepcopy
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis.config import TrackingConfig
from queryinst_vis.errors import InputError
from queryinst_vis.tracking import RULES, Memory, Rule, Tracker
from tests.sightings import OBJECTS, ids_of, random_frame, random_video, see, videos

limits = st.none() | st.integers(1, 5)


def same_state(first, second):
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in ((getattr(first, f.name), getattr(second, f.name)) for f in fields(Memory))
    )


# identities


def test_first_frame_gives_every_detection_a_new_id():
    tracker = Tracker()
    assert tracker.update(see(2, 0, 1)).track_ids.tolist() == [0, 1, 2]
    assert tracker.last_raw_ids.tolist() == [0, 1, 2]


def test_an_empty_frame_only_advances_the_frame_counter():
    tracker = Tracker()
    tracker.update(see(0, 1))
    before = deepcopy(tracker.memory)
    published = tracker.update(see())
    assert len(published) == 0 and published.track_ids.dtype == torch.int64
    assert tracker.last_raw_ids.tolist() == []
    assert tracker.memory.frame == before.frame + 1
    assert same_state(replace(tracker.memory, frame=before.frame), before)
    assert tracker.update(see(1)).track_ids.tolist() == [1]


def test_video_may_begin_with_empty_frames():
    assert ids_of(Tracker(), [see(), see(), see(1, 0), see(0)]) == [[], [], [0, 1], [1]]


def test_of_two_detections_claiming_a_track_only_the_later_better_one_is_published():
    tracker = Tracker()
    tracker.update(see(0))
    frame = see(0, 0, scores=[0.3, 0.8])
    frame.boxes[1] += 1
    published = tracker.update(frame)
    assert tracker.last_raw_ids.tolist() == [0, 0]
    assert published.track_ids.tolist() == [0]
    assert torch.equal(published.boxes, frame.boxes[1:])
    assert torch.equal(tracker.memory.boxes, frame.boxes[1:])


def test_a_later_detection_with_a_lower_association_score_is_dropped():
    tracker = Tracker()
    tracker.update(see(0))
    published = tracker.update(see(0, 0, 1, scores=[0.8, 0.3, 0.9]))
    assert tracker.last_raw_ids.tolist() == [0, -1, 1]
    assert published.track_ids.tolist() == [0, 1]
    assert published.scores.tolist() == pytest.approx([0.8, 0.9])


def test_association_score_not_detection_score_decides():
    """A worse detection score with a far better box takes the track over."""
    tracker = Tracker()
    tracker.update(see(0))
    frame = see(0, 0, scores=[0.6, 0.5])
    frame.boxes[0] += 25
    assert tracker.update(frame).scores.tolist() == [0.5]


def test_ids_born_in_a_frame_are_no_candidates_for_its_later_detections():
    tracker = Tracker()
    tracker.update(see(0))
    assert tracker.update(see(1, 1)).track_ids.tolist() == [1, 2]
    assert len(tracker.memory) == 3


def test_memory_updates_box_and_embedding_but_keeps_the_first_label():
    tracker = Tracker(TrackingConfig(label_weight=0.0))
    tracker.update(see(0))
    frame = replace(see(0, shift=2), labels=torch.tensor([7]), embeddings=torch.ones(1, OBJECTS))
    assert tracker.update(frame).track_ids.tolist() == [0]
    assert tracker.memory.labels.tolist() == [0]
    assert torch.equal(tracker.memory.boxes, frame.boxes)
    assert torch.equal(tracker.memory.embeddings, frame.embeddings)
    assert tracker.memory.last_seen.tolist() == [1]


def test_memory_does_not_alias_the_detections():
    tracker = Tracker()
    frame = see(0, 1)
    tracker.update(frame)
    frame.boxes.zero_()
    frame.embeddings.zero_()
    assert tracker.memory.boxes.any(dim=1).all() and tracker.memory.embeddings.any(dim=1).all()


# properties


@settings(deadline=None, max_examples=60)
@given(video=videos, expire_after=limits, max_tracks=limits)
def test_published_ids_are_unique_and_published_detections_come_from_the_input(
    video, expire_after, max_tracks
):
    tracker, born = Tracker(TrackingConfig(expire_after=expire_after, max_tracks=max_tracks)), set()
    for frame in video:
        published = tracker.update(frame)
        ids, raw = published.track_ids.tolist(), tracker.last_raw_ids.tolist()
        assert len(raw) == len(frame)
        assert len(set(ids)) == len(ids)
        assert set(ids) == {i for i in raw if i >= 0}  # no id is lost, and -1 is never published
        new = sorted(set(ids) - born)
        assert new == list(range(len(born), len(born) + len(new)))  # dense, never reused
        born |= set(new)
        rows = [max(r for r, i in enumerate(raw) if i == track_id) for track_id in ids]
        assert rows == sorted(rows)  # input order
        for name in ("boxes", "scores", "labels", "mask_logits", "embeddings"):
            assert torch.equal(getattr(published, name), getattr(frame, name)[rows])


@settings(deadline=None, max_examples=40)
@given(video=videos, expire_after=limits, max_tracks=limits)
def test_limits_hold_after_every_frame(video, expire_after, max_tracks):
    tracker = Tracker(TrackingConfig(expire_after=expire_after, max_tracks=max_tracks))
    last_seen = {}
    for index, frame in enumerate(video):
        tracker.update(frame)
        memory = tracker.memory
        last_seen.update((i, index) for i in tracker.last_raw_ids.tolist() if i >= 0)
        assert memory.ids.tolist() == sorted(memory.ids.tolist())
        assert memory.last_seen.tolist() == [last_seen[i] for i in memory.ids.tolist()]
        if expire_after is not None:
            assert (index - memory.last_seen < expire_after).all()
        if max_tracks is not None:
            assert len(memory) <= max_tracks
        if expire_after is None and max_tracks is None:
            assert memory.ids.tolist() == list(range(memory.next_id))


@settings(deadline=None, max_examples=40)
@given(video=videos, seed=st.integers(0, 2**32 - 1))
def test_ownership_of_known_tracks_does_not_depend_on_detection_order(video, seed):
    """Only the numbers of new tracks and the raw ids of dropped detections depend on it."""
    one, other = Tracker(), Tracker()
    one.update(video[0])
    other.update(video[0])
    rng = np.random.default_rng(seed)
    frame = random_frame(rng, 6)
    order = torch.tensor(rng.permutation(6))
    straight, shuffled = one.update(frame), other.update(frame[order])

    def owners(published):
        known = zip(published.track_ids.tolist(), published.boxes.tolist(), strict=True)
        return {i: box for i, box in known if i < len(video[0])}

    assert owners(straight) == owners(shuffled)
    assert len(straight) == len(shuffled)


@settings(deadline=None, max_examples=25)
@given(first=videos, second=videos)
def test_videos_are_independent_after_reset(first, second):
    used, fresh = Tracker(), Tracker()
    ids_of(used, first)
    used.reset()
    assert same_state(used.memory, Memory())
    assert same_state(used.memory, fresh.memory)
    assert used.last_raw_ids.tolist() == []
    assert ids_of(used, second) == ids_of(fresh, second)
    assert same_state(used.memory, fresh.memory)


def test_trackers_do_not_share_their_memory():
    one, other = Tracker(), Tracker()
    one.update(see(0, 1))
    assert len(other.memory) == 0


def test_memory_does_not_grow_without_new_tracks():
    tracker = Tracker()
    tracker.update(see(0, 1, 2))

    def size():
        tensors = (getattr(tracker.memory, f.name) for f in fields(Memory))
        return sum(t.numel() for t in tensors if isinstance(t, torch.Tensor))

    before = size()
    for index in range(300):
        tracker.update(see(0, 1, 2, shift=index % 3))
    assert size() == before
    assert tracker.memory.next_id == 3


def test_memory_holds_no_masks_and_no_image():
    tracker = Tracker()
    frame = random_video(0, [5])[0]
    tracker.update(frame)
    per_track = [getattr(tracker.memory, f.name) for f in fields(Memory)]
    numbers = sum(t.numel() for t in per_track if isinstance(t, torch.Tensor))
    assert numbers == 5 * (frame.embeddings.shape[1] + 4 + 4)


# rules with a state of their own


class Counting:
    """Gives the leftmost detection of each frame the next id, and records its inputs."""

    memory = None

    def __init__(self, settings):
        self.seen, self.frames, self.forgotten = [], 0, False

    def assign(self, observed, time):
        self.seen.append((observed, time))
        ids = torch.full((len(observed),), -1)
        ids[observed.boxes[:, 0].argmin()] = self.frames
        self.frames += 1
        return ids

    def forget(self):
        self.forgotten = True


@pytest.fixture
def counting(monkeypatch):
    begun = []

    def begin(settings):
        begun.append(Counting(settings))
        return begun[-1]

    monkeypatch.setitem(RULES, "counting", Rule(begin, embedding=None))
    return Tracker(TrackingConfig("counting")), begun


def test_a_rule_may_keep_its_own_state_which_reset_recreates(counting):
    tracker, begun = counting
    assert tracker.memory is None
    assert ids_of(tracker, [see(1, 0), see(2, 3)]) == [[0], [1]]
    assert tracker.last_raw_ids.tolist() == [1, -1]
    tracker.forget()
    assert begun[0].forgotten
    tracker.reset()
    assert ids_of(tracker, [see(0)]) == [[0]] and len(begun) == 2


def test_a_rule_without_embeddings_gets_only_boxes_scores_and_labels(counting):
    tracker, begun = counting
    tracker.update(replace(random_frame(np.random.default_rng(0), 3), embeddings=None))
    tracker.update(see(0), None)
    assert [(seen.embeddings, seen.mask_logits) for seen, _ in begun[0].seen] == [(None, None)] * 2


def test_a_rule_is_given_the_times_of_the_frames(counting):
    tracker, begun = counting
    for time in (3.0, 3.5, 10.0):
        tracker.update(see(0), time)
    assert [time for _, time in begun[0].seen] == [3.0, 3.5, 10.0]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1.0, 1.0], r"frame 1: its time, 1\.0 s, must be later than the previous frame's, 1\.0 s"),
        ([1.0, 0.5], "must be later"),
        ([math.nan], "frame 0: its time must be a number of seconds, got nan"),
        ([1.0, None], "frame 1: give the times of all frames of a video or of none"),
        ([None, 1.0], "of all frames"),
    ],
)
def test_bad_times_are_refused_without_changing_the_memory(times, message):
    tracker = Tracker()
    *good, bad = times
    for time in good:
        tracker.update(see(0), time)
    with pytest.raises(InputError, match=message):
        tracker.update(see(1), bad)
    assert tracker.memory.next_id == len(good)


def test_times_may_restart_after_reset():
    tracker = Tracker()
    tracker.update(see(0), 5.0)
    tracker.reset()
    tracker.update(see(0), 1.0)
    tracker.reset()
    tracker.update(see(0))


def test_after_forget_all_objects_get_new_ids():
    tracker = Tracker()
    tracker.update(see(0, 1))
    tracker.forget()
    assert len(tracker.memory) == 0
    assert tracker.update(see(0, 1)).track_ids.tolist() == [2, 3]


# arguments and errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expire_after": 0}, r"tracking\.expire_after: .*at least 1, is 0"),
        ({"max_jump": 0.0}, r"tracking\.max_jump: .*above 0, is 0"),
        ({"max_jump": math.nan}, r"tracking\.max_jump: .*finite number, is nan"),
        ({"expire_seconds": 0.0}, r"tracking\.expire_seconds: .*above 0, is 0"),
        ({"max_tracks": -1}, r"tracking\.max_tracks: .*at least 1, is -1"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(arguments, message):
    with pytest.raises(InputError, match=message):
        Tracker(TrackingConfig(**arguments))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"embeddings": None},
            r"no embeddings; use .*tracking\.rule=query",
        ),
        ({"embeddings": torch.zeros(1, OBJECTS + 1)}, "5 channels, those in memory 4"),
        ({"embeddings": torch.full((1, OBJECTS), torch.nan)}, "frame 1 has embeddings that are"),
        ({"boxes": torch.full((1, 4), torch.inf)}, "frame 1 has boxes that are not finite"),
        ({"scores": torch.full((1,), torch.nan)}, "frame 1 has scores that are not finite"),
    ],
)
def test_bad_detections_are_refused_without_changing_the_memory(change, message):
    tracker = Tracker()
    tracker.update(see(0))
    before = deepcopy(tracker.memory)
    with pytest.raises(InputError, match=message):
        tracker.update(replace(see(0), **change))
    assert same_state(tracker.memory, before)


def test_memory_is_float32_without_gradients():
    tracker = Tracker()
    frame = see(0, 1)
    frame = replace(frame, embeddings=frame.embeddings.half().requires_grad_())
    published = tracker.update(frame)
    assert tracker.memory.embeddings.dtype == torch.float32
    assert not tracker.memory.embeddings.requires_grad
    assert published.embeddings.dtype == torch.float16  # what is published is what came in


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_detections_stay_on_their_gpu():
    tracker = Tracker()
    frames = random_video(3, [5, 6, 4])
    expected = ids_of(Tracker(), frames)
    for frame, ids in zip(frames, expected, strict=True):
        published = tracker.update(frame.to("cuda"))
        assert published.track_ids.device.type == published.boxes.device.type == "cuda"
        assert published.track_ids.tolist() == ids
    assert tracker.memory.boxes.device.type == "cpu"
