"""Result files: YouTube-VIS results, with one entry per track, and COCO results."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.formats.annotation_set import AnnotationSet, Kind, check_ids
from queryinst_vis.formats.fields import is_box, shortened
from queryinst_vis.formats.findings import Finding, Report, refuse_faults
from queryinst_vis.formats.reading import read_json_or_zip
from queryinst_vis.utils.numbers import is_finite, is_integer

Predictions = dict[int, list[dict[str, Any]]]
"""Entries of a result file by video or image id; their ``id`` is their position in the file."""

KEYS: dict[Kind, tuple[str, ...]] = {"video": ("segmentations",), "image": ()}
"""Required keys of a result besides ids and score; image results have a box or a mask."""


def parse_entries(
    content: Any, report: Report, kind: Kind | None = None, keys: tuple[str, ...] | None = None
) -> list[dict[str, Any]]:
    """The valid entries, each with its position in the file as ``id``.

    Args:
        content: of a result file.
        report: receives the findings.
        kind: kind of the results; None for either.
        keys: required keys besides ids and score; None: ``KEYS``.
    """
    if not isinstance(content, list):
        message = f"must be a list of predictions, is a {type(content).__name__}"
        report(Finding("missing list", {}, message))
        return []
    required = ["category_id", "score"]
    if kind is not None:
        required = [f"{kind}_id", *required, *(KEYS[kind] if keys is None else keys)]
    entries = []
    for number, entry in enumerate(content):
        place = {"entry": number}
        if not isinstance(entry, dict):
            message = f"must be an object, is a {type(entry).__name__}"
            report(Finding("broken entry", place, message))
            continue
        missing = [f"`{key}`" for key in required if key not in entry]
        if missing:
            report(Finding("broken entry", place, f"has no {', '.join(missing)}"))
            continue
        score = entry["score"]
        if not is_finite(score):
            message = f"`score` must be a finite number, is {shortened(score)}"
            report(Finding("score", place, message))
        entries.append({**entry, "id": number})
    return entries


def group_entries(
    content: Any, annotation_set: AnnotationSet, report: Report, keys: tuple[str, ...] | None = None
) -> Predictions:
    """The entries for the videos or images of a set.

    Those whose class, video or image was removed by ``data filter`` are skipped, with a
    warning that counts them.

    Args:
        content: of a result file.
        annotation_set: the set of the results; annotations are not needed.
        report: receives the findings about invalid entries.
        keys: required keys besides ids and score; None: ``KEYS``.
    """
    kind = annotation_set.kind
    tables: dict[str, Collection[int]] = {
        f"{kind}_id": annotation_set.videos,
        "category_id": annotation_set.categories,
    }
    lists = {f"{kind}_id": f"{kind}s", "category_id": "categories"}
    filtered = {
        key: annotation_set.filtered.get(name, frozenset()).difference(tables[key])
        for key, name in lists.items()
    }
    grouped: Predictions = defaultdict(list)
    skipped = 0
    for entry in parse_entries(content, report, kind, keys):
        if any(is_integer(entry[key]) and entry[key] in ids for key, ids in filtered.items()):
            skipped += 1
        elif check_ids(entry, tables, "in the data set", {"entry": entry["id"]}, report):
            grouped[entry[f"{kind}_id"]].append(entry)
    if skipped:
        warnings.warn(
            f"{annotation_set.where}: {skipped} results of classes or {kind}s that"
            " `data filter` has removed were skipped",
            InputWarning,
            stacklevel=2,
        )
    return grouped


def check_boxes(entries: Iterable[dict[str, Any]], report: Report, key: str = "entry") -> None:
    """Report entries whose ``bbox`` is not a box.

    Args:
        entries: results or annotations.
        report: receives the findings.
        key: what an entry is called in them.
    """
    for entry in entries:
        box = entry.get("bbox")
        if not is_box(box):
            message = f"`bbox` must be [x, y, width, height], is {shortened(box)}"
            report(Finding("broken box", {key: entry["id"]}, message))


def open_predictions(
    results: str | Path | list[dict[str, Any]],
    annotation_set: AnnotationSet,
    keys: tuple[str, ...] | None = None,
    heavy: str | None = None,
) -> Predictions:
    """Validated results; their masks are left undecoded.

    Args:
        results: path of a JSON file or of a zip with ``results.json`` at its root, or the list.
        annotation_set, keys: as for ``group_entries``.
        heavy: as for ``reading.read_annotations``.

    Raises:
        InputError: unreadable or malformed results, or ids that the set lacks.
    """
    content: Any = results
    if isinstance(results, str | Path):
        content = read_json_or_zip(results, heavy)
    return group_entries(content, annotation_set, refuse_faults(file_name(results)), keys)


def file_name(results: str | Path | list[dict[str, Any]]) -> str:
    """Name of a result file, or of a list of results, in error messages."""
    return f"results {results}" if isinstance(results, str | Path) else "results"


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """Entries of a result file of either kind: JSON, or a zip with ``results.json`` at its root.

    Raises:
        InputError: missing or unreadable file, ``results.json`` elsewhere in the zip, an empty
            list, or an entry without ``category_id``, a finite ``score``, and an
            ``image_id`` or ``video_id``.
    """
    content, report = read_json_or_zip(path), refuse_faults(f"results {path}")
    if content == []:
        raise InputError(f"results {path}: the list is empty, so its kind is unknown")
    for entry in parse_entries(content, report):
        if "image_id" not in entry and "video_id" not in entry:
            place = {"entry": entry["id"]}
            report(Finding("broken entry", place, "has neither `image_id` nor `video_id`"))
    return content
