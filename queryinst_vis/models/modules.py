"""Lists of modules that say what they hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

from torch import nn

M = TypeVar("M", bound=nn.Module)


def module_list(modules: Iterable[M]) -> Sequence[M]:
    """An ``nn.ModuleList``, typed by its modules: torch's own is a list of any ``nn.Module``."""
    return cast("Sequence[M]", nn.ModuleList(modules))
