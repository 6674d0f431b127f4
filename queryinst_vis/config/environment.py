"""References to environment variables that are not set: an error only where they are used."""

from __future__ import annotations

import os
import re
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from queryinst_vis.errors import InputError

_VARIABLE = re.compile(r"\$\{oc\.env:([A-Za-z_][A-Za-z0-9_]*)\}")


def postpone_unset(values: Any, schema: Any) -> Any:
    """The values with every ``${oc.env:NAME}`` of an unset variable kept as plain text.

    This works for strings only, such as the path of a set that may never be opened: ``resolved``
    raises the error when the string is used.

    Args:
        values: of a config, or of a part of it.
        schema: their type.
    """
    if isinstance(values, dict) and is_dataclass(schema):
        members = get_type_hints(schema)
        return {key: postpone_unset(value, members.get(key)) for key, value in values.items()}
    if isinstance(values, list) and get_origin(schema) is list:
        return [postpone_unset(value, get_args(schema)[0]) for value in values]
    if isinstance(values, str) and _is_text(schema) and _unset(values):
        return _VARIABLE.sub(
            lambda match: "\\" + match[0] if _unset(match[0]) else match[0], values
        )
    return values


def resolved(value: str, what: str) -> str:
    """A string of the config that is about to be used.

    Args:
        value: the string.
        what: description of the string for the error message.

    Raises:
        InputError: it refers to an environment variable that is not set.
    """
    for name in _unset(value):
        raise InputError(
            f"{what} {value}: environment variable '{name}' is not set; set it, or change the "
            "config's key"
        )
    return value


def is_unresolved(value: object) -> bool:
    """Whether a value of the config refers to an environment variable that was not set."""
    return isinstance(value, str) and _VARIABLE.search(value) is not None


def _unset(text: str) -> list[str]:
    """The unset variables of a text, unless references in it are nested or have defaults."""
    if "${" in _VARIABLE.sub("", text):
        return []
    return [name for name in _VARIABLE.findall(text) if name not in os.environ]


def _is_text(schema: Any) -> bool:
    kinds = get_args(schema) if get_origin(schema) in (Union, UnionType) else (schema,)
    return str in kinds
