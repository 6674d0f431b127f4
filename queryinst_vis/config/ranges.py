"""Ranges of the numbers in the configuration, used as type annotations in the schema."""

from __future__ import annotations

import math
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, get_args, get_type_hints

from queryinst_vis.errors import InputError

LARGEST = 2**63 - 1
"""The largest integer that PyTorch and NumPy can store."""


@dataclass(frozen=True)
class Range:
    """A range: ``least`` and ``most`` are inclusive bounds, ``above`` and ``below`` exclusive."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def complaint(self, value: float) -> str | None:
        """Requirement that a number violates; None if it is in the range."""
        for is_met, bound in (
            (value >= self.least, f"at least {self.least}"),
            (value <= self.most, f"at most {self.most}"),
            (value > self.above, f"above {self.above}"),
            (value < self.below, f"below {self.below}"),
        ):
            if not is_met:
                return bound
        return None


_ANY = Range()

Index = Annotated[int, Range(0)]
Count = Annotated[int, Range(1)]
Width = Annotated[int, Range(1, 65536)]  # channels, queries, samples of a batch
Depth = Annotated[int, Range(0, 100)]  # layers
RoiSize = Annotated[int, Range(1, 256)]  # bins per side
Side = Annotated[int, Range(1, 65536)]  # pixels
Share = Annotated[float, Range(0, 1)]
NotNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(above=0)]


def check_numbers(section: Any, name: str = "") -> None:
    """Check that all numbers of a section are finite and in the ranges of the schema.

    Configs from files and overrides are checked on loading; those made in Python are not.

    Args:
        section: a dataclass of the schema.
        name: its dotted key, as in ``model.backbone``; "" for the whole config.

    Raises:
        InputError: a number that is not finite, out of its range, or too large for 64 bits; names
            its key.
    """
    _check(section, type(section), name)


def _check(value: Any, hint: Any, key: str) -> None:
    if is_dataclass(value):
        hints = get_type_hints(type(value), include_extras=True)
        for name, member in vars(value).items():
            _check(member, hints[name], f"{key}.{name}" if key else name)
    elif isinstance(value, dict):
        for name, member in value.items():
            _check(member, Any, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for index, member in enumerate(value):
            _check(member, next(iter(get_args(hint)), Any), f"{key}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        complaint = _outside(value, _range_of(hint))
        if complaint:
            raise InputError(f"{key}: must be {complaint}, is {value}")


def _outside(value: float, allowed: Range) -> str | None:
    if not math.isfinite(value):
        return "a finite number"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a 64-bit number"
    return allowed.complaint(value)


def _range_of(hint: Any) -> Range:
    """The range in a type such as ``Count`` or ``Count | None``."""
    for part in (hint, *get_args(hint)):
        for extra in getattr(part, "__metadata__", ()):
            if isinstance(extra, Range):
                return extra
    return _ANY
