"""Error analysis: the AP lost to each error type, and AP by attributes of objects.

After Hoiem et al., *Diagnosing Error in Object Detectors*, ECCV 2012, and Bolya et al., *TIDE*,
ECCV 2020, applied to tracks: an oracle repairs one type of error in the results, and the gain in AP
is the cost of that type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.attributes import (
    MeasuredClass,
    break_down,
    measure_video,
    pooled_precision,
)
from queryinst_vis.evaluation.average_precision import Matches, mean_defined
from queryinst_vis.evaluation.breakdown import (
    ClassPair,
    class_pairs,
    lost_per_video,
    name_pairs,
    precision_recall,
)
from queryinst_vis.evaluation.candidates import Kind
from queryinst_vis.evaluation.clear import IdSwitch, id_switches
from queryinst_vis.evaluation.identities import identify
from queryinst_vis.evaluation.oracles import (
    IDENTITY_ERRORS,
    ErrorType,
    countable,
    find_candidates,
    repair,
)
from queryinst_vis.evaluation.workers import map_videos
from queryinst_vis.evaluation.youtube_vis import match_video
from queryinst_vis.formats.video_set import VideoSet, VideoTracks

Repairs = frozenset[ErrorType]
"""A set of error types that are repaired together."""

NO_REPAIRS: Repairs = frozenset()
ALONE = {error: frozenset({error}) for error in ErrorType}
IN_TURN = [frozenset(list(ErrorType)[:count]) for count in range(len(ErrorType) + 1)]
"""No repairs, the first error type, the first two, ..., all of them: the steps of the waterfall."""
ALL_BUT_SCORES = frozenset(ErrorType) - {ErrorType.RANKING}
"""Everything repaired except the scores."""
EVALUATED_REPAIRS = list(dict.fromkeys([*IN_TURN, *ALONE.values(), ALL_BUT_SCORES]))
"""Every set of repairs with which the results are evaluated."""


class Diagnosis(TypedDict):
    """What ``diagnose`` found; all gains and APs are fractions.

    AP, the waterfall and the limit add up to 1.

    Attributes:
        videos: number and checksum, as in ``evaluate_youtube_vis``.
        AP: of the results as they are.
        alone: gain in AP if only this error type is repaired.
        waterfall: gain in AP if this type is repaired after those before it, in the order of
            ``ErrorType``.
        limit: the remainder to 1, which is not 0 only if a video has more than 100 objects of a
            class.
        detections: number of detections by ``Kind``.
        objects: number of objects: ``all``, ``found`` (IoU .5, correct class), ``split`` among
            several detections; and ``merged``, the number of detections that cover several.
        breakdown: see ``break_down``.
        precision_recall: see ``breakdown.precision_recall``.
        confusion: see ``breakdown.name_pairs``.
        lost_per_video: by video name, the gain in AP if all errors in this video except the scores
            were repaired.
        id_switches: the fields of each ``IdSwitch``, with the names of its ``video`` and ``class``,
            by video and frame.
    """

    videos: dict[str, Any]
    AP: float
    alone: dict[str, float]
    waterfall: dict[str, float]
    limit: float
    detections: dict[str, int]
    objects: dict[str, int]
    breakdown: dict[str, list[dict[str, Any]]]
    precision_recall: dict[str, Any]
    confusion: list[dict[str, Any]]
    lost_per_video: dict[str, float]
    id_switches: list[dict[str, Any]]


def diagnose(gt: str | Path | dict, results: str | Path | list, workers: int = 1) -> Diagnosis:
    """Analyse the errors of a result file.

    ``oracles.repair`` and ``identities.regroup`` define the repair of each error type,
    ``candidates.classify`` the kinds of detections, ``attributes`` the attributes of objects.
    One video is in memory at a time.

    Args:
        gt, results, workers: as for ``evaluate_youtube_vis``.

    Raises:
        InputError: a file is invalid, or no ground-truth object has any pixel.
    """
    video_set = VideoSet(gt, results)
    videos = map_videos(diagnose_video, video_set, "Analysing errors", workers)
    if not any(video.objects["countable"] for video in videos):
        raise InputError(
            "nothing to diagnose: apart from crowds, no ground-truth object has any pixel"
        )
    precision = {
        repairs: pooled_precision(
            [video.matches[repairs] for video in videos], video_set.categories
        )
        for repairs in EVALUATED_REPAIRS
    }
    ap = {repairs: mean_defined(values) for repairs, values in precision.items()}
    kinds = sum((video.detections for video in videos), Counter())
    objects = sum((video.objects for video in videos), Counter())
    pairs = sum((video.pairs for video in videos), Counter())
    return {
        "videos": video_set.summary,
        "AP": ap[NO_REPAIRS],
        "alone": {error.value: ap[repairs] - ap[NO_REPAIRS] for error, repairs in ALONE.items()},
        "waterfall": {
            error.value: ap[after] - ap[before]
            for error, (before, after) in zip(ErrorType, pairwise(IN_TURN), strict=True)
        },
        "limit": 1 - ap[IN_TURN[-1]],
        "detections": {kind.value: kinds[kind] for kind in Kind},
        "objects": {name: objects[name] for name in ("all", "found", "split", "merged")},
        "breakdown": break_down([video.measured for video in videos], video_set.categories),
        "precision_recall": precision_recall(precision[NO_REPAIRS], video_set.categories),
        "confusion": name_pairs(pairs, video_set.categories),
        "lost_per_video": _lost_by_name(videos, video_set, precision[NO_REPAIRS]),
        "id_switches": [_named(switch, video_set) for video in videos for switch in video.switches],
    }


def _lost_by_name(
    videos: Sequence[VideoDiagnosis], video_set: VideoSet, precision: np.ndarray
) -> dict[str, float]:
    lost = lost_per_video(
        [video.matches[NO_REPAIRS] for video in videos],
        [video.matches[ALL_BUT_SCORES] for video in videos],
        precision,
        video_set.categories,
    )
    names = [video_set.names[video.id] for video in video_set.videos]
    return dict(zip(names, lost, strict=True))


def _named(switch: IdSwitch, video_set: VideoSet) -> dict[str, Any]:
    return {
        "video": video_set.names[switch.video_id],
        "class": video_set.categories[switch.category_id],
        **asdict(switch),
    }


@dataclass(frozen=True)
class VideoDiagnosis:
    """The error analysis of one video.

    Attributes:
        matches: by set of repaired error types, then by category id.
        detections: number of detections of each kind.
        objects: numbers of objects: ``all``, ``countable``, ``found``, ``split``, ``merged``.
        measured: attributes by category id.
        switches: identity switches, by frame.
        pairs: see ``class_pairs``.
    """

    matches: dict[Repairs, dict[int, Matches]]
    detections: Counter[Kind]
    objects: Counter[str]
    measured: dict[int, MeasuredClass]
    switches: list[IdSwitch]
    pairs: Counter[ClassPair]


def diagnose_video(tracks: VideoTracks) -> VideoDiagnosis:
    """Match a video with each set of error types repaired, and collect its statistics."""
    by_score = sorted(tracks.detections, key=lambda track: -track.score)
    tracks = replace(tracks, detections=by_score)
    identities = identify(tracks)
    candidates = {
        repaired: find_candidates(tracks, identities, repaired)
        for repaired in {repairs & IDENTITY_ERRORS for repairs in EVALUATED_REPAIRS}
    }
    matches = {}
    for repairs in EVALUATED_REPAIRS:
        repaired = repair(tracks, candidates[repairs & IDENTITY_ERRORS], repairs)
        matches[repairs] = {
            category: found
            for (category, area_range), found in match_video(repaired).items()
            if area_range == "all"
        }
    kinds = Counter(candidate.kind for candidate in candidates[NO_REPAIRS])
    objects = Counter(
        all=sum(not gt.crowd for gt in tracks.ground_truth),
        countable=len(countable(tracks.ground_truth)),
        found=kinds[Kind.CORRECT],
        split=identities.num_split,
        merged=identities.num_merged,
    )
    pairs = class_pairs(candidates[NO_REPAIRS], countable(tracks.ground_truth))
    measured, switches = measure_video(tracks), _switches(tracks)
    return VideoDiagnosis(matches, kinds, objects, measured, switches, pairs)


def _switches(tracks: VideoTracks) -> list[IdSwitch]:
    """The identity switches of all classes, by frame."""
    categories = sorted({gt.category_id for gt in tracks.ground_truth})
    switches = [switch for category in categories for switch in id_switches(tracks, category)]
    return sorted(switches, key=lambda switch: switch.frame)
