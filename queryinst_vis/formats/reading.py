"""Reading annotation and result files: XML; JSON, zipped or not, completely or without masks."""

from __future__ import annotations

import json
import lzma
import zipfile
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from queryinst_vis.errors import InputError, first_line
from queryinst_vis.formats.json_stream import light_content
from queryinst_vis.utils.files import read_json

RESULTS_NAME = "results.json"
"""The file that evaluation servers expect at the root of a zip."""

_LIGHT_KEYS = ("id", "video_id", "category_id", "score", "iscrowd")
"""Keys of an entry that are kept in memory."""

_PLAIN_SIZE = 50_000_000
_DENSEST = 100
"""Maximum compression ratio; results compress 4 to 20 times. Not checked up to ``_PLAIN_SIZE``."""

_ZIP_ERRORS = (
    *(OSError, EOFError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


def read_annotations(
    source: str | Path | dict[str, Any], what: str = "annotation file", heavy: str | None = None
) -> dict[str, Any]:
    """Content of a COCO or YouTube-VIS annotation file.

    Args:
        source: path of the JSON file, or its content, which is only checked.
        what: role of the file, for error messages.
        heavy: a key of the annotations; only the values needed by ``parse_set`` are kept then,
            and under this key the ``Span`` for reading them with ``json_stream.read_values``.

    Raises:
        InputError: missing or invalid file, or JSON that is not an object.
    """
    content = _read_json(source, what, heavy) if isinstance(source, str | Path) else source
    if not isinstance(content, dict):
        where = f"{what} {source}" if isinstance(source, str | Path) else what
        raise InputError(
            f"{where}: must be an object with `images` or `videos`, is a {type(content).__name__};"
            " were ground truth and results swapped?"
        )
    return content


def read_xml(path: Path) -> Element:
    """The root of an XML annotation file.

    Raises:
        InputError: not readable as XML, or with a document type declaration, which annotation tools
            do not write and which could define entities of any size.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "<!DOCTYPE" in text:  # checked before parsing, since a parser may expand entities
            raise InputError(
                f"{path}: has a document type declaration, which annotation tools never write; "
                "rejected"
            )
        return ElementTree.fromstring(text)
    except (OSError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise InputError(f"{path}: not readable as XML ({first_line(error)})") from error


def read_json_or_zip(path: str | Path, heavy: str | None = None) -> Any:
    """Content of a result file: JSON, or a zip with ``results.json`` at its root.

    Args:
        path: the file.
        heavy: as for ``read_annotations``.

    Raises:
        InputError: missing or unreadable file, or ``results.json`` elsewhere in the zip.
    """
    if not zipfile.is_zipfile(path):
        return _read_json(path, "results", heavy)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_zip_root(archive.namelist(), path)
            _check_ratio(archive.getinfo(RESULTS_NAME), path)
            with archive.open(RESULTS_NAME) as member:
                if heavy is None:
                    return json.load(member)
                return light_content(member, None, _LIGHT_KEYS, heavy)
    except _ZIP_ERRORS as error:
        if isinstance(error, RecursionError):  # a subclass of RuntimeError
            raise InputError(f"results {path}: {RESULTS_NAME} is not JSON ({error})") from error
        raise InputError(f"results {path}: unreadable zip ({error})") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"results {path}: {RESULTS_NAME} is not JSON ({error})") from error


def _read_json(path: str | Path, what: str, heavy: str | None) -> Any:
    if heavy is None:
        return read_json(path, what)
    try:
        with Path(path).open("rb") as file:
            return light_content(file, Path(path), _LIGHT_KEYS, heavy)
    except FileNotFoundError as error:
        raise InputError(f"{what} {path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{what} {path}: not readable as JSON ({error})") from error


def _check_zip_root(names: list[str], path: str | Path) -> None:
    if RESULTS_NAME in names:
        return
    nested = [name for name in names if Path(name).name == RESULTS_NAME]
    found = f"it is in a folder, as {nested[0]}" if nested else f"the zip holds {names[:5]}"
    raise InputError(f"results {path}: no {RESULTS_NAME} at the root of the zip; {found}")


def _check_ratio(entry: zipfile.ZipInfo, path: str | Path) -> None:
    """Reject zip bombs: results with an implausible compression ratio.

    The size is that given in the zip; ``zipfile`` unpacks no more than that.
    """
    if entry.file_size > max(_PLAIN_SIZE, _DENSEST * entry.compress_size):
        raise InputError(
            f"results {path}: {RESULTS_NAME} unpacks from {entry.compress_size / 1e6:.1f} MB to "
            f"{entry.file_size / 1e6:.0f} MB, which is implausible for results; if it is correct, "
            "unpack it and pass the JSON file"
        )
