"""The tracks of endless videos: on disk, and otherwise as in memory."""

import sqlite3

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis.errors import InputError
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.structures import Detections, VideoResult


def frame_of(ids, seed):
    """Random detections with these identities on a 40x50 frame."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(len(ids), 2, generator=generator) * 30
    return Detections(
        boxes=torch.cat([corners, corners + 12], dim=1),
        scores=torch.rand(len(ids), generator=generator),
        labels=torch.randint(3, (len(ids),), generator=generator),
        image_size=(40, 50),
        mask_logits=torch.randn(len(ids), 28, 28, generator=generator),
        track_ids=torch.tensor(ids, dtype=torch.int64),
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), unique=True, max_size=4), max_size=8))
def test_it_gives_back_what_memory_would(video):
    kept = VideoResult()
    with TrackStore() as stored:
        for seed, ids in enumerate(video):
            kept.add(frame_of(ids, seed))
            stored.add(frame_of(ids, seed))
        assert (stored.length, len(stored)) == (kept.length, len(kept))
        for _ in range(2):  # as often as one likes
            for ours, expected in zip(
                stored, sorted(kept, key=lambda track: track.track_id), strict=True
            ):
                assert ours.track_id == expected.track_id
                assert ours.label == expected.label
                assert ours.score == pytest.approx(expected.score, rel=1e-12)
                assert list(ours.frames()) == list(expected.frames())
                assert list(ours.segmentations()) == list(expected.segmentations.items())


def test_several_tracks_can_be_read_at_once():
    with TrackStore() as store:
        for seed in range(5):
            store.add(frame_of([0, 1], seed))
        one, other = store
        assert list(zip(one.frames(), other.frames(), strict=True)) == [(i, i) for i in range(5)]


def test_two_stores_know_nothing_of_each_other():
    with TrackStore() as one, TrackStore() as other:
        one.add(frame_of([3], 0))
        assert (len(one), len(other)) == (1, 0)


def test_a_full_disk_is_one_line():
    with TrackStore() as store:
        store._database.execute("PRAGMA max_page_count = 2")  # stands for the disk's end
        with pytest.raises(InputError, match=r"cannot store the tracks of frame \d+ .*TMPDIR"):
            for seed in range(200):
                store.add(frame_of(list(range(4)), seed))


def test_nothing_is_left_open():
    with TrackStore() as store:
        store.add(frame_of([0], 0))
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        len(store)
