"""Checks of numbers from JSON files and arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, TypeGuard

_USUAL = {int, float}


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether a value is an integer, from JSON or NumPy; ``True`` and ``False`` are not."""
    return type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether a value is a number that fits into a float; ``True`` and ``False`` are not."""
    return are_finite((value,))


def are_finite(values: Sequence[Any]) -> bool:
    """Whether ``is_finite`` holds for all values; fast for long lists."""
    types = set(map(type, values))
    if not types <= _USUAL and not all(
        issubclass(kind, Real) and not issubclass(kind, bool) for kind in types
    ):
        return False
    try:  # checking the sum is sufficient in nearly all cases
        return math.isfinite(sum(values)) or all(map(math.isfinite, values))
    except OverflowError:  # an integer of hundreds of digits
        return False
