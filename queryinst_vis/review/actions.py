"""What a person may do to tracks: one small record for each action, as Python and as JSON.

As JSON an action is an object with its name and its fields, such as
``{"action": "merge", "first": 3, "second": 7}``. Ranges of frames are ``[[first, last], ...]``,
both ends included.
"""

from __future__ import annotations

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
"""Which region stays in a frame that shows both tracks of a merge."""

DecidedRanges: TypeAlias = tuple[tuple[int, int, Decision], ...]
"""Decisions about ranges of frames, both ends included."""

Filling: TypeAlias = Literal["gaps", "all", "none"]
"""Which frames between drawn ones are interpolated: those without a region, all, or none."""

_LONGEST = 200  # characters of a name
_MOST_POINTS = 10_000  # of the outlines of a region
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Merge:
    """``second`` becomes part of ``first``, which keeps its id.

    Attributes:
        first, second: tracks.
        decide: what happens in frames that show both; None: that is a ``ConflictError``.
        decide_frames: the same for ranges of frames, which comes before ``decide``.
    """

    kind: ClassVar = "merge"
    first: int
    second: int
    decide: Decision | None = None
    decide_frames: DecidedRanges = ()


@dataclass(frozen=True)
class Split:
    """From ``frame`` on, the track is another one, with the next id that was never used."""

    kind: ClassVar = "split"
    track: int
    frame: int


@dataclass(frozen=True)
class Swap:
    """From ``frame`` on, two tracks exchange their regions; names and classes stay."""

    kind: ClassVar = "swap"
    first: int
    second: int
    frame: int


@dataclass(frozen=True)
class Delete:
    """Remove a track, or its regions in some frames."""

    kind: ClassVar = "delete"
    track: int
    frames: Ranges | None = None


@dataclass(frozen=True)
class SetClass:
    """Give a track another class.

    Attributes:
        track: whose.
        class_name: its class from now on, in all frames.
        is_new: the class is not among those of the results, and shall be added.
    """

    kind: ClassVar = "class"
    track: int
    class_name: str
    is_new: bool = False


@dataclass(frozen=True)
class SetName:
    """Say who a track is; an empty name takes it back."""

    kind: ClassVar = "name"
    track: int
    name: str


@dataclass(frozen=True)
class Check:
    """Mark a track, or frames with everything in them, as checked; or take the mark back.

    Attributes:
        track: to mark; None: frames are marked.
        frames: to mark, where no track is; None: all.
        checked: False takes the mark back.
    """

    kind: ClassVar = "check"
    track: int | None = None
    frames: Ranges | None = None
    checked: bool = True


@dataclass(frozen=True)
class Draw:
    """Draw the region of a track in a frame, in the place of what it had there.

    Attributes:
        frame: where.
        polygons: its outlines, ``x, y, x, y, ...`` in pixels.
        track: whose; None: of a new track.
        class_name: of a new track.
        fill: which frames between this one and the nearest drawn ones of the track, before and
            after it, are interpolated.
    """

    kind: ClassVar = "draw"
    frame: int
    polygons: Polygons
    track: int | None = None
    class_name: str | None = None
    fill: Filling = "gaps"


@dataclass(frozen=True)
class Fill:
    """Interpolate a track where it was missed, between its regions before and after.

    Attributes:
        track: which one.
        frames: those that lack it are filled, if it is seen before and after them.
    """

    kind: ClassVar = "fill"
    track: int
    frames: Ranges


@dataclass(frozen=True)
class Dismiss:
    """The suggestion of this id is wrong; it is not made again."""

    kind: ClassVar = "dismiss"
    suggestion: str


@dataclass(frozen=True)
class Undo:
    """Take back the last action that was not taken back."""

    kind: ClassVar = "undo"


@dataclass(frozen=True)
class Redo:
    """Do again what was taken back last, if nothing else was done since."""

    kind: ClassVar = "redo"


Edit: TypeAlias = Merge | Split | Swap | Delete | SetClass | SetName | Check | Draw | Fill | Dismiss
"""What changes tracks or marks, and can be undone."""

Action: TypeAlias = Edit | Undo | Redo

ACTIONS: Mapping[str, type[Action]] = {kind.kind: kind for kind in get_args(Action)}
"""The actions by their names in JSON."""


def to_json(action: Action) -> dict[str, Any]:
    """An action as JSON has it; what is as by default is left out."""
    shown = {
        each.name: getattr(action, each.name)
        for each in fields(action)
        if getattr(action, each.name) != each.default
    }
    return {"action": action.kind, **shown}


def from_json(content: Any, where: str = "action") -> Action:
    """Read what ``to_json`` gives.

    Args:
        content: an object as JSON has it.
        where: names it in error messages.

    Raises:
        InputError: an unknown action or field, a missing field, or a value of the wrong kind.
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
            reader = _READERS[hints[key]]
            values[key] = reader(content[key], f"{where}: `{key}`")
        elif each.default is MISSING:
            raise InputError(f"{where}: {name} needs `{key}`")
    return kind(**values)


def _number(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise InputError(f"{where} must be a non-negative integer, is {shortened(value)}")
    return value


def _flag(value: Any, where: str) -> bool:
    if type(value) is not bool:
        raise InputError(f"{where} must be true or false, is {shortened(value)}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        raise InputError(
            f"{where} must be printable text of at most {_LONGEST} characters, "
            f"is {shortened(value)}"
        )
    return value


def _one_of(*choices: str) -> Callable[[Any, str], Any]:
    def read(value: Any, where: str) -> str:
        if value not in choices:
            raise InputError(f"{where} must be one of {list_names(choices)}, is {shortened(value)}")
        return value

    return read


_decision = _one_of(*get_args(Decision))


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise InputError(f"{where} must be a list, is {shortened(value)}")
    return list(value)


def _range(value: Any, where: str) -> tuple[int, int]:
    ends = [_number(end, where) for end in _list(value, where)]
    if len(ends) != 2 or ends[0] > ends[1]:
        raise InputError(f"{where} must hold ranges [first, last], is {shortened(value)}")
    return ends[0], ends[1]


def _ranges(value: Any, where: str) -> Ranges:
    found = tuple(_range(each, where) for each in _list(value, where))
    if not found:
        raise InputError(f"{where} names no frame; leave it out to mean all of them")
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
        raise InputError(f"{where} must hold outlines [x, y, x, y, x, y, ...] in finite numbers")
    if sum(map(len, outlines)) > 2 * _MOST_POINTS:
        raise InputError(f"{where} has more than {_MOST_POINTS} points")
    return outlines


_Reader: TypeAlias = Callable[[Any, str], Any]


def _or_none(read: _Reader) -> _Reader:
    return lambda value, where: None if value is None else read(value, where)


_READERS: Mapping[Any, _Reader] = {
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
"""Reads a value by the type of its field."""
