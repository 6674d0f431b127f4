"""The actions of a review, as dataclasses and as JSON.

In JSON, an action is an object with its name and fields, such as
``{"action": "merge", "first": 3, "second": 7}``. Ranges of frames are ``[[first, last], ...]``,
both ends included.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias, get_args, get_type_hints

from queryinst_vis.errors import InputError
from queryinst_vis.formats.fields import shortened
from queryinst_vis.formats.names import list_names, nearest_name
from queryinst_vis.review.polygons import Polygons
from queryinst_vis.utils.numbers import are_finite

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Ranges of frames, both ends included."""

Decision: TypeAlias = Literal["keep first", "keep second", "drop both"]
"""Which region is kept in a frame with both tracks of a merge."""

DecidedRanges: TypeAlias = tuple[tuple[int, int, Decision], ...]
"""Decisions for ranges of frames, both ends included."""

Filling: TypeAlias = Literal["gaps", "all", "none"]
"""Which frames between drawn regions are interpolated: those without a region, all, or none."""

_MAX_CHARACTERS = 200  # of a name
_MAX_POINTS = 10_000  # of all outlines of a region together
_MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True)
class Merge:
    """``second`` becomes part of ``first``, which keeps its id.

    Attributes:
        first, second: ids of the tracks.
        decide: decision for frames with both tracks; None: these raise a ``ConflictError``.
        decide_frames: decisions for ranges of frames, which take precedence over ``decide``.
    """

    kind: ClassVar = "merge"
    first: int
    second: int
    decide: Decision | None = None
    decide_frames: DecidedRanges = ()


@dataclass(frozen=True)
class Split:
    """From ``frame`` on, the track gets the next unused id."""

    kind: ClassVar = "split"
    track: int
    frame: int


@dataclass(frozen=True)
class Swap:
    """From ``frame`` on, two tracks exchange their regions, but not names and set classes."""

    kind: ClassVar = "swap"
    first: int
    second: int
    frame: int


@dataclass(frozen=True)
class Delete:
    """Delete a track, or its regions in some frames."""

    kind: ClassVar = "delete"
    track: int
    frames: Ranges | None = None


@dataclass(frozen=True)
class SetClass:
    """Change the class of a track.

    Attributes:
        track: id of the track.
        class_name: its new class, in all frames.
        is_new: add a class that the results do not have.
    """

    kind: ClassVar = "class"
    track: int
    class_name: str
    is_new: bool = False


@dataclass(frozen=True)
class SetName:
    """Name the identity of a track; an empty name removes it."""

    kind: ClassVar = "name"
    track: int
    name: str


@dataclass(frozen=True)
class Check:
    """Mark a track, or frames with all their regions, as checked, or remove the mark.

    Attributes:
        track: id of the track; None: frames are marked.
        frames: the frames, if ``track`` is None; None: all frames.
        checked: False removes the mark.
    """

    kind: ClassVar = "check"
    track: int | None = None
    frames: Ranges | None = None
    checked: bool = True


@dataclass(frozen=True)
class Draw:
    """Draw the region of a track in a frame, replacing the previous one.

    Attributes:
        frame: index of the frame.
        polygons: outlines, ``x, y, x, y, ...`` in pixels.
        track: id of the track; None: a new track.
        class_name: class of a new track.
        fill: frames to interpolate, between this one and the nearest frames before and after it in
            which the track was drawn.
    """

    kind: ClassVar = "draw"
    frame: int
    polygons: Polygons
    track: int | None = None
    class_name: str | None = None
    fill: Filling = "gaps"


@dataclass(frozen=True)
class Fill:
    """Interpolate a track in frames where it was missed, from its regions before and after.

    Attributes:
        track: id of the track.
        frames: frames to fill, if they lack the track and it is present before and after them.
    """

    kind: ClassVar = "fill"
    track: int
    frames: Ranges


@dataclass(frozen=True)
class Dismiss:
    """Dismiss the suggestion with this id; it is not made again."""

    kind: ClassVar = "dismiss"
    suggestion: str


@dataclass(frozen=True)
class Undo:
    """Undo the last action that has not been undone."""

    kind: ClassVar = "undo"


@dataclass(frozen=True)
class Redo:
    """Redo the last action that was undone, if there was no other action since."""

    kind: ClassVar = "redo"


Edit: TypeAlias = Merge | Split | Swap | Delete | SetClass | SetName | Check | Draw | Fill | Dismiss
"""Actions that can be undone."""

Action: TypeAlias = Edit | Undo | Redo

ACTIONS: Mapping[str, type[Action]] = {kind.kind: kind for kind in get_args(Action)}
"""The actions by name in JSON."""


def to_json(action: Action) -> dict[str, Any]:
    """An action as JSON, without fields that have their default value."""
    values = {
        each.name: getattr(action, each.name)
        for each in fields(action)
        if getattr(action, each.name) != each.default
    }
    return {"action": action.kind, **values}


def from_json(content: Any, where: str = "action") -> Action:
    """Parse the JSON of an action.

    Args:
        content: a JSON object.
        where: prefix of error messages.

    Raises:
        InputError: an unknown action or field, a missing field, or a value of the wrong type.
    """
    if not isinstance(content, dict):
        raise InputError(f"{where}: must be an object, is {shortened(content)}")
    name = content.get("action")
    if not isinstance(name, str) or name not in ACTIONS:
        raise InputError(
            f"{where}: `action` is {shortened(name)}; choose from {list_names(list(ACTIONS), 20)}"
        )
    kind = ACTIONS[name]
    hints, known = get_type_hints(kind), {each.name: each for each in fields(kind)}
    for key in content:
        if key != "action" and key not in known:
            nearest = nearest_name(str(key), known)
            hint = f"; did you mean `{nearest}`?" if nearest else ""
            raise InputError(f"{where}: {name} has no field {shortened(key)}{hint}")
    values = {}
    for key, each in known.items():
        if key in content:
            parse = _PARSERS[hints[key]]
            values[key] = parse(content[key], f"{where}: `{key}`")
        elif each.default is MISSING:
            raise InputError(f"{where}: {name} needs `{key}`")
    return kind(**values)


def as_recorded(action: Action) -> Action:
    """The action as it will be read from the journal.

    Raises:
        InputError: as for ``from_json``: the journal would be unreadable.
    """
    try:
        # indices of numpy become integers
        text = json.dumps(to_json(action), default=operator.index, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"action: {error}") from error
    return from_json(json.loads(text))


def _number(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_INTEGER:
        raise InputError(f"{where} must be a non-negative integer, is {shortened(value)}")
    return value


def _flag(value: Any, where: str) -> bool:
    if type(value) is not bool:
        raise InputError(f"{where} must be true or false, is {shortened(value)}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_CHARACTERS or not value.isprintable():
        raise InputError(
            f"{where} must be printable text of at most {_MAX_CHARACTERS} characters, "
            f"is {shortened(value)}"
        )
    return value


def _one_of(*choices: str) -> Callable[[Any, str], Any]:
    def parse(value: Any, where: str) -> str:
        if value not in choices:
            raise InputError(f"{where} must be one of {list_names(choices)}, is {shortened(value)}")
        return value

    return parse


_decision = _one_of(*get_args(Decision))


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise InputError(f"{where} must be a list, is {shortened(value)}")
    return list(value)


def _range(value: Any, where: str) -> tuple[int, int]:
    ends = [_number(end, where) for end in _list(value, where)]
    if len(ends) != 2 or ends[0] > ends[1]:
        raise InputError(f"{where} must contain ranges [first, last], is {shortened(value)}")
    return ends[0], ends[1]


def _ranges(value: Any, where: str) -> Ranges:
    found = tuple(_range(each, where) for each in _list(value, where))
    if not found:
        raise InputError(f"{where} contains no range; omit it for all frames")
    return found


def _decided(value: Any, where: str) -> DecidedRanges:
    decided = []
    for each in _list(value, where):
        parts = _list(each, where)
        first, last = _range(parts[:2], where)
        decided.append((first, last, _decision(parts[2] if len(parts) == 3 else None, where)))
    return tuple(decided)


def _polygons(value: Any, where: str) -> Polygons:
    outlines = tuple(tuple(_list(each, where)) for each in _list(value, where))
    if not outlines or not all(
        len(each) >= 6 and len(each) % 2 == 0 and are_finite(each) for each in outlines
    ):
        raise InputError(f"{where} must contain outlines [x, y, x, y, x, y, ...] of finite numbers")
    if sum(map(len, outlines)) > 2 * _MAX_POINTS:
        raise InputError(f"{where} has more than {_MAX_POINTS} points")
    return outlines


_Parser: TypeAlias = Callable[[Any, str], Any]


def _or_none(parse: _Parser) -> _Parser:
    return lambda value, where: None if value is None else parse(value, where)


_PARSERS: Mapping[Any, _Parser] = {
    int: _number,
    int | None: _or_none(_number),
    bool: _flag,
    str: _text,
    str | None: _or_none(_text),
    Ranges: _ranges,
    Ranges | None: _or_none(_ranges),
    Decision | None: _or_none(_decision),
    DecidedRanges: _decided,
    Polygons: _polygons,
    Filling: _one_of(*get_args(Filling)),
}
"""Parsers by field type."""
