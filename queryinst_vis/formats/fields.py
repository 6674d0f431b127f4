"""Checks of single values in JSON files, shared by all readers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, TypeGuard, TypeVar

from queryinst_vis.errors import InputError
from queryinst_vis.utils.numbers import are_finite

Value = TypeVar("Value")


def is_box(value: Any) -> TypeGuard[list[float]]:
    """Whether a value is ``[x, y, width, height]`` of finite numbers; the size may be 0."""
    return isinstance(value, list | tuple) and len(value) == 4 and are_finite(value)


def shortened(value: Any, limit: int = 40) -> str:
    """Truncated ``repr`` of a value for error messages."""
    return repr(value)[:limit]


def require(entry: Any, key: str, kind: type[Value], where: str) -> Value:
    """``entry[key]``, which must exist and be of type ``kind``.

    Args:
        entry: should be an object (a dict).
        key: of the value.
        kind: ``int``, ``str``, ``list``, ...; ``True`` and ``False`` match none of them.
        where: file and entry, for error messages.

    Raises:
        InputError: ``entry`` is not an object, lacks the key, or the type is wrong.
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
    """Reject duplicate keys.

    Raises:
        InputError: a key occurs twice; names the first one.
    """
    seen = set()
    for key in keys:
        if key in seen:
            raise InputError(f"{where}: {what} {key} occurs twice")
        seen.add(key)
