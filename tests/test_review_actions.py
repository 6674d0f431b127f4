"""The actions of a review: effects, conflicts, refusals, undo and redo."""

import json

import numpy as np
import pytest

from queryinst_vis.errors import InputError
from queryinst_vis.formats.track_lines import write_track_lines
from queryinst_vis.formats.track_store import TrackStore, VideoInfo
from queryinst_vis.masks import decode_rle, encode_rle
from queryinst_vis.review import (
    ACTIONS,
    Check,
    ConflictError,
    Delete,
    Draw,
    Fill,
    Merge,
    Redo,
    ReviewSession,
    SetClass,
    SetName,
    Split,
    Swap,
    Undo,
    from_json,
    to_json,
)
from tests.review_support import frames_of, line, reopened, shown, square, write_results

LENGTH = 12


@pytest.fixture
def folder(tmp_path):
    """Tracks 1 (frames 0 to 5) and 3 (frames 4 to 11) on one path, and track 2 in all frames."""
    tracks = {1: line(range(6), 2), 2: line(range(LENGTH), 12), 3: line(range(4, LENGTH), 2)}
    return write_results(tmp_path, tracks, LENGTH, labels={2: 1})


@pytest.fixture
def session(folder):
    with ReviewSession.open(folder) as session:
        yield session


def test_a_new_session_has_the_tracks_of_the_results(session):
    assert [track.track_id for track in session.tracks()] == [1, 2, 3]
    assert frames_of(session, 3) == list(range(4, 12))
    track = session.track(2)
    assert (track.class_name, track.name, track.frames) == ("dog", "", 12)
    assert track.score == pytest.approx(0.52)
    frame = session.frame(5)
    assert (frame.number, frame.seconds, frame.is_checked) == (5, 0.2, False)
    assert {region.track_id: region.origin for region in frame.regions} == {
        1: "found",
        2: "found",
        3: "found",
    }


def test_a_merge_of_tracks_that_share_frames_is_a_conflict(session):
    with pytest.raises(ConflictError, match=r"both in 2 frames \(4-5\)") as caught:
        session.apply(Merge(1, 3))
    assert caught.value.frames.tolist() == [4, 5]
    assert not session.records


@pytest.mark.parametrize(
    ("decide", "frames"),
    [
        ("keep first", list(range(12))),
        ("keep second", list(range(12))),
        ("drop both", [0, 1, 2, 3, *range(6, 12)]),
    ],
)
def test_a_decided_merge_makes_one_track(session, folder, decide, frames):
    result = session.apply(Merge(1, 3, decide=decide))
    assert (result.changed, result.removed) == ((1,), (3,))
    assert result.regions == (4 if decide == "drop both" else 2)
    assert frames_of(session, 1) == frames
    stored = [region.score for region in session.frame(4).regions if region.track_id == 1]
    assert stored == {"keep first": [0.51], "keep second": [0.53], "drop both": []}[decide]
    session.close()
    assert [frame for frame, tracks in reopened(folder).items() if 1 in tracks] == frames


def test_frames_of_a_conflict_are_decided_individually(session):
    with pytest.raises(ConflictError) as caught:
        session.apply(Merge(1, 3, decide_frames=((4, 4, "keep second"),)))
    assert caught.value.frames.tolist() == [5]
    session.apply(Merge(1, 3, "keep first", ((4, 4, "drop both"),)))
    assert frames_of(session, 1) == [0, 1, 2, 3, *range(5, 12)]


def test_a_merge_fills_the_gaps_of_a_track_with_another(tmp_path):
    tracks = {1: line([0, 1, 5, 6], 2), 2: line([2, 3, 4, 8], 2)}
    write_results(tmp_path, tracks, 9)
    with ReviewSession.open(tmp_path) as session:
        session.apply(Merge(1, 2))
        assert frames_of(session, 1) == [0, 1, 2, 3, 4, 5, 6, 8]
        positions = shown(session)
        assert all(positions[frame][1] == (frame, 2) for frame in range(9) if frame != 7)
        session.apply(Delete(1, ((5, 7),)))
        assert frames_of(session, 1) == [0, 1, 2, 3, 4, 8]


def test_a_split_creates_a_track_with_an_unused_id(session):
    assert session.apply(Split(2, 7)).created == (4,)
    assert (frames_of(session, 2), frames_of(session, 4)) == (list(range(7)), list(range(7, 12)))
    assert session.track(4).class_name == "dog"
    session.apply(Delete(4))
    assert session.apply(Split(2, 3)).created == (5,)


@pytest.mark.parametrize("frame", [0, 6, 11])
def test_a_split_requires_regions_on_both_sides(session, frame):
    with pytest.raises(InputError, match="track 1 has no region"):
        session.apply(Split(1, frame))


def test_a_swap_exchanges_the_regions_of_two_tracks_from_a_frame_on(session):
    before = shown(session)
    session.apply(Swap(1, 2, 3))
    after = shown(session)
    assert all(after[frame] == before[frame] for frame in range(3))
    assert all(
        (after[frame][1], after[frame].get(2)) == (before[frame][2], before[frame].get(1))
        for frame in range(3, LENGTH)
    )
    assert session.track(1).class_name == "dog"  # the class of most of its frames


def test_a_track_without_regions_after_a_swap_is_removed(session):
    assert session.apply(Swap(3, 1, 0)).removed == ()
    session.apply(Undo())
    session.apply(Delete(1, ((0, 3),)))
    session.apply(Delete(3, ((4, 5),)))
    assert session.apply(Swap(1, 3, 6)).removed == (3,)
    assert frames_of(session, 1) == list(range(4, 12))


def test_frames_are_deleted_and_a_track_without_frames_is_removed(session):
    assert session.apply(Delete(1, ((1, 2), (4, 4)))).regions == 3
    assert frames_of(session, 1) == [0, 3, 5]
    assert session.apply(Delete(1, ((0, 11),))).removed == (1,)
    with pytest.raises(InputError, match="track 1 no longer exists"):
        session.track(1)


def test_name_class_and_checked_marks(session):
    session.apply(SetName(1, "Anna"))
    session.apply(SetClass(1, "dog"))
    session.apply(Check(track=1))
    session.apply(Check(frames=((2, 4), (6, 6))))
    session.apply(Check(frames=((3, 3),), checked=False))
    track = session.track(1)
    assert (track.name, track.class_name, track.is_checked) == ("Anna", "dog", True)
    assert [frame for frame in range(LENGTH) if session.frame(frame).is_checked] == [2, 4, 6]


def test_a_new_class_must_be_declared(session):
    with pytest.raises(InputError, match=r"'persn' .*'person'"):
        session.apply(SetClass(1, "persn"))
    session.apply(SetClass(1, "cat", is_new=True))
    session.apply(SetClass(2, "cat"))
    assert session.state.class_names == ("person", "dog", "cat")


SQUARE = ((2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0),)
MOVED = ((20.0, 10.0, 20.0, 16.0, 14.0, 16.0, 14.0, 10.0),)  # other starting point and orientation


def test_a_drawn_region_replaces_the_detected_one(session):
    session.apply(Draw(2, SQUARE, track=1))
    region = session.frame(2).regions[0]
    assert (region.origin, region.score, region.polygons) == ("drawn", 1.0, SQUARE)
    assert decode_rle(region.segmentation).sum() == pytest.approx(36)
    assert session.frame(3).regions[0].origin == "found"


def test_a_track_keeps_its_class_without_a_region_of_the_results(session):
    session.apply(Draw(1, SQUARE, track=2))
    session.apply(Draw(4, SQUARE, track=2))
    [new] = session.apply(Split(2, 6)).created
    session.apply(Delete(2, ((0, 0), (2, 3), (5, 5))))
    assert frames_of(session, 2) == [1, 4]
    session.apply(Draw(7, SQUARE, track=new, fill="none"))
    session.apply(Delete(new, ((6, 6), (8, 11))))
    assert session.track(2).class_name == session.track(new).class_name == "dog"


def test_a_part_of_a_track_that_was_only_drawn_has_its_class(session):
    session.apply(Draw(3, SQUARE, track=2))
    session.apply(Delete(2, ((4, 11),)))
    [new] = session.apply(Split(2, 3)).created
    assert session.track(new).class_name == "dog"


def test_a_part_that_was_drawn_after_the_last_detection_has_the_class_of_its_track(tmp_path):
    tracks = {1: line(range(LENGTH), 2), 2: {0: (0, 12), 1: (1, 12), 11: (9, 12)}}
    with ReviewSession.open(write_results(tmp_path, tracks, LENGTH, labels={2: 1})) as session:
        session.apply(Draw(5, SQUARE, track=2))
        session.apply(Draw(11, SQUARE, track=2, fill="none"))
        [new] = session.apply(Split(2, 4)).created
        assert session.track(new).class_name == session.track(2).class_name == "dog"


def test_a_new_track_is_drawn_and_interpolated_between_two_frames(session):
    assert session.apply(Draw(2, SQUARE, class_name="dog")).created == (4,)
    assert (
        session.apply(Draw(8, MOVED, track=4)).regions == 6
    )  # the drawn one and five interpolated
    track = session.track(4)
    assert (track.class_name, track.drawn, track.interpolated) == ("dog", (2, 8), ((3, 8),))
    halfway = session.frame(5).regions[-1]
    assert halfway.origin == "interpolated"
    assert np.allclose(halfway.box, (8, 6, 14, 12), atol=1)
    assert decode_rle(halfway.segmentation).sum() == pytest.approx(36, abs=8)


@pytest.mark.parametrize("empty", [{0}, {2}, {5}])
def test_empty_regions_are_no_ends_of_an_interpolation(tmp_path, empty):
    """A track in frames 0, 2 and 5, with empty masks in some of them."""
    with TrackStore() as store:
        for frame in range(6):
            ids = [3] if frame in (0, 2, 5) else []
            mask = np.zeros((24, 32), dtype=bool) if frame in empty else square(frame, 2)
            boxes = [(frame, 2, frame + 4, 6)] * len(ids)
            masks = [encode_rle(mask)] * len(ids)
            store.add((24, 32), ids, [0.5] * len(ids), [0] * len(ids), boxes, masks, frame / 25)
        write_track_lines(tmp_path / "tracks.jsonl", store, VideoInfo("a", 25.0, ["person"]))
    with ReviewSession.open(tmp_path) as session:
        if 5 in empty:
            with pytest.raises(InputError, match="no gap between two regions"):
                session.apply(Fill(3, ((3, 4),)))
        else:
            assert session.apply(Fill(3, ((3, 4),))).regions == 2
            assert [len(session.frame(frame).regions) for frame in (3, 4)] == [1, 1]


def test_fill_selects_the_interpolated_frames(session):
    session.apply(Draw(1, SQUARE, track=1))
    assert (
        session.apply(Draw(9, MOVED, track=1)).regions == 1 + 3
    )  # 6, 7, 8: the others have regions
    assert session.track(1).interpolated == ((6, 9),)
    session.apply(Undo())
    assert session.apply(Draw(9, MOVED, track=1, fill="none")).regions == 1
    session.apply(Undo())
    assert session.apply(Draw(9, MOVED, track=1, fill="all")).regions == 1 + 7
    assert session.track(1).interpolated == ((2, 9),)


def test_interpolation_is_updated_when_a_region_is_redrawn(session):
    session.apply(Draw(2, SQUARE, class_name="dog"))
    session.apply(Draw(8, MOVED, track=4))
    session.apply(Draw(8, SQUARE, track=4))
    assert session.frame(5).regions[-1].box == session.frame(2).regions[-1].box
    session.apply(Draw(5, MOVED, track=4))
    assert session.track(4).interpolated == ((3, 5), (6, 8))


@pytest.mark.parametrize("fill", ["none", "gaps"])
def test_filled_gaps_between_detected_regions_remain_when_others_are_redrawn(session, fill):
    session.apply(Delete(2, ((5, 6),)))
    session.apply(Fill(2, ((5, 6),)))
    filled = [session.frame(frame).regions[1].box for frame in (5, 6)]
    session.apply(Draw(1, SQUARE, track=2, fill=fill))
    session.apply(Draw(10, MOVED, track=2, fill=fill))
    assert [session.frame(frame).regions[1].box for frame in (5, 6)] == filled


def test_interpolated_regions_remain_when_a_drawn_one_is_deleted(session):
    session.apply(Draw(2, SQUARE, class_name="dog"))
    session.apply(Draw(8, MOVED, track=4))
    halfway = session.frame(5).regions[-1].box
    session.apply(Split(4, 5))
    session.apply(Delete(4))
    assert session.frame(5).regions[-1].box == halfway


def test_every_action_can_be_undone_and_redone(session, folder):
    states = [shown(session)]
    for action in (
        Merge(1, 3, "keep second"),
        Split(1, 6),
        Swap(1, 2, 3),
        Draw(0, SQUARE, track=2),
        Delete(2, ((4, 5),)),
    ):
        session.apply(action)
        states.append(shown(session))
    for expected in states[-2::-1]:
        session.apply(Undo())
        assert shown(session) == expected
    with pytest.raises(InputError, match="nothing to undo"):
        session.apply(Undo())
    for expected in states[1:]:
        session.apply(Redo())
        assert shown(session) == expected
    with pytest.raises(InputError, match="nothing to redo"):
        session.apply(Redo())
    session.apply(Undo())
    session.apply(SetName(1, "Anna"))
    assert not session.can_redo
    session.close()
    assert reopened(folder) == states[-2]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (Merge(1, 1), "track 1 is given twice"),
        (Merge(1, 9), "track 9 does not exist"),
        (Split(1, 12), "frame 12 does not exist; there are frames 0 to 11"),
        (Delete(1, ((0, 12),)), "frame 12 does not exist"),
        (Delete(1, ((8, 9),)), "no region in these frames"),
        (Swap(1, 3, 99), "frame 99 does not exist"),
        (Merge(1, 3, decide_frames=((4, 2**62, "drop both"),)), "does not exist"),
        (Check(track=1, frames=((0, 1),)), "either a track or frames"),
        (Draw(0, SQUARE), "needs a `class_name`"),
        (Draw(0, SQUARE, track=1, class_name="dog"), "is for new tracks"),
        (Draw(0, ((-9.0, -9.0, -5.0, -9.0, -5.0, -5.0),), track=1), "covers no pixel"),
        (Draw(0, ((1e9, 0.0, 0.0, 1e9, 5.0, 5.0),), track=1), "extends beyond"),
    ],
)
def test_an_invalid_action_is_refused_and_not_recorded(session, action, message):
    with pytest.raises(InputError, match=message):
        session.apply(action)
    assert not session.records


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be an object"),
        ({"action": "explode"}, "choose from 'merge', 'split'"),
        ({"action": ["merge"]}, "choose from"),
        ({"action": "merge", "first": 1}, "merge needs `second`"),
        ({"action": "merge", "frist": 1, "second": 2}, "did you mean `first`"),
        ({"action": "split", "track": True, "frame": 2}, "`track` must be a non-negative integer"),
        ({"action": "split", "track": 1.0, "frame": 2}, "`track` must be a non-negative integer"),
        ({"action": "delete", "track": 1, "frames": []}, "contains no range"),
        ({"action": "delete", "track": 1, "frames": [[5, 2]]}, "ranges \\[first, last\\]"),
        ({"action": "merge", "first": 1, "second": 2, "decide": "both"}, "must be one of"),
        ({"action": "merge", "first": 1, "second": 2, "decide_frames": [[1, 2]]}, "one of"),
        ({"action": "name", "track": 1, "name": "a\nb"}, "printable"),
        ({"action": "name", "track": 1, "name": "a" * 201}, "at most 200"),
        ({"action": "draw", "frame": 1, "polygons": [[1, 2, 3, 4]]}, "outlines"),
        ({"action": "draw", "frame": 1, "polygons": [[0, 0, 9, 0, 9, float("nan")]]}, "finite"),
        ({"action": "draw", "frame": 1, "polygons": [[0, 0] * 10_001]}, "more than 10000 points"),
        ({"action": "check", "checked": 1}, "true or false"),
    ],
)
def test_a_malformed_action_is_refused(content, message):
    with pytest.raises(InputError, match=message):
        from_json(content)


@pytest.mark.parametrize(
    "action",
    [
        Merge(1, 2, "keep first", ((1, 3, "drop both"),)),
        Delete(1, ((0, 3), (5, 5))),
        Draw(1, SQUARE, track=3, fill="all"),
        Check(frames=((1, 2),)),
        SetClass(1, "cat", is_new=True),
        Undo(),
    ],
)
def test_json_round_trip_of_actions(action):
    assert from_json(json.loads(json.dumps(to_json(action)))) == action
    assert ACTIONS[to_json(action)["action"]] is type(action)
