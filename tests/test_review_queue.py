"""The queue of suggestions: each kind of error, acceptance, dismissal and ranking."""

from __future__ import annotations

import json

import pytest

from queryinst_vis.cli import main
from queryinst_vis.review import (
    Delete,
    Fill,
    Merge,
    ReviewSession,
    Split,
    Swap,
    from_json,
    suggest,
)
from tests.review_support import frames_of, shown, write_results


def walk(frames, y, x=0.0, step=0.25):
    """A square that moves by ``step`` pixels per frame."""
    return {frame: (x + step * frame, y) for frame in frames}


@pytest.fixture
def review(tmp_path):
    """A function that opens a session of the given tracks, closed after the test."""
    sessions = []

    def open_review(tracks, length=60, **options):
        write_results(tmp_path, tracks, length, **options)
        sessions.append(ReviewSession.open(tmp_path))
        return sessions[-1]

    yield open_review
    for session in sessions:
        session.close()


def of_kind(session, kind):
    return [each for each in suggest(session) if each.kind == kind]


def test_fragments_are_found(review):
    session = review({1: walk(range(25), 2), 2: walk(range(30, 60), 2), 3: walk(range(60), 16)})
    best = suggest(session)[0]
    assert (best.kind, best.accept) == ("fragments", Merge(2, 1))
    assert best.crops == ((1, 24), (2, 30))
    assert "6 frames after track 1" in best.reason
    assert 0 < best.probability < 1
    assert best.gain == pytest.approx(
        0.6 * best.probability * 25
    )  # the merged part may hold errors
    session.apply(best.accept)
    assert not of_kind(session, "fragments")
    assert len(frames_of(session, 2)) == 55


def test_a_fragment_in_the_gap_of_a_track_is_found(review):
    tracks = {1: walk([*range(15), *range(40, 60)], 2), 2: walk(range(17, 38), 2)}
    session = review(tracks)
    assert Merge(1, 2) in [each.accept for each in of_kind(session, "fragments")]


def test_tracks_with_common_frames_are_no_fragments(review):
    session = review({1: walk(range(40), 2), 2: walk(range(30, 60), 2)})
    assert not of_kind(session, "fragments")


def test_an_identity_switch_is_found(review):
    session = review({1: walk(range(30), 2) | walk(range(36, 60), 16, x=10)})
    best = of_kind(session, "changed identity")[0]
    assert best.accept == Split(1, 36)
    assert best.crops == ((1, 29), (1, 36))
    session.apply(best.accept)
    remaining = of_kind(session, "changed identity")
    assert Split(1, 36) not in [each.accept for each in remaining]
    assert not of_kind(session, "fragments")  # the user has split them


def test_a_track_that_continues_another_is_found(review):
    tracks = {1: walk(range(30), 2) | walk(range(30, 60), 16), 2: walk(range(28), 16)}
    session = review(tracks)
    best = of_kind(session, "swapped")[0]
    assert best.accept == Swap(1, 2, 30)
    assert best.crops == ((2, 27), (1, 30))
    session.apply(best.accept)
    assert all(tracks.get(1, (0, 2))[1] == 2 for tracks in shown(session).values())


def test_tracks_that_swap_identities_are_found(review):
    tracks = {
        1: walk(range(30), 2) | walk(range(30, 60), 16),
        2: walk(range(30), 16) | walk(range(30, 60), 2),
    }
    session = review(tracks)
    best = of_kind(session, "swapped")[0]
    assert best.accept in (Swap(1, 2, 30), Swap(2, 1, 30))
    session.apply(best.accept)
    assert not [each for each in of_kind(session, "changed identity") if each.accept.frame == 30]


def test_duplicates_are_found(review):
    session = review({1: walk(range(60), 2), 2: walk(range(10, 30), 2, x=0.5)})
    [best] = of_kind(session, "duplicate")
    assert best.accept == Merge(1, 2, decide="keep first")
    session.apply(best.accept)
    assert [track.track_id for track in session.tracks()] == [1]


def test_short_tracks_with_low_scores_are_found(review):
    session = review({1: walk(range(60), 2), 2: walk(range(3), 12), 3: walk(range(40, 50), 12)})
    probabilities = {each.accept: each.probability for each in of_kind(session, "weak")}
    assert probabilities[Delete(2)] > probabilities.get(Delete(3), 0)
    assert Delete(1) not in probabilities


def test_a_gap_is_found_and_filled(review):
    session = review({1: walk([*range(20), *range(25, 60)], 2)})
    [gap] = of_kind(session, "gap")
    assert gap.accept == Fill(1, ((20, 24),))
    assert session.apply(gap.accept).regions == 5
    assert session.track(1).interpolated == ((20, 25),)
    assert session.frame(22).regions[0].box[0] in (5.0, 6.0)
    assert not of_kind(session, "gap")


def test_suggestions_are_sorted_by_descending_gain(review):
    tracks = {1: walk(range(25), 2), 2: walk(range(30, 60), 2), 3: walk([5, 9, 14], 16)}
    gains = [each.gain for each in suggest(review(tracks))]
    assert gains == sorted(gains, reverse=True)


def test_a_dismissed_suggestion_returns_only_after_undo(review, tmp_path):
    tracks = {1: walk(range(25), 2), 2: walk(range(30, 60), 2)}
    session = review(tracks)
    best = suggest(session)[0]
    session.apply(best.dismiss)
    session.close()
    with ReviewSession.open(tmp_path) as later:
        assert best.id not in [each.id for each in suggest(later)]
        later.apply(from_json({"action": "undo"}))
        assert suggest(later)[0] == best


def test_dismissing_an_identity_switch_dismisses_swaps_in_its_frame(review):
    tracks = {1: walk(range(30), 2) | walk(range(30, 60), 16), 2: walk(range(28), 16)}
    session = review(tracks)
    change = next(each for each in of_kind(session, "changed identity") if each.accept.frame == 30)
    session.apply(change.dismiss)
    assert not [each for each in of_kind(session, "swapped") if each.accept.frame == 30]


def test_embeddings_rank_fragments(review, tmp_path):
    tracks = {1: walk(range(25), 8, step=0), 2: walk(range(30, 60), 5, step=0)}
    tracks[3] = walk(range(30, 60), 11, step=0)
    embeddings = {"1": [1.0, 0.0], "2": [-0.6, 0.8], "3": [0.9, 0.1]}
    run = {"format": "queryinst-vis run", "version": 1, "source": {}, "embeddings": embeddings}
    (tmp_path / "run.json").write_text(json.dumps(run))
    first, second = of_kind(review(tracks), "fragments")[:2]
    assert {first.accept.first, first.accept.second} == {1, 3}
    assert first.probability > second.probability


@pytest.mark.parametrize(
    "embeddings",
    [None, [], {"1": "x", "2": [1, 2]}, {"1": [1], "2": [1, 2]}, {"1": [0, 0]}, {"a": [1.0]}],
)
def test_malformed_embeddings_are_ignored(review, tmp_path, embeddings):
    tracks = {1: walk(range(25), 2), 2: walk(range(30, 60), 2)}
    run = {"format": "queryinst-vis run", "source": {}, "embeddings": embeddings}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert suggest(review(tracks))[0].accept == Merge(2, 1)


def test_suggestions_on_the_command_line_can_be_applied(review, tmp_path, capsys):
    review({1: walk(range(25), 2), 2: walk(range(30, 60), 2)}).close()
    assert main(["review", str(tmp_path), "--suggest", "1"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["kind"], found["crops"][0]) == ("fragments", {"track": 1, "frame": 24})
    (tmp_path / "a.jsonl").write_text(json.dumps(found["accept"]))
    assert main(["review", str(tmp_path), "--apply", str(tmp_path / "a.jsonl")]) == 0
    assert "1 actions applied; 1 tracks" in capsys.readouterr().out


def test_a_video_without_tracks_has_no_suggestions(review):
    assert suggest(review({})) == []
