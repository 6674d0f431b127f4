"""``starts.jsonl`` of a training run: when, where and with which config it was (re)started."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError, InputWarning

STARTS_FILE = "starts.jsonl"

_MAX_SIZE = 16_000_000  # bytes: thousands of starts


def append_start(work_dir: Path, record: dict[str, Any]) -> None:
    """Append a line for a start of the run."""
    with (work_dir / STARTS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_starts(work_dir: Path) -> list[dict[str, Any]]:
    """The starts of a run in order; none for folders of earlier versions.

    Lines that are not JSON objects with a ``step``, such as truncated ones, are skipped
    with a warning.

    Raises:
        InputError: the file cannot be read.
    """
    path = work_dir / STARTS_FILE
    if not path.exists():
        return []
    try:
        if path.stat().st_size > _MAX_SIZE:
            raise InputError(f"{path}: too large to be the starts of a training")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    records = [record for line in lines if (record := _parse(line)) is not None]
    if len(records) < len(lines):
        lost = len(lines) - len(records)
        warnings.warn(
            f"{path}: {lost} of {len(lines)} lines are invalid", InputWarning, stacklevel=2
        )
    return records


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_start = isinstance(record, dict) and isinstance(record.get("step"), int)
    return record if is_start else None
