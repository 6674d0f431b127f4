"""Checks of YouTube-VIS results for evaluation servers and for local evaluation."""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from queryinst_vis.data.tools.mask_checks import Masks, check_masks, check_repetitions
from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet, Video
from queryinst_vis.formats.annotations import is_one_per_frame, without_empty
from queryinst_vis.formats.findings import Finding, Place, Report
from queryinst_vis.formats.predictions import group_entries, parse_entries
from queryinst_vis.formats.reading import RESULTS_NAME, read_json_or_zip
from queryinst_vis.utils.numbers import is_finite
from queryinst_vis.utils.progress import show_progress

MAX_PREDICTIONS = 100
"""Maximum number of evaluated predictions per video and class; those with lower scores are
dropped."""


def check_submission(results: str | Path, video_set: AnnotationSet | None) -> list[Finding]:
    """Check a result file for problems with evaluation servers and with local evaluation.

    Servers run the reference code, which reads only compressed RLE; local evaluation does not
    require it.

    Args:
        results: JSON, or a zip.
        video_set: the evaluated set, which may have no annotations; None: check only keys and
            numbers.

    Raises:
        InputError: the file cannot be read, or the set contains images.
    """
    if video_set is not None and video_set.kind != "video":
        raise InputError("the set contains images; only results on videos can be checked")
    content = read_json_or_zip(results)
    found: list[Finding] = []
    _check_zip(results, found.append)
    if video_set is None:
        if content == []:
            found.append(Finding("nothing found", {}, "the list is empty: its AP is 0"))
        _check_scores(parse_entries(content, found.append, "video"), found.append)
        return found
    grouped = group_entries(content, video_set, found.append)
    for video in show_progress(list(video_set.videos.values()), "checking"):
        _check_scores(grouped[video.id], found.append)
        _check_video(video, grouped[video.id], video_set.categories, found.append)
    return found


def _check_zip(results: str | Path, report: Report) -> None:
    if not zipfile.is_zipfile(results):
        return
    with zipfile.ZipFile(results) as archive:
        others = [name for name in archive.namelist() if name != RESULTS_NAME]
    if others:
        message = f"the zip contains {len(others)} other files, e.g. {others[0]}"
        report(Finding("other files", {}, message))


def _check_scores(entries: Iterable[dict[str, Any]], report: Report) -> None:
    for entry in entries:
        score = entry["score"]
        if is_finite(score) and not 0 <= score <= 1:
            message = f"`score` {score:g} is not between 0 and 1"
            report(Finding("score range", {"entry": entry["id"]}, message))


def _check_video(
    video: Video, entries: list[dict[str, Any]], names: dict[int, str], report: Report
) -> None:
    if not entries:
        report(Finding("nothing found", video.place, "has no prediction"))
    by_class: dict[int, list[tuple[Place, Masks]]] = defaultdict(list)
    for entry in entries:
        place = {"entry": entry["id"], **video.place}
        masks: Masks = []
        if is_one_per_frame(entry["segmentations"], "segmentations", video, place, report):
            given = without_empty(entry["segmentations"], video, place, report)
            masks, _ = check_masks(given, video, place, report)
            _check_compression(given, place, report)
        by_class[entry["category_id"]].append((place, masks))
    for category_id, tracks in by_class.items():
        if len(tracks) > MAX_PREDICTIONS:
            message = (
                f"{len(tracks)} predictions of class {names[category_id]}; "
                f"only the {MAX_PREDICTIONS} with the highest scores are evaluated"
            )
            report(Finding("too many", video.place, message))
    check_repetitions([track for tracks in by_class.values() for track in tracks], report)


def _check_compression(segmentations: list[Any], place: Place, report: Report) -> None:
    for frame, mask in enumerate(segmentations):
        plain = isinstance(mask, list) or (
            isinstance(mask, dict) and isinstance(mask.get("counts"), list)
        )
        if mask and plain:
            what = "polygons" if isinstance(mask, list) else "uncompressed RLE"
            message = f"the mask is given as {what}; servers accept only compressed RLE"
            report(Finding("not compressed", {**place, "frame": frame}, message))
