"""Plug-ins of installed packages: association rules, backbones, detectors, formats.

A package registers them by entry points (``docs/extend.md``). Only code that the user
has installed is used; a config or a weights file can refer to it by name, but cannot contain code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from queryinst_vis.errors import InputError

RULES = "queryinst_vis.association_rules"
BACKBONES = "queryinst_vis.backbones"
DETECTORS = "queryinst_vis.detectors"
DATASET_FORMATS = "queryinst_vis.dataset_formats"

_LISTED = 20  # names in a message


def installed(group: str) -> list[str]:
    """The names registered by installed packages in a group, sorted; nothing is imported."""
    return sorted({point.name for point in entry_points(group=group)})


def find_entry(
    name: str, group: str, where: str, table: Mapping[str, Any], known: Iterable[str] = ()
) -> Any:
    """The entry with this name in the built-in table, or in an installed package.

    Args:
        name: the requested name.
        group: group of the entry points.
        where: prefix of error messages: ``"tracking.rule: unknown rule"``.
        table: built-in entries, which no package can replace.
        known: further names for suggestions.

    Raises:
        InputError: unknown name, registered by two packages, or it cannot be imported.
    """
    if name in table:
        return table[name]
    points = list({point.value: point for point in entry_points(group=group, name=name)}.values())
    if not points:
        names = [*table, *installed(group), *known]
        raise InputError(f"{where} '{name}'; {suggest(name, names)}")
    if len(points) > 1:
        packages = ", ".join(_package(point) for point in points)
        raise InputError(
            f"{where} '{name}': several installed packages have one of that name ({packages}); "
            "uninstall all but one of them"
        )
    return _load(points[0], where)


def suggest(name: str, known: Iterable[str]) -> str:
    """The known names closest to an unknown one, or all of them if there are few."""
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    more = f", ... ({len(names)} in all)" if len(names) > _LISTED else ""
    return f"choose from: {', '.join(names[:_LISTED])}{more}" if names else "there are none"


def _load(point: EntryPoint, where: str) -> Any:
    try:
        return point.load()
    except Exception as error:  # any error of the package's code
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{where} '{point.name}': {point.value} of the installed package {_package(point)} "
            f"cannot be imported ({reason})"
        ) from error


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value
