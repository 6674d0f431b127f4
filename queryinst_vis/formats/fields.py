"""Checks of single values in JSON files, which every reader of a format shares."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, TypeGuard, TypeVar

from queryinst_vis.errors import InputError
from queryinst_vis.utils.numbers import are_finite

Value = TypeVar("Value")


def is_box(value: Any) -> TypeGuard[list[float]]:
    """Whether a value is ``[x, y, width, height]`` in finite numbers; the size may be 0."""
    return isinstance(value, list | tuple) and len(value) == 4 and are_finite(value)


def shortened(value: Any, limit: int = 40) -> str:
    """``repr`` of a value, cut off, as error messages quote it."""
    return repr(value)[:limit]


def require(entry: Any, key: str, kind: type[Value], where: str) -> Value:
    """``entry[key]``, which must be there and of type ``kind``.

    Args:
        entry: should be an object (a dict).
        key: of the value.
        kind: ``int``, ``str``, ``list``, ...; ``True`` and ``False`` are of none of them.
        where: file and entry, for error messages.

    Raises:
        InputError: ``entry`` is no object, lacks the key, or has another type of value there.
    """
    if not isinstance(entry, dict):
        raise InputError(f"{where}: must be an object, is a {type(entry).__name__}")
    if key not in entry:
        raise InputError(f"{where}: `{key}` is missing")
    value = entry[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{where}: `{key}` must be of type {kind.__name__}, is {shortened(value)}")
    return value


def check_unique(keys: Iterable[Hashable], what: str, where: str) -> None:
    """Refuse a key that comes twice.

    Raises:
        InputError: names the first such key.
    """
    seen = set()
    for key in keys:
        if key in seen:
            raise InputError(f"{where}: {what} {key} occurs twice")
        seen.add(key)
