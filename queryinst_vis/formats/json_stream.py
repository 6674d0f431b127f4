"""Reading large JSON files entry by entry, with at most one entry in memory.

A file is scanned once. Only the small values and the byte range of each entry are kept, and the
range is decoded when the entry is needed. Zip members do not support random access: their entries
are kept in memory, compressed.

msgspec decodes several times faster than ``json``, but has no incremental parser and rejects NaN,
which Python writes. The end of an entry is therefore guessed by searching for the text that
separated the previous two entries, and msgspec verifies the guess: if the text up to there is one
valid JSON value, it is the entry. Anything that msgspec rejects is parsed by ``json``, so results
and error messages do not depend on which parser was used.
"""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from queryinst_vis.errors import InputError

BLOCK = 1 << 20
_LONGEST = 4 * BLOCK
"""Maximum number of bytes that are searched for the end of an entry."""

_SPACE = re.compile(rb"[ \t\n\r]*")
_NEXT_OBJECT = re.compile(rb'[ \t\n\r]*,[ \t\n\r]*\{[ \t\n\r]*"[^"\\]*"')
_TYPES = {"{": "dict", "[": "list", '"': "str"}


@dataclass(frozen=True)
class Span:
    """The byte range ``start`` to ``end`` (exclusive) of a JSON value in a file."""

    path: Path
    start: int
    end: int


@dataclass(frozen=True)
class Packed:
    """One JSON value as compressed text."""

    text: bytes


def decode_json(text: bytes) -> Any:
    """Like ``json.loads`` of UTF-8, but faster.

    Raises:
        ValueError, RecursionError: invalid JSON; the error is that of ``json``.
    """
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return json.loads(text.decode("utf-8"))


def read_values(spans: Sequence[Span | Packed]) -> Iterator[Any]:
    """Decode values from their files, each of which is opened once.

    Raises:
        InputError: a file has changed since it was scanned.
    """
    paths = {span.path for span in spans if isinstance(span, Span)}
    try:
        with ExitStack() as stack:
            files = {path: stack.enter_context(path.open("rb")) for path in paths}
            for span in spans:
                if isinstance(span, Packed):
                    yield decode_json(zlib.decompress(span.text))
                else:
                    file = files[span.path]
                    file.seek(span.start)
                    yield decode_json(file.read(span.end - span.start))
    except (OSError, ValueError) as error:
        where = ", ".join(map(str, paths))
        raise InputError(f"{where}: changed while it was being read ({error})") from error


class JsonFile:
    """A cursor in a JSON file. Errors are ``ValueError`` with the byte offset.

    The window of bytes around the cursor is decoded as Latin-1, one character per byte, and values
    with non-ASCII characters are decoded again as UTF-8.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._window = b""
        self._text: str | None = None  # of the window, decoded on demand
        self._offset = 0  # of the window's first byte in the file
        self._at = 0  # the cursor, in the window
        self._ended = False
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next non-whitespace character; empty at the end of the file."""
        while True:
            match = _SPACE.match(self._window, self._at)
            self._at = match.end() if match else self._at  # the pattern always matches
            if self._at < len(self._window) or self._ended:
                return self._window[self._at : self._at + 1].decode("latin-1")
            self._read_on()

    def skip_byte_order_mark(self) -> None:
        """Skip a UTF-8 byte order mark, as written by programs on Windows.

        Raises:
            ValueError: the file is UTF-16.
        """
        while len(self._window) < len(codecs.BOM_UTF8) and not self._ended:
            self._read_on()
        if self._window.startswith(codecs.BOM_UTF8):
            self._at = len(codecs.BOM_UTF8)
        elif self._window.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise ValueError("it is UTF-16; save it as UTF-8")

    def type_ahead(self) -> str:
        """Type of the next value: "dict", "list", "str" or "other"."""
        return _TYPES.get(self.peek(), "other")

    def skip(self, character: str) -> None:
        """Skip a character, which must come next."""
        if self.peek() != character:
            raise ValueError(f"expected '{character}' at byte {self._offset + self._at}")
        self._at += 1

    def value(self) -> tuple[Any, int, bytes]:
        """The next value, its byte offset, and its text."""
        self.peek()
        while True:
            if self._text is None:
                self._text = self._window.decode("latin-1")
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                # a value at the end of the window, e.g. a number, may continue after it
                if end < len(self._window) or self._ended:
                    break
            except json.JSONDecodeError as error:
                if self._ended or not self._may_go_on(error):
                    where = self._offset + error.pos
                    what = error.msg.removesuffix(" at")  # e.g. "Unterminated string starting at"
                    raise ValueError(f"{what} at byte {where}") from error
            self._read_on()
        text = self._window[self._at : end]
        if not text.isascii():
            value = json.loads(text.decode("utf-8"))
        start, self._at = self._offset + self._at, end
        return value, start, text

    def items(self, decode: Callable[[bytes], Any]) -> Iterator[tuple[Any, int, bytes]]:
        """The values of a list one by one, as returned by ``value``.

        Args:
            decode: fast decoder of an item's text. If it raises ValueError or RecursionError, the
                item is parsed by ``value`` instead.
        """
        separator = b""  # from the closing brace of an item to the first key of the next
        for _ in self._between("[", "]"):
            self.peek()
            text = self._up_to(separator) if separator else b""
            if text:
                try:
                    value = decode(text)
                except (ValueError, RecursionError):
                    separator = b""
                else:
                    start, self._at = self._offset + self._at, self._at + len(text)
                    yield value, start, text
                    continue
            yield self.value()
            if not separator:
                follows = _NEXT_OBJECT.match(self._window, self._at)
                if follows and self._window[self._at - 1 : self._at] == b"}":
                    separator = b"}" + follows[0]

    def _up_to(self, separator: bytes) -> bytes:
        """The text from the cursor through the separator's first byte; empty if not found."""
        end = self._window.find(separator, self._at)
        while end < 0 and not self._ended and len(self._window) - self._at < _LONGEST:
            self._read_on()
            end = self._window.find(separator)
        return self._window[self._at : end + 1] if end >= 0 else b""

    def members(self) -> Iterator[str]:
        """The keys of an object; after each, the caller has to read the value."""
        for _ in self._between("{", "}"):
            if self.peek() != '"':
                raise ValueError(f"expected a key at byte {self._offset + self._at}")
            key, _, _ = self.value()
            self.skip(":")
            yield key

    def finish(self) -> None:
        """Raise a ValueError if anything but white space follows."""
        if self.peek():
            raise ValueError(f"extra data at byte {self._offset + self._at}")

    def _between(self, opening: str, closing: str) -> Iterator[None]:
        self.skip(opening)
        if self.peek() != closing:
            yield
            while self.peek() == ",":
                self.skip(",")
                yield
        self.skip(closing)

    def _read_on(self) -> None:
        """Drop the text before the cursor; read as much as remains after it, at least a block."""
        rest = self._window[self._at :]
        block = self._file.read(max(len(rest), BLOCK))
        self._offset, self._at = self._offset + self._at, 0
        self._window, self._text = rest + block, None
        self._ended = not block

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether an error may be caused by the end of the window within a literal or string."""
        return error.msg.startswith("Unterminated string") or len(self._window) - error.pos < 16


def light_content(file: IO[bytes], path: Path | None, keys: tuple[str, ...], heavy: str) -> Any:
    """Read a list of entries, or an object with a list ``annotations``, without heavy values.

    Args:
        file: read from the current position to its end.
        path: file in which values can be found again; None: they are kept in memory, compressed.
        keys: keys of an entry to keep.
        heavy: key whose value is replaced by the ``Span`` or ``Packed`` of the whole entry.

    Returns:
        The list or object with reduced entries; other values of an object, and entries without
        ``heavy``, are kept completely.

    Raises:
        OSError, ValueError, RecursionError: the file cannot be read or is not JSON.
    """
    cursor = JsonFile(file)
    cursor.skip_byte_order_mark()
    kind = cursor.type_ahead()
    content: Any
    if kind == "dict":
        content = {}
        for key in cursor.members():
            if key == "annotations" and cursor.type_ahead() == "list":
                content[key] = _light_entries(cursor, path, keys, heavy)
            else:
                content[key], _, _ = cursor.value()
    elif kind == "list":
        content = _light_entries(cursor, path, keys, heavy)
    else:
        content, _, _ = cursor.value()
    cursor.finish()
    return content


def _light_entries(
    cursor: JsonFile, path: Path | None, keys: tuple[str, ...], heavy: str
) -> list[Any]:
    entries = []
    for entry, start, text in cursor.items(light_decoder(keys, heavy)):
        if isinstance(entry, dict) and heavy in entry:
            end = start + len(text)
            span = Span(path, start, end) if path else Packed(zlib.compress(text, 1))
            entry = {key: entry[key] for key in keys if key in entry} | {heavy: span}
        entries.append(entry)
    return entries


def light_decoder(keys: tuple[str, ...], heavy: str) -> Callable[[bytes], dict[str, Any]]:
    """A decoder of objects with the key ``heavy``: decodes ``keys`` and validates the rest."""
    absent = msgspec.UNSET
    fields = [(key, Any, absent) for key in keys]
    light = msgspec.defstruct("light", [(heavy, msgspec.Raw), *fields])
    decode_light = msgspec.json.Decoder(light).decode

    def decode(text: bytes) -> dict[str, Any]:
        if not text.isascii():
            text.decode("utf-8")  # msgspec does not validate UTF-8 in values that it skips
        found = msgspec.structs.asdict(decode_light(text))
        return {key: value for key, value in found.items() if value is not absent}

    return decode
