"""Track ids of segments are joined to ids of the whole video."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queryinst_vis.masks import encode_rle
from queryinst_vis.tracking.joining import (
    SegmentTracks,
    SharedFrame,
    join_segments,
    match_tracks,
)

SIZE = 40


def square(x, y=0, side=10):
    mask = np.zeros((SIZE, SIZE), bool)
    mask[y : y + side, x : x + side] = True
    return encode_rle(mask)


PLACES = [square(12 * (n % 3), 12 * (n // 3)) for n in range(9)]
"""Masks that do not overlap."""


def frame(ids, masks, labels=None, embeddings=None):
    """A shared frame; all of class 0, without embeddings."""
    return SharedFrame(ids, [0] * len(ids) if labels is None else labels, masks, embeddings)


# Two segments


def test_tracks_with_the_same_masks_are_matched_regardless_of_ids():
    earlier = [frame([7, 3], [square(0), square(20)])] * 3
    later = [frame([0, 1], [square(20), square(1)])] * 3
    assert match_tracks(earlier, later) == {0: 3, 1: 7}


def test_classes_must_agree_by_majority():
    earlier = [frame([0], [square(0)], [1])] * 3
    assert match_tracks(earlier, [frame([5], [square(0)], [2])] * 3) == {}
    mixed = [frame([5], [square(0)], [label]) for label in (1, 2, 1)]
    assert match_tracks(earlier, mixed) == {5: 0}


def test_too_little_overlap_is_no_match():
    # 10 x 10 squares shifted by 5: IoU 1/3
    earlier, later = [frame([0], [square(0)])], [frame([0], [square(5)])]
    assert match_tracks(earlier, later, min_overlap=0.33) == {0: 0}
    assert match_tracks(earlier, later, min_overlap=0.34) == {}


def test_a_track_is_matched_by_its_position_at_the_end_of_the_overlap():
    place = square(0)
    earlier = [frame([track_id], [place]) for track_id in (0, 0, 1, 1)]
    assert match_tracks(earlier, [frame([9], [place])] * 4) == {9: 1}


def test_each_track_is_matched_once_even_if_two_would_fit():
    earlier = [frame([0], [square(0)])] * 2
    later = [frame([1, 2], [square(1), square(4)])] * 2
    assert match_tracks(earlier, later) == {1: 0}


def test_embeddings_decide_between_equal_overlaps():
    masks = [square(0), square(10)]
    between = [square(5), square(5, 1)]
    looks = np.eye(2)
    earlier = [frame([0, 1], masks, embeddings=looks)]
    for order in ([0, 1], [1, 0]):
        later = [frame([0, 1], between, embeddings=looks[order])]
        assert match_tracks(earlier, later, 0.2) == dict(enumerate(order))


def test_segments_without_tracks_have_no_matches():
    nothing, something = [frame([], [])], [frame([0], [square(0)])]
    assert match_tracks(nothing, something) == match_tracks(something, nothing) == {}
    assert match_tracks([], []) == {}


# Many segments


@st.composite
def tracked_videos(draw):
    """Frames of a whole video: (ids, masks), ids from 0 in order of appearance."""
    length = draw(st.integers(12, 30))
    spans = draw(
        st.lists(st.tuples(st.integers(0, length - 1), st.integers(3, 20)), min_size=1, max_size=9)
    )
    spans.sort()
    return [
        [
            (track_id, PLACES[track_id])
            for track_id, (start, seen) in enumerate(spans)
            if start <= number < start + seen
        ]
        for number in range(length)
    ]


def cut(video, rename, step=6, overlap=3):
    """The segments of a tracked video, each with its own numbering of ids, and their frames."""
    starts = range(0, max(1, len(video) - overlap), step)
    segments, owned = [], []
    for start in starts:
        names = rename(start)
        is_last = start == starts[-1]
        stop = len(video) if is_last else start + step + overlap
        own = video[start if start == 0 else start + overlap : stop]
        frames = [
            frame([names[track_id] for track_id, _ in seen], [mask for _, mask in seen])
            for seen in video[start:stop]
        ]
        head = frames[:overlap] if start else []
        tail = [] if is_last else frames[step:]
        order = list(dict.fromkeys(names[track_id] for seen in own for track_id, _ in seen))
        segments.append(SegmentTracks(head, tail, order))
        owned.append([[names[track_id] for track_id, _ in seen] for seen in own])
    return segments, owned


def joined_ids(segments, owned):
    """The ids of every frame of the whole video."""
    return [
        [ids[track_id] for track_id in frame_ids]
        for ids, frames in zip(join_segments(segments), owned, strict=True)
        for frame_ids in frames
    ]


@given(tracked_videos())
def test_joining_the_segments_of_a_tracked_video_restores_its_ids(video):
    segments, owned = cut(video, lambda start: range(9))
    assert joined_ids(segments, owned) == [[track_id for track_id, _ in seen] for seen in video]


@given(tracked_videos(), st.randoms(use_true_random=False))
def test_joining_does_not_depend_on_the_ids_within_segments(video, random):
    def rename(start):
        return random.sample(range(100), 9)

    assert joined_ids(*cut(video, rename)) == joined_ids(*cut(video, lambda start: range(9)))


@given(tracked_videos())
def test_joined_ids_are_unique_per_frame_and_start_at_0(video):
    frames = joined_ids(*cut(video, lambda start: [start + 10 * n for n in range(9)]))
    assert all(len(set(ids)) == len(ids) for ids in frames)
    seen = list(dict.fromkeys(track_id for ids in frames for track_id in ids))
    assert seen == list(range(len(seen)))


@pytest.mark.parametrize("lost", [0, 1])
def test_a_track_in_no_shared_frame_gets_a_new_id(lost):
    there, nobody = frame([0], [square(0)]), frame([], [])
    segments = [
        SegmentTracks([], [nobody if lost else there], [0]),
        SegmentTracks([nobody if lost else there], [], [0]),
    ]
    assert list(join_segments(segments)) == [{0: 0}, {0: 1 if lost else 0}]
