"""Ground truth and results, from a file or from memory, checked before anything is computed."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from queryinst_vis.errors import InputError
from queryinst_vis.formats.fields import is_finite, is_integer
from queryinst_vis.formats.json_stream import light_content
from queryinst_vis.utils.files import read_json

RESULTS_NAME = "results.json"
"""What evaluation servers look for at the root of an uploaded zip."""

_CHECKED_KEYS = ("id", "video_id", "category_id", "score", "iscrowd")
"""What of a light entry stays in memory."""

_ZIP_ERRORS = (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)

PlacedEntries = list[tuple[str, dict]]
"""Entries of a file, each with its place in that file as error messages name it."""


@dataclass(frozen=True)
class GroundTruth:
    """An annotation file whose ids are known to be consistent.

    Attributes:
        where: the file's name, for error messages.
        media: the file's images or videos by their id.
        annotations: the file's annotations and their places.
        categories: class name by category id, ids ascending.
    """

    where: str
    media: dict[int, dict]
    annotations: PlacedEntries
    categories: dict[int, str]


def load_ground_truth(
    gt: str | Path | dict, kind: str, annotation_keys: Iterable[str], heavy: str | None = None
) -> GroundTruth:
    """Load COCO-style ground truth of ``kind`` "image" or "video".

    Args:
        gt: path of the JSON file, or its loaded content.
        kind: "image" or "video"; the file must have a list of that name in the plural.
        annotation_keys: what every annotation must have besides its ids.
        heavy: a key of the annotations; those of a file then keep only what is checked here,
            and under this key their ``Place``, by which they can be read in full.

    Raises:
        InputError: the file is unreadable, of another kind, without annotations, or
            inconsistent in itself.
    """
    where = f"ground truth {gt}" if isinstance(gt, str | Path) else "ground truth"
    content = _read_json(gt, "ground truth", heavy) if isinstance(gt, str | Path) else gt
    if not isinstance(content, dict):
        raise InputError(
            f"{where}: is a {type(content).__name__}, not an object with `{kind}s`, `annotations`"
            " and `categories`; were ground truth and results swapped?"
        )
    _check_kind(content, kind, where)
    if content.get("annotations") is None:
        raise InputError(
            f"{where}: has no `annotations`; public validation and test files carry none,"
            " so evaluate on a set that has them, such as a split of the training set"
        )
    media = _by_id(content, f"{kind}s", (), where)
    categories = _class_names(_by_id(content, "categories", ("name",), where), where)
    keys = (f"{kind}_id", "category_id", *annotation_keys)
    annotations = _by_id(content, "annotations", keys, where)
    placed = [(f"{where}: annotation {id_}", entry) for id_, entry in annotations.items()]
    for place, entry in placed:
        _check_ids(entry, kind, media, categories, place)
        if entry.get("iscrowd", 0) not in (0, 1):
            raise InputError(f"{place}: `iscrowd` must be 0 or 1, is {entry['iscrowd']!r}")
    return GroundTruth(where, media, placed, categories)


def load_results(
    results: str | Path | list,
    truth: GroundTruth,
    kind: str,
    keys: Iterable[str] = (),
    heavy: str | None = None,
) -> PlacedEntries:
    """Load results and check them against the ground truth they belong to.

    Args:
        results: path of a JSON file or of a zip with ``results.json`` at its root, or the
            loaded list.
        truth: the ground truth whose media and category ids the results must use.
        kind: "image" or "video".
        keys: what every entry must have besides its ids and score.
        heavy: as for ``load_ground_truth``.

    Raises:
        InputError: unreadable, empty or malformed results, or ids the ground truth lacks.
    """
    where = f"results {results}" if isinstance(results, str | Path) else "results"
    content = read_json_or_zip(results, heavy) if isinstance(results, str | Path) else results
    placed = _checked_entries(content, where)
    for place, entry in placed:
        _require(entry, (f"{kind}_id", *keys), place)
        _check_ids(entry, kind, truth.media, truth.categories, place)
    return placed


def read_results(path: str | Path) -> list[dict]:
    """Read a result file of either kind: JSON, or a zip with ``results.json`` at its root.

    Raises:
        InputError: missing or unreadable file, ``results.json`` elsewhere in the zip, an empty
            list, or an entry without ``category_id``, a finite ``score``, and an
            ``image_id`` or ``video_id``.
    """
    placed = _checked_entries(read_json_or_zip(path), f"results {path}")
    for place, entry in placed:
        if "image_id" not in entry and "video_id" not in entry:
            raise InputError(f"{place}: has neither `image_id` nor `video_id`")
    return [entry for _, entry in placed]


def read_json_or_zip(path: str | Path, heavy: str | None = None) -> Any:
    """Content of a result file: JSON, or a zip with ``results.json`` at its root.

    Args:
        path: the file.
        heavy: as for ``load_ground_truth``.

    Raises:
        InputError: missing or unreadable file, or ``results.json`` elsewhere in the zip.
    """
    if not zipfile.is_zipfile(path):
        return _read_json(path, "results", heavy)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_zip_root(archive.namelist(), path)
            with archive.open(RESULTS_NAME) as member:
                return _read_member(member, f"results {path}", heavy)
    except _ZIP_ERRORS as error:
        raise InputError(f"results {path}: unreadable zip ({error})") from error


def _read_member(member: IO[bytes], where: str, heavy: str | None) -> Any:
    try:
        if heavy is None:
            return json.load(member)
        return light_content(member, None, _CHECKED_KEYS, heavy)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {RESULTS_NAME} is not JSON ({error})") from error


def _read_json(path: str | Path, what: str, heavy: str | None) -> Any:
    if heavy is None:
        return read_json(path, what)
    try:
        with Path(path).open("rb") as file:
            return light_content(file, Path(path), _CHECKED_KEYS, heavy)
    except FileNotFoundError as error:
        raise InputError(f"{what} {path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{what} {path}: not readable as JSON ({error})") from error


def _check_zip_root(names: list[str], path: str | Path) -> None:
    if RESULTS_NAME in names:
        return
    nested = [name for name in names if Path(name).name == RESULTS_NAME]
    found = f"it lies in a folder, as {nested[0]}" if nested else f"the zip holds {names[:5]}"
    raise InputError(f"results {path}: no {RESULTS_NAME} at the root of the zip; {found}")


def _checked_entries(content: Any, where: str) -> PlacedEntries:
    """The checks that need no ground truth."""
    if not isinstance(content, list):
        raise InputError(f"{where}: must be a list of detections, is a {type(content).__name__}")
    if not content:
        raise InputError(f"{where}: the list is empty, there is nothing to evaluate")
    placed = [(f"{where}: entry {number}", entry) for number, entry in enumerate(content)]
    for place, entry in placed:
        _require(entry, ("category_id", "score"), place)
        if not is_finite(entry["score"]):
            found = repr(entry["score"])[:40]
            raise InputError(f"{place}: `score` must be a finite number, is {found}")
    return placed


def _check_kind(content: dict, kind: str, where: str) -> None:
    other = {"image": "video", "video": "image"}[kind]
    if f"{kind}s" not in content and f"{other}s" in content:
        raise InputError(f"{where}: describes {other}s, not {kind}s; evaluate it with eval-{other}")


def _by_id(content: dict, name: str, keys: Iterable[str], where: str) -> dict[int, dict]:
    """The list ``name`` of a ground-truth file as a dict by id."""
    items = content.get(name)
    if not isinstance(items, list):
        raise InputError(f"{where}: `{name}` must be a list, is {type(items).__name__}")
    found: dict[int, dict] = {}
    for number, item in enumerate(items):
        place = f"{where}: {name}[{number}]"
        _require(item, ("id", *keys), place)
        if not is_integer(item["id"]):
            raise InputError(f"{place}: `id` must be an integer, is {repr(item['id'])[:40]}")
        if item["id"] in found:
            raise InputError(f"{place}: id {item['id']} is used twice in `{name}`")
        found[item["id"]] = item
    return found


def _class_names(categories: dict[int, dict], where: str) -> dict[int, str]:
    if not categories:
        raise InputError(f"{where}: `categories` is empty, so no class can be evaluated")
    names: dict[int, str] = {}
    for category_id in sorted(categories):
        name = categories[category_id]["name"]
        if not isinstance(name, str) or name in names.values():
            raise InputError(
                f"{where}: category {category_id} needs a `name` of its own, has {name!r}"
            )
        names[category_id] = name
    return names


def _check_ids(
    entry: dict, kind: str, media: dict[int, dict], categories: dict[int, str], place: str
) -> None:
    for key, known in ((f"{kind}_id", media), ("category_id", categories)):
        value = entry[key]
        if not isinstance(value, Hashable) or value not in known:
            raise InputError(f"{place}: {key} {value!r} is not in the ground truth")


def _require(entry: Any, keys: Iterable[str], place: str) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{place}: must be an object, is a {type(entry).__name__}")
    for key in keys:
        if key not in entry:
            raise InputError(f"{place}: has no `{key}`")
