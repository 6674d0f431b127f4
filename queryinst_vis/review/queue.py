"""The queue of suggested corrections, ranked by expected gain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from queryinst_vis.review.candidates import find_candidates
from queryinst_vis.review.colours import ColourDescriptors
from queryinst_vis.review.index import TrackIndex
from queryinst_vis.review.session import ReviewSession
from queryinst_vis.review.state import ReviewState
from queryinst_vis.review.suggestions import Suggestion
from queryinst_vis.review.trajectories import embeddings_of_run, trajectory_of

_MIN_GAIN = 0.25  # regions
_DISMISSAL_FACTOR = 0.3  # of the probability, per dismissed suggestion about the same two tracks


def suggest(session: ReviewSession) -> list[Suggestion]:
    """Suggested corrections by descending expected gain, without dismissed ones.

    Args:
        session: the review session; appearance embeddings are taken from its ``run``, if present.

    Example::

        from queryinst_vis.review import ReviewSession, suggest

        with ReviewSession.open("out/street") as session:
            for suggestion in suggest(session)[:20]:
                print(f"{suggestion.kind}, gain {suggestion.gain:.1f}: {suggestion.reason}")
    """
    return suggestions_for(session.index, session.state, session.run, session.colours)


def suggestions_for(
    index: TrackIndex,
    state: ReviewState,
    run: Mapping[str, Any] | None,
    colours: ColourDescriptors | None = None,
) -> list[Suggestion]:
    """``suggest`` for any state, not only the current one of a session.

    Args:
        index: index of the results.
        state: the tracks.
        run: content of ``run.json``, or None.
        colours: colour descriptors of the regions; None: colours are not compared.
    """
    embeddings = embeddings_of_run(run)
    tracks = state.tracks.values()
    trajectories = [trajectory_of(index, track, embeddings, colours) for track in tracks]
    return ranked(find_candidates(trajectories), state.dismissed)


def ranked(found: Iterable[Suggestion], dismissed: frozenset[str]) -> list[Suggestion]:
    """Suggestions by descending expected gain.

    Args:
        found: suggestions, regardless of dismissals.
        dismissed: ids of dismissed suggestions. These are left out, and other suggestions that
            compare the same two tracks become less probable.
    """
    dismissals = Counter(pair for pair in map(_compared_tracks, dismissed) if pair)
    rated = (
        each.scaled(_DISMISSAL_FACTOR ** dismissals[_compared_tracks(each.id)])
        for each in found
        if not each.dismissed_by & dismissed
    )
    return sorted(
        (each for each in rated if each.gain >= _MIN_GAIN),
        key=lambda each: (-each.gain, each.id),
    )


def _compared_tracks(suggestion: str) -> frozenset[str]:
    """Ids, in the results, of the two tracks that a suggestion compares; empty for other kinds."""
    kind, *places = suggestion.split(":")
    if kind not in ("join", "swap"):
        return frozenset()
    return frozenset(place.split("@")[0] for place in places)
