"""The on-disk store of tracks for videos of any length."""

import random
import sqlite3
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis.errors import InputError
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.masks import encode_rle

SIZE = (40, 50)


def frame_of(ids, seed, seconds=None):
    """The arguments of ``add`` for random observations of these tracks."""
    draw = random.Random(seed)
    masks = np.random.default_rng(seed).random((len(ids), *SIZE)) < 0.5
    return {
        "frame_size": SIZE,
        "ids": ids,
        "scores": [draw.random() for _ in ids],
        "labels": [draw.randrange(3) for _ in ids],
        "boxes": [[draw.uniform(-9, 60) for _ in range(4)] for _ in ids],
        "rles": [encode_rle(mask) for mask in masks],
        "seconds": seconds,
    }


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), unique=True, max_size=4), max_size=8))
def test_the_store_returns_what_was_added(video):
    added = [frame_of(ids, seed) for seed, ids in enumerate(video)]
    expected = {}
    for index, frame in enumerate(added):
        columns = (frame[key] for key in ("scores", "labels", "boxes", "rles"))
        for track_id, *values in zip(frame["ids"], *columns, strict=True):
            expected.setdefault(track_id, []).append((index, *values))
    with TrackStore() as tracks:
        for frame in added:
            tracks.add(**frame)
        assert (tracks.length, len(tracks)) == (len(video), len(expected))
        for _ in range(2):  # any number of times
            for track, track_id in zip(tracks, sorted(expected), strict=True):
                rows = expected[track_id]
                labels = [label for _, _, label, _, _ in rows]
                assert track.track_id == track_id
                assert track.label == min(set(labels), key=lambda x: (-labels.count(x), x))
                assert track.score == pytest.approx(np.mean([row[1] for row in rows]), rel=1e-12)
                assert list(track.frames()) == [row[0] for row in rows]
                assert list(track.segmentations()) == [(row[0], row[4]) for row in rows]
                found = [(*seen[:3], list(seen.box), seen[4]) for seen in track.observations()]
                assert found == rows


def test_frames_have_times_if_known():
    with TrackStore() as tracks:
        assert (list(tracks.frame_times()), tracks.duration()) == ([], 0.0)
        for seconds in (2.5, 2.75, 4.0):
            tracks.add(**frame_of([], 0, seconds))
        assert list(tracks.frame_times()) == [2.5, 2.75, 4.0]
        assert tracks.duration() == 1.5
    with TrackStore() as tracks:
        tracks.add(**frame_of([1], 0))
        assert (list(tracks.frame_times()), tracks.duration()) == ([None], 0.0)


def test_several_tracks_can_be_read_at_once():
    with TrackStore() as tracks:
        for seed in range(5):
            tracks.add(**frame_of([0, 1], seed))
        one, other = tracks
        assert list(zip(one.frames(), other.frames(), strict=True)) == [(i, i) for i in range(5)]


def test_stores_are_independent():
    with TrackStore() as one, TrackStore() as other:
        one.add(**frame_of([3], 0))
        assert (len(one), len(other)) == (1, 0)


def test_a_full_disk_ends_in_one_line(monkeypatch):
    connect = sqlite3.connect

    def connect_on_a_small_disk(*arguments, **options):
        database = connect(*arguments, **options)
        database.execute("PRAGMA max_page_count = 4")
        return database

    monkeypatch.setattr(sqlite3, "connect", connect_on_a_small_disk)
    with TrackStore() as tracks, pytest.raises(InputError, match=r"frame \d+ .*TMPDIR"):
        for seed in range(200):
            tracks.add(**frame_of(list(range(4)), seed))


def test_no_file_is_left_open():
    with TrackStore() as tracks:
        tracks.add(**frame_of([0], 0))
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        len(tracks)


def test_a_full_disk_while_reading_is_an_input_error(monkeypatch):
    class FullDisk(sqlite3.Connection):
        def execute(self, statement, *values):
            if statement.startswith("SELECT"):  # sorting writes temporary files
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(statement, *values)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=FullDisk))
    with TrackStore() as tracks:
        tracks.add(**frame_of([1], 0))
        with pytest.raises(InputError, match=r"cannot read the tracks from a temporary file"):
            list(tracks.frames())
