"""What the queue of ``review`` is worth: identities set right by the number of looks it takes.

    python benchmarks/review_queue.py fit
    python benchmarks/review_queue.py score --out work/review_queue.json

An oracle reviews the suggestions about identities (fragments, changed identity, swapped), the
best first: it accepts what the ground truth confirms in the ten observations next to the place,
and dismisses the rest. Both count as one look, and after each accepted one the queue is made
anew. Regions are left as they are, so IDF1 and HOTA rise by identities alone; suggestions that
would remove or add regions are left out. ``perfect`` is what ``evaluation.identities.regroup``
makes of the same regions. Beside it the same queue in random order, by ten seeds.

``fit`` prints the numbers of ``queryinst_vis.review.likelihood``, from clips that ``score`` does
not use. Videos come from QUERYINST_VIS_DATA/data, and their tracks, by the weights ``people``, stay
in ``--cache``.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

from queryinst_vis.data.convert import convert_mots
from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.hota import hota_metrics
from queryinst_vis.evaluation.identities import Identities, identify, regroup
from queryinst_vis.evaluation.identity import identity_metrics
from queryinst_vis.evaluation.tracking_metrics import TrackingCounts, count_tracks
from queryinst_vis.formats.results import youtube_vis_entries
from queryinst_vis.formats.track_lines import read_track_lines
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.formats.video_set import MaskTrack, VideoSet, VideoTracks
from queryinst_vis.inference.track import track_video
from queryinst_vis.review import Merge, ReviewSession, Split, Suggestion, Swap
from queryinst_vis.review.actions import Edit
from queryinst_vis.review.courses import Course, course_of, embeddings_of_run, link
from queryinst_vis.review.edits import perform
from queryinst_vis.review.likelihood import Model, terms, terms_of_track
from queryinst_vis.review.pieces import Stored
from queryinst_vis.review.queue import LONGEST_GAP, places_of, suggestions_for, swap_at
from queryinst_vis.review.state import ReviewState
from queryinst_vis.utils.files import read_json, write_json_atomically

FITTED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "0002": ("mots", {"sequences": ["0002"]}),
    "0011": ("mots", {"sequences": ["0011"]}),
    "0005_train": ("mots", {"sequences": ["0005"], "end": 0.75}),
}
REVIEWED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "0005_reviewed": ("mots", {"sequences": ["0005"], "start": 0.75, "end": 0.875})
}
SCORED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "0005_test": ("mots", {"sequences": ["0005"], "start": 0.75}),
    **{
        name: ("sbi_people", {"sequences": [name]})
        for name in ("CAVIAR1", "CaVignal", "HallAndMonitor", "IBMtest2")
    },
}
"""Clips: folder in ``QUERYINST_VIS_DATA/data``, and options of ``convert_mots``."""

LOOKS = (0, 5, 10, 20, 40)
SEEDS = 10
IDENTITY = ("fragments", "changed identity", "swapped")
NEXT_TO = 10
"""Observations on either side of a place by which the oracle decides."""


@dataclass(frozen=True)
class Clip:
    """A tracked clip with its ground truth.

    Attributes:
        session: of its tracks.
        gt: the ground truth, and the tracks as they were found.
        shown: ``(frames,)`` ground truth of each region of a track, by track; -1: none.
        found: the tracks by their ids.
        perfect: the same regions with perfect identities.
    """

    session: ReviewSession
    gt: VideoTracks
    shown: dict[int, np.ndarray]
    found: dict[int, MaskTrack]
    perfect: list[MaskTrack]


def open_clip(name: str, cache: Path) -> Clip:
    """Convert and track a clip, unless ``cache`` has it."""
    folder, options = {**FITTED, **REVIEWED, **SCORED}[name]
    videos = data() / folder
    annotations, tracks = cache / f"{name}.json", cache / name
    if not annotations.exists():
        convert_mots(videos, annotations, **options)
    if not (tracks / "tracks.jsonl").exists():
        track_set(annotations, videos / "images", tracks)
    session = ReviewSession.open(tracks)
    gt, ids = compare(annotations, tracks)
    identities: Identities = identify(gt)
    return Clip(
        session,
        gt,
        dict(zip(ids, identities.shown, strict=True)),
        dict(zip(ids, gt.detections, strict=True)),
        regroup(gt, identities, cut=True, join=True),
    )


def data() -> Path:
    """The folder of the data sets."""
    if "QUERYINST_VIS_DATA" not in os.environ:
        raise InputError("QUERYINST_VIS_DATA must name the folder that holds data/")
    return Path(os.environ["QUERYINST_VIS_DATA"]) / "data"


def compare(annotations: Path, tracks: Path) -> tuple[VideoTracks, list[int]]:
    """The only video of a set with the tracks that were found in it, and their ids."""
    with TrackStore() as store:
        read_track_lines(tracks / "tracks.jsonl", store)
        category = min(VideoSet(str(annotations), []).categories)  # scored as of any class
        entries = youtube_vis_entries(store, 1, [category])
        ids = [track.track_id for track in store]
    [gt] = VideoSet(str(annotations), entries)
    return gt, ids


def track_set(annotations: Path, images: Path, folder: Path, weights: str = "people") -> None:
    """Track the only video of a set."""
    [video] = read_json(annotations, "annotations")["videos"]
    track_video([images / name for name in video["file_names"]], folder, weights, save=("jsonl",))


def courses_of(clip: Clip, state: ReviewState) -> dict[int, Course]:
    """The courses of a state's tracks."""
    embeddings = embeddings_of_run(clip.session.run)
    return {
        id_: course_of(clip.session.index, track, embeddings) for id_, track in state.tracks.items()
    }


def gt_of(clip: Clip, course: Course) -> np.ndarray:
    """``(N,)`` the ground truth of each of a course's observations, -1: none."""
    pairs = zip(course.sources.tolist(), course.frames.tolist(), strict=True)
    return np.array([clip.shown[source][frame] for source, frame in pairs], dtype=int)


def who(gt: np.ndarray, *, at_end: bool) -> int | None:
    """The object that most of the known observations at an end show; None: nothing is known."""
    known = gt[gt >= 0]
    known = known[-NEXT_TO:] if at_end else known[:NEXT_TO]
    return int(np.bincount(known).argmax()) if len(known) else None


def confirmed(clip: Clip, state: ReviewState, action: Edit) -> bool:
    """Whether the ground truth says that the action of a suggestion is right."""

    def course(track: int) -> Course:
        return course_of(clip.session.index, state.track(track), {})

    def sides(track: Course, frame: int) -> tuple[int | None, int | None]:
        gt, at = gt_of(clip, track), int(np.searchsorted(track.frames, frame))
        return who(gt[:at], at_end=True), who(gt[at:], at_end=False)

    if isinstance(action, Split):
        before, after = sides(course(action.track), action.frame)
        return before is not None and after is not None and before != after
    if isinstance(action, Swap):
        first, second = (
            sides(course(track), action.frame) for track in (action.first, action.second)
        )
        rest = second[1] is None or second[1] == first[0]
        return first[0] != first[1] and first[1] is not None and second[0] == first[1] and rest
    assert isinstance(action, Merge)
    earlier, later = sorted(
        (course(action.first), course(action.second)), key=lambda track: int(track.frames[0])
    )
    begin = int(later.frames[0])
    before, _ = sides(earlier, begin)
    return before is not None and before == who(gt_of(clip, later), at_end=False)


def counts_of(gt: VideoTracks, detections: list[MaskTrack]) -> TrackingCounts:
    """What tracks amount to, whatever their classes."""
    return count_tracks(replace(gt, detections=detections), None)


def detections_of(clip: Clip, state: ReviewState) -> list[MaskTrack]:
    """The tracks of a state, made of the regions that were found."""
    detections = []
    for track in state.tracks.values():
        masks: list[Any] = [None] * clip.gt.video.length
        sizes = np.zeros(len(masks), dtype=np.int64)
        for piece in track.pieces:
            assert isinstance(piece.source, Stored)
            found = clip.found[piece.source.track_id]
            masks[piece.start : piece.stop] = _over(
                masks[piece.start : piece.stop], found.masks[piece.start : piece.stop]
            )
            sizes[piece.start : piece.stop] += found.sizes[piece.start : piece.stop]
        detections.append(MaskTrack(track.track_id, 1, masks, sizes, float(sizes.mean()), 1.0))
    return detections


def _over(old: list[Any], new: list[Any]) -> list[Any]:
    return [b if a is None else a for a, b in zip(old, new, strict=True)]


class Look(NamedTuple):
    """What has come of the looks so far.

    Attributes:
        state: the tracks.
        confirmed: number of suggestions that were accepted.
        accepted: what the last look led to; None: it was dismissed, or there was none yet.
    """

    state: ReviewState
    confirmed: int = 0
    accepted: Edit | None = None


def review(clip: Clip, most: int, seed: int | None) -> Iterator[Look]:
    """Let the oracle look at suggestions; ``seed`` shuffles them.

    Yields:
        The state before any look, and after each.
    """
    index, state = clip.session.index, clip.session.state
    chooser = None if seed is None else random.Random(seed)
    right = 0
    yield Look(state)
    queue: list[Suggestion] | None = None
    for _ in range(most):
        if queue is None:
            queue = _about_identity(clip, state)
            if chooser is not None:
                chooser.shuffle(queue)
        queue = [each for each in queue if not each.answered_by & state.dismissed]
        if not queue:
            break
        suggestion = queue.pop(0)
        state = perform(index, state, suggestion.dismiss).state  # whatever comes of it
        accepted = suggestion.accept if confirmed(clip, state, suggestion.accept) else None
        if accepted is not None:
            right += 1
            state = perform(index, state, accepted).state
            queue = None
        yield Look(state, right, accepted)


def _about_identity(clip: Clip, state: ReviewState) -> list[Suggestion]:
    """Suggestions that leave all regions as they are."""
    return [
        each
        for each in suggestions_for(clip.session.index, state, clip.session.run)
        if each.kind in IDENTITY and not (isinstance(each.accept, Merge) and each.accept.decide)
    ]


def curve(clip: Clip, seed: int | None) -> list[tuple[int, TrackingCounts]]:
    """Confirmed suggestions and counts after each number of ``LOOKS``."""
    looks = list(review(clip, max(LOOKS), seed))
    reached = [looks[min(number, len(looks) - 1)] for number in LOOKS]
    return [
        (look.confirmed, counts_of(clip.gt, detections_of(clip, look.state))) for look in reached
    ]


def metrics(counts: TrackingCounts) -> dict[str, float]:
    """HOTA and IDF1 in per cent."""
    return {
        "HOTA": 100 * float(hota_metrics(counts.hota)["HOTA"]),
        "IDF1": 100 * float(identity_metrics(counts.identity)["IDF1"]),
    }


def score(names: list[str], cache: Path, seeds: int) -> dict[str, Any]:
    """The figures of each clip, and of the SBI clips together."""
    table = {}
    pooled: dict[str, list[TrackingCounts]] = {}
    for name in names:
        clip = open_clip(name, cache)
        ranked = curve(clip, None)
        shuffled = [curve(clip, seed) for seed in range(seeds)]
        perfect = counts_of(clip.gt, clip.perfect)
        table[name] = _row(
            [counts for _, counts in ranked],
            [[counts for _, counts in run] for run in shuffled],
            perfect,
        )
        table[name]["confirmed"] = [right for right, _ in ranked]
        clip.session.close()
        if SCORED.get(name, ("", {}))[0] == "sbi_people":
            own = {"perfect": [perfect], "ranked": [counts for _, counts in ranked]}
            own |= {f"seed {k}": [counts for _, counts in run] for k, run in enumerate(shuffled)}
            for key, counts in own.items():
                before = pooled.get(key)
                pooled[key] = (
                    [reduce(add, pair) for pair in zip(before, counts, strict=True)]
                    if (before)
                    else counts
                )
    if pooled:
        runs = [pooled[f"seed {k}"] for k in range(seeds)]
        table["SBI, all clips"] = _row(pooled["ranked"], runs, pooled["perfect"][0])
    return table


def _row(
    ranked: list[TrackingCounts], shuffled: list[list[TrackingCounts]], perfect: TrackingCounts
) -> dict[str, Any]:
    best, row = metrics(perfect), {}
    for key in best:
        values = [metrics(counts)[key] for counts in ranked]
        random_ones = [[metrics(counts)[key] for counts in run] for run in shuffled]
        gain = best[key] - values[0]
        row[key] = {
            "ranked": values,
            "share": [(value - values[0]) / gain if gain > 0.005 else None for value in values],
            "shuffled": [mean(column) for column in zip(*random_ones, strict=True)],
            "deviation": [stdev(column) for column in zip(*random_ones, strict=True)],
            "perfect": best[key],
        }
    return row


def fit(names: list[str], cache: Path) -> dict[str, Model]:
    """The numbers of ``likelihood``, by logistic regression with a small penalty."""
    joins: list[tuple[dict[str, float], bool]] = []
    breaks: list[tuple[dict[str, float], bool]] = []
    weak: list[tuple[dict[str, float], bool]] = []
    swaps: list[tuple[dict[str, float], bool]] = []
    for name in names:
        clip = open_clip(name, cache)
        courses = list(courses_of(clip, clip.session.state).values())
        gts = {course.track_id: gt_of(clip, course) for course in courses}
        for course in courses:
            gt = gts[course.track_id]
            weak.append((terms_of_track(course.scores), bool((gt >= 0).mean() < 0.5)))
            breaks += _breaks(course, gt)
            swaps += _swaps(clip, course, courses)
            for other in courses:
                gap = int(other.frames[0]) - int(course.frames[-1])
                ends = who(gt, at_end=True), who(gts[other.track_id], at_end=False)
                if 0 < gap <= LONGEST_GAP:
                    joins.append((terms(link(course, other)), None is not ends[0] == ends[1]))
        clip.session.close()
    no_look = {"unlikeness"}
    return {
        "JOIN": _fit(joins, set()),
        "BREAK": _fit(breaks, no_look),
        "SWAP": _fit(swaps, set()),
        "WEAK": _fit(weak, set()),
    }


def _breaks(course: Course, gt: np.ndarray) -> Iterator[tuple[dict[str, float], bool]]:
    """Successive observations that show one object, or two that stay for a while."""
    for at in range(1, len(course)):
        sides = who(gt[:at], at_end=True), who(gt[at:], at_end=False)
        near = gt[max(0, at - 1)], gt[at]
        changes = None not in sides and sides[0] != sides[1]
        if changes and near != sides and course.frames[at] - course.frames[at - 1] == 1:
            continue  # near a change, but not at it
        yield terms(link(course.part(max(0, at - 15), at), course.part(at, at + 15))), changes


def _swaps(
    clip: Clip, course: Course, others: list[Course]
) -> Iterator[tuple[dict[str, float], bool]]:
    for place in places_of(course):
        for other in others:
            values = None if other is course else swap_at(place, other)
            if values is not None:
                action = Swap(course.track_id, other.track_id, place.frame)
                yield values, confirmed(clip, clip.session.state, action)


def _fit(samples: list[tuple[dict[str, float], bool]], without: set[str]) -> Model:
    names = [name for name in samples[0][0] if name not in without]
    values = np.array([[each[name] for name in names] for each, _ in samples])
    signs = np.array([1.0 if event else -1.0 for _, event in samples])

    def loss(weights: np.ndarray) -> float:
        fits = np.logaddexp(0, -signs * (values @ weights)).sum()
        return float(fits + 0.3 * (weights[1:] ** 2).sum())

    found = minimize(loss, np.zeros(len(names)), method="BFGS").x
    print(f"{len(samples)} samples, {int((signs > 0).sum())} of them events")
    return dict(zip(names, found.round(3).tolist(), strict=True))


def show(table: dict[str, Any], console: Console) -> None:
    """A table a metric."""
    for key in ("IDF1", "HOTA"):
        shown = Table(
            "clip", *(f"{looks}" for looks in LOOKS), "perfect", title=f"{key}, % (share)"
        )
        for name, row in table.items():
            values = row[key]
            cells = [
                f"{value:.1f}" + ("" if part is None else f" ({part:.0%})")
                for value, part in zip(values["ranked"], values["share"], strict=True)
            ]
            shown.add_row(name, *cells, f"{values['perfect']:.1f}")
            cells = [
                f"{value:.1f} ±{spread:.1f}"
                for value, spread in zip(values["shuffled"], values["deviation"], strict=True)
            ]
            shown.add_row("  shuffled", *cells, "")
        console.print(shown)


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("fit", "score"))
    parser.add_argument("--clips", nargs="+", metavar="NAME", help="(default: those meant for it)")
    parser.add_argument("--cache", type=Path, default=Path("work/review_queue"), metavar="DIR")
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, metavar="N", help="random orders, two or more"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write all figures")
    arguments = parser.parse_args()
    if arguments.what == "fit":
        found: Any = fit(arguments.clips or list(FITTED), arguments.cache)
        for name, model in found.items():
            print(name, model)
    else:
        found = score(arguments.clips or list(SCORED), arguments.cache, arguments.seeds)
        show(found, Console())
    if arguments.out:
        write_json_atomically(arguments.out, found)


if __name__ == "__main__":
    main()
