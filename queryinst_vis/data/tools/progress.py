"""A progress bar for going through a set."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def show_progress(items: Collection[Item], what: str) -> Iterable[Item]:
    """Iterate with a bar on standard error, if that is a terminal."""
    console = Console(stderr=True)
    return track(items, what, console=console, transient=True, disable=not console.is_terminal)
