"""Reading actions from files and requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.formats.fields import shortened
from queryinst_vis.review.actions import Action, from_json

_MAX_ID_LENGTH = 100


def read_actions(path: str | Path) -> list[tuple[Action, str | None]]:
    """Read a file with one action per line, for ``apply_all``.

    Lines are the JSON of ``actions.to_json``, optionally with an ``id``; further fields of journal
    lines, and empty lines, are ignored.

    Raises:
        InputError: the file cannot be read, or a line is not an action.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error
        raise InputError(f"actions {path}: not readable ({reason})") from error
    return [
        _read_action(line, f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def parse_record(content: Any, where: str = "action") -> tuple[Action, str | None]:
    """Parse the JSON of an action and its ``id``, if any.

    Raises:
        InputError: it is not an action, or its id is not a short text.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{where}: must be an object, is {shortened(content)}")
    fields = dict(content)
    record_id = fields.pop("id", None)
    if record_id is not None and not (
        isinstance(record_id, str)
        and 0 < len(record_id) <= _MAX_ID_LENGTH
        and record_id.isprintable()
    ):
        raise InputError(f"{where}: `id` must be short text, is {shortened(record_id)}")
    return from_json(fields, where), record_id


def _read_action(line: str, where: str) -> tuple[Action, str | None]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from error
    return parse_record(content, where)
