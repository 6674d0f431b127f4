"""The journal of a review: every action, on disk before it is reported as done.

The first line identifies the results; every further line is a record::

    {"n": 1, "id": "5b0f...", "at": "2026-01-31T12:00:00Z", "action": "merge", "first": 3,
     "second": 7, "sum": "9c2a..."}

``sum`` is a checksum of the line and the previous checksum, so that changed, missing and reordered
lines are detected. The file is append-only. An incomplete last line was being written when the
program was killed, before it was reported as done: it is moved to another file.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.review.actions import Action, from_json, to_json
from queryinst_vis.utils.files import flush_to_disk

FORMAT = "queryinst-vis review"
VERSION = 1

_SUM = b', "sum": "'
_DIGITS = 16  # of a checksum
_END = b'"}\n'


@dataclass(frozen=True)
class Record:
    """An action in a journal.

    Attributes:
        id: unique in the journal.
        action: the action.
        at: time in UTC.
    """

    id: str
    action: Action
    at: str


class Journal:
    """An append-only file of records, which are on disk when ``append`` returns.

    Args:
        path: the file; created if missing.
        about: properties of the results, for the first line; keys that an existing file also has
            must agree.

    Attributes:
        path: the file.
        records: all records, in order.

    Raises:
        InputError: the file belongs to other results or another version, or a line is damaged.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self.records: list[Record] = []
        self._sum = b""
        try:
            if path.exists():
                self._read(about)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        if not self._sum:
            header = {"format": FORMAT, "version": VERSION, **about}
            self._write(self._seal([header]))
            flush_to_disk(path.parent)

    def append(self, records: Iterable[Record]) -> None:
        """Append records: all are on disk when this returns, or none if it raises.

        Raises:
            InputError: the disk is full, or the file cannot be written.
        """
        records = list(records)
        start = len(self.records) + 1
        before = self._sum
        try:
            self._write(
                self._seal(
                    {"n": number, "id": record.id, "at": record.at, **to_json(record.action)}
                    for number, record in enumerate(records, start)
                )
            )
        except BaseException:
            self._sum = before
            raise
        self.records += records

    def _seal(self, contents: Iterable[Mapping[str, Any]]) -> bytes:
        lines = []
        for content in contents:
            body = json.dumps(content, allow_nan=False).encode()[:-1]
            self._sum = _sum(self._sum, body)
            lines.append(body + _SUM + self._sum + _END)
        return b"".join(lines)

    def _write(self, data: bytes) -> None:
        length: int | None = None
        try:
            with self.path.open("ab") as file:
                length = file.tell()
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if length is not None:
                os.truncate(self.path, length)
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _read(self, about: Mapping[str, Any]) -> None:
        *lines, last = self.path.read_bytes().split(b"\n")
        is_complete = last.endswith(_END[:-1])  # except for the line feed
        ids: set[str] = set()
        for number, line in enumerate([*lines, last] if is_complete else lines):
            where = f"journal {self.path}, line {number + 1}"
            content = self._verified(line, where)
            if number == 0:
                self._check_header(content, about, where)
            else:
                record = _record(content, number, where)
                if record.id in ids:
                    raise InputError(f"{where}: record {record.id} occurs twice")
                ids.add(record.id)
                self.records.append(record)
        if is_complete:
            self._write(b"\n")
        elif last:
            self._move_torn_line(last)

    def _verified(self, line: bytes, where: str) -> dict[str, Any]:
        """The content of a line, after verifying its checksum."""
        body, found, rest = line.rpartition(_SUM)
        expected = _sum(self._sum, body)
        if not found or rest != expected + _END[:-1]:
            raise InputError(
                f"{where}: is damaged, or a line before it is missing; to continue without it, "
                "keep a copy and remove all lines from this one on"
            )
        self._sum = expected
        try:
            content = json.loads(body + b"}")
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not JSON ({error})") from error
        if not isinstance(content, dict):
            raise InputError(f"{where}: must be an object")
        return content

    def _check_header(self, header: dict[str, Any], about: Mapping[str, Any], where: str) -> None:
        if header.get("format") != FORMAT:
            raise InputError(f"{where}: its format is not '{FORMAT}'")
        if header.get("version") != VERSION:
            raise InputError(
                f"{where}: version {header.get('version')}, this program reads {VERSION}"
            )
        for key, value in about.items():
            known = header.get(key)
            if known is not None and value is not None and known != value:
                raise InputError(
                    f"journal {self.path}: `{key}` differs from that of these corrections; restore "
                    f"it, or move {self.path.parent} away to start a new review"
                )

    def _move_torn_line(self, torn: bytes) -> None:
        """Move an incomplete last line to a separate file, with a warning."""
        torn_file = self.path.with_name(f"{self.path.name}.torn")
        with torn_file.open("ab") as file:
            file.write(torn + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.truncate(self.path, self.path.stat().st_size - len(torn))
        warnings.warn(
            f"{self.path}: its last line, of {len(torn)} bytes, is incomplete, as after a kill; "
            f"it was not reported as done and has been moved to {torn_file.name}",
            InputWarning,
            stacklevel=4,
        )


def now() -> str:
    """The current time, as stored in records."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _record(content: dict[str, Any], number: int, where: str) -> Record:
    fields = dict(content)
    found, record_id, at = (fields.pop(key, None) for key in ("n", "id", "at"))
    if found != number or not isinstance(record_id, str) or not isinstance(at, str):
        raise InputError(f"{where}: is not record {number}")
    return Record(record_id, from_json(fields, where), at)


def _sum(before: bytes, body: bytes) -> bytes:
    return hashlib.sha256(before + body).hexdigest()[:_DIGITS].encode()
