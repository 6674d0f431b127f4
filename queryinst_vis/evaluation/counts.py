"""What the tracking metrics count; counts of videos and classes add up."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

AnyCounts = TypeVar("AnyCounts", bound="Counts")


@dataclass(frozen=True)
class Counts:
    """Numbers, or arrays of them, which ``+`` adds one by one."""

    def __add__(self: AnyCounts, other: AnyCounts) -> AnyCounts:
        names = [field.name for field in fields(self)]
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in names))
