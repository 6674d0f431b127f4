"""Why AP is not 1: what each cause costs, and which objects are hard.

In the spirit of Hoiem et al., *Diagnosing Error in Object Detectors*, ECCV 2012, and Bolya et
al., *TIDE*, ECCV 2020, for tracks: an oracle repairs one cause in the results, the rest is
evaluated as before, and the gain in AP is what the cause costs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

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
    IDENTITY_CAUSES,
    Cause,
    countable,
    find_candidates,
    repair,
)
from queryinst_vis.evaluation.workers import map_videos
from queryinst_vis.evaluation.youtube_vis import match_video
from queryinst_vis.formats.video_set import VideoSet, VideoTracks

Causes = frozenset[Cause]

NOTHING_REPAIRED: Causes = frozenset()
ALONE = {cause: frozenset({cause}) for cause in Cause}
IN_TURN = [frozenset(list(Cause)[:count]) for count in range(len(Cause) + 1)]
"""Nothing repaired, the first cause, the first two, ..., all of them."""
RIGHT_AS_RANKED = frozenset(Cause) - {Cause.RANKING}
"""Everything repaired, with the scores as they were."""
STATES = list(dict.fromkeys([*IN_TURN, *ALONE.values(), RIGHT_AS_RANKED]))


def diagnose(gt: str | Path | dict, results: str | Path | list, workers: int = 1) -> dict[str, Any]:
    """Explain the gap between a result file's AP and 1.

    ``oracles.repair`` and ``identities.regroup`` say what repairing a cause means,
    ``candidates.classify`` what the kinds of detections are, ``attributes`` how objects are
    measured. One video is in memory at a time, beside the two files.

    Args:
        gt, results, workers: as for ``evaluate_youtube_vis``.

    Returns:
        ``AP``; ``alone``: ``{cause: gain in AP if only that is repaired}``; ``waterfall``:
        ``{cause: gain in AP if it is repaired after those before it}``, in the order of
        ``Cause``; ``limit``: what is left of 1 after that, not 0 only where a video holds more
        than 100 objects of a class. AP, the waterfall and the limit add up to 1.
        ``detections``: number of detections by kind. ``objects``: how many there are, are
        ``found`` (IoU .5, right class), are ``split`` among detections, and how many detections
        are ``merged`` from objects. ``breakdown``: see ``break_down``.
        ``precision_recall``, ``confusion``: see ``breakdown.precision_recall`` and
        ``breakdown.name_pairs``. ``lost_per_video``: ``{video name: gain in AP if that video had
        no error but its scores}``. ``id_switches``: one ``IdSwitch`` as a dict each,
        with the names of its ``video`` and ``class``, by video and frame. ``videos``: as in
        ``evaluate_youtube_vis``.

    Raises:
        InputError: a file cannot be used, or no object has a single pixel.
    """
    video_set = VideoSet(gt, results)
    videos = map_videos(diagnose_video, video_set, "Repairing causes one by one", workers)
    if not any(video.objects["countable"] for video in videos):
        raise InputError(
            "nothing to explain: no object of the ground truth, crowd aside, has a single pixel"
        )
    precision = {
        causes: pooled_precision([video.matches[causes] for video in videos], video_set.categories)
        for causes in STATES
    }
    ap = {causes: mean_defined(values) for causes, values in precision.items()}
    names = [video_set.names[video.id] for video in video_set.videos]
    lost = lost_per_video(
        [video.matches[NOTHING_REPAIRED] for video in videos],
        [video.matches[RIGHT_AS_RANKED] for video in videos],
        precision[NOTHING_REPAIRED],
        video_set.categories,
    )
    kinds = sum((video.detections for video in videos), Counter())
    objects = sum((video.objects for video in videos), Counter())
    return {
        "videos": video_set.summary,
        "AP": ap[NOTHING_REPAIRED],
        "alone": {
            cause.value: ap[causes] - ap[NOTHING_REPAIRED] for cause, causes in ALONE.items()
        },
        "waterfall": {
            cause.value: ap[after] - ap[before]
            for cause, (before, after) in zip(Cause, pairwise(IN_TURN), strict=True)
        },
        "limit": 1 - ap[IN_TURN[-1]],
        "detections": {kind.value: kinds[kind] for kind in Kind},
        "objects": {name: objects[name] for name in ("all", "found", "split", "merged")},
        "breakdown": break_down([video.measured for video in videos], video_set.categories),
        "precision_recall": precision_recall(precision[NOTHING_REPAIRED], video_set.categories),
        "confusion": name_pairs(
            sum((video.pairs for video in videos), Counter()), video_set.categories
        ),
        "lost_per_video": dict(zip(names, lost, strict=True)),
        "id_switches": [
            {
                "video": video_set.names[switch.video_id],
                "class": video_set.categories[switch.category_id],
                **asdict(switch),
            }
            for video in videos
            for switch in video.switches
        ],
    }


@dataclass(frozen=True)
class VideoDiagnosis:
    """What is kept of a video.

    Attributes:
        matches: by the causes that are repaired, then category id.
        detections: number of each kind.
        objects: numbers: ``all``, ``countable``, ``found``, ``split``, ``merged``.
        measured: by category id.
        switches: by frame.
        pairs: see ``class_pairs``.
    """

    matches: dict[Causes, dict[int, Matches]]
    detections: Counter[Kind]
    objects: Counter[str]
    measured: dict[int, MeasuredClass]
    switches: list[IdSwitch]
    pairs: Counter[ClassPair]


def diagnose_video(tracks: VideoTracks) -> VideoDiagnosis:
    """Match a video in every state of repair, count and measure what is in it."""
    by_score = sorted(tracks.detections, key=lambda track: -track.score)
    tracks = replace(tracks, detections=by_score)
    identities = identify(tracks)
    candidates = {
        repaired: find_candidates(tracks, identities, repaired)
        for repaired in {causes & IDENTITY_CAUSES for causes in STATES}
    }
    matches = {}
    for causes in STATES:
        repaired = repair(tracks, candidates[causes & IDENTITY_CAUSES], causes)
        matches[causes] = {
            category: found
            for (category, area_range), found in match_video(repaired).items()
            if area_range == "all"
        }
    kinds = Counter(candidate.kind for candidate in candidates[NOTHING_REPAIRED])
    objects = Counter(
        all=sum(not gt.crowd for gt in tracks.ground_truth),
        countable=len(countable(tracks.ground_truth)),
        found=kinds[Kind.CORRECT],
        split=identities.num_split,
        merged=identities.num_merged,
    )
    pairs = class_pairs(candidates[NOTHING_REPAIRED], countable(tracks.ground_truth))
    measured, switches = measure_video(tracks), _switches(tracks)
    return VideoDiagnosis(matches, kinds, objects, measured, switches, pairs)


def _switches(tracks: VideoTracks) -> list[IdSwitch]:
    """The identity switches of all classes, by frame."""
    categories = sorted({gt.category_id for gt in tracks.ground_truth})
    switches = [switch for category in categories for switch in id_switches(tracks, category)]
    return sorted(switches, key=lambda switch: switch.frame)
