"""What an evaluation server, or our own evaluation, will not like about YouTube-VIS results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from queryinst_vis.data.tools.annotation_set import AnnotationSet, Medium
from queryinst_vis.data.tools.findings import Finding, Place
from queryinst_vis.data.tools.mask_checks import check_masks, check_repetitions
from queryinst_vis.formats.fields import is_finite, is_integer
from queryinst_vis.masks import RLE
from queryinst_vis.utils.progress import show_progress

MAX_PREDICTIONS = 100
"""Predictions that count, per video and class: more are dropped, the weakest first."""

_KEYS = ("video_id", "category_id", "score", "segmentations")

PlacedEntries = list[tuple[Place, dict[str, Any]]]
"""Entries of a result file, each with its place there."""


def check_structure(content: Any, found: list[Finding]) -> PlacedEntries:
    """Check what needs no data set: keys, numbers, and that there is anything.

    Args:
        content: of a result file.
        found: where findings go.

    Returns:
        The entries that have every key, with their places.
    """
    if not isinstance(content, list):
        message = f"must be a list of predictions, is a {type(content).__name__}"
        found.append(Finding("missing list", {}, message))
        return []
    if not content:
        found.append(Finding("missing list", {}, "the list is empty, there is nothing to score"))
    placed = []
    for number, entry in enumerate(content):
        place = {"entry": number}
        missing = [key for key in _KEYS if key not in entry] if isinstance(entry, dict) else _KEYS
        if missing:
            message = (
                f"has no {', '.join(f'`{key}`' for key in missing)}"
                if isinstance(entry, dict)
                else f"must be an object, is a {type(entry).__name__}"
            )
            found.append(Finding("broken entry", place, message))
            continue
        _check_score(entry["score"], place, found)
        placed.append((place, entry))
    return placed


def _check_score(score: Any, place: Place, found: list[Finding]) -> None:
    if not is_finite(score):
        message = f"`score` must be a finite number, is {score!r:.40}"
        found.append(Finding("score", place, message))
    elif not 0 <= score <= 1:
        found.append(Finding("score range", place, f"`score` {score:g} is not within 0 and 1"))


def group_results(
    content: Any, video_set: AnnotationSet, found: list[Finding]
) -> dict[int, PlacedEntries]:
    """The entries with all keys and known ids, and their places, by video; others to ``found``."""
    by_video: dict[int, PlacedEntries] = defaultdict(list)
    for place, entry in check_structure(content, found):
        if _has_known_ids(place, entry, video_set, found):
            by_video[entry["video_id"]].append((place, entry))
    return by_video


def check_results(content: Any, video_set: AnnotationSet, found: list[Finding]) -> None:
    """Check results against the videos and classes that they are for; faults go to ``found``.

    Beyond what evaluation needs, masks must be compressed run lengths: the reference code, which
    servers run, reads nothing else.

    Args:
        content: of a result file.
        video_set: may be without annotations, as public validation and test sets are.
        found: where findings go.
    """
    by_video = group_results(content, video_set, found)
    media = list(video_set.media.values())
    for video in show_progress(media, "checking"):
        _check_video(video, by_video[video.id], video_set.categories, found)


def _has_known_ids(
    place: Place, entry: dict[str, Any], video_set: AnnotationSet, found: list[Finding]
) -> bool:
    known = True
    for key, ids in (("video_id", video_set.media), ("category_id", video_set.categories)):
        if not is_integer(entry[key]) or entry[key] not in ids:
            message = f"{key} {entry[key]!r:.40} is not in the data set"
            found.append(Finding("unknown id", place, message))
            known = False
    return known


def _check_video(
    video: Medium, placed: PlacedEntries, names: dict[int, str], found: list[Finding]
) -> None:
    if not placed:
        found.append(Finding("nothing found", video.place, "has no prediction"))
    by_class: dict[int, list[tuple[Place, Sequence[RLE | None]]]] = defaultdict(list)
    for place, entry in placed:
        here = {**place, **video.place}
        masks = check_masks(entry["segmentations"], video, here, found)
        _check_compression(entry["segmentations"], here, found)
        by_class[entry["category_id"]].append((here, masks))
    for category_id, tracks in by_class.items():
        if len(tracks) > MAX_PREDICTIONS:
            message = (
                f"{len(tracks)} predictions of class {names[category_id]}; "
                f"only the {MAX_PREDICTIONS} best count"
            )
            found.append(Finding("too many", video.place, message))
    check_repetitions([track for tracks in by_class.values() for track in tracks], found)


def _check_compression(segmentations: Any, place: Place, found: list[Finding]) -> None:
    for frame, mask in enumerate(segmentations if isinstance(segmentations, list) else []):
        plain = isinstance(mask, list) or (
            isinstance(mask, dict) and isinstance(mask.get("counts"), list)
        )
        if mask and plain:
            what = "polygons" if isinstance(mask, list) else "plain run lengths"
            message = f"the mask is given as {what}; servers take compressed run lengths only"
            found.append(Finding("not compressed", {**place, "frame": frame}, message))
