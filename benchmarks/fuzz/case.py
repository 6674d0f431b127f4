"""What a fuzz input is, and what it needs."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Room:
    """Where and from what a case is made.

    Attributes:
        random: the only source of chance: it follows from the run's seed, the class and ``number``.
        seed: of the run.
        number: which input of its class this is; classes that enumerate use it.
        samples: sound inputs, see ``samples.py``; read only.
        folder: an empty folder, the working directory of the case.
        seconds: that a command may take.
    """

    random: random.Random
    seed: int
    number: int
    samples: Path
    folder: Path
    seconds: float = 60.0

    def words(self, text: str) -> list[str]:
        """A command line; ``{samples}`` in it is their folder."""
        return [word.format(samples=self.samples) for word in text.split()]


@dataclass
class Case:
    """An input, and what must come of it.

    Attributes:
        run: a command line for ``queryinst_vis.cli.main``, or a function that calls the library; it
            may return an exit status.
        note: in a few words, what is wrong with the input.
        outputs: files or folders that a success leaves, or patterns of them.
        keeps: patterns of files that even a failure may leave.
        changes: patterns of files that are there already and may change.
        refuse: why success would be wrong; None where success is fine.
        memory: MiB that it may take, where a small file claims to be a large one.
        check: looks at what a success wrote; returns what is wrong with it, or nothing.
        reaches: other machines that it may look for, because the server that the user named
            redirects to them.
    """

    run: list[str] | Callable[[], Any]
    note: str
    outputs: list[str] = field(default_factory=list)
    keeps: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    refuse: str | None = None
    memory: int | None = None
    check: Callable[[], str | None] | None = None
    reaches: tuple[str, ...] = ()


Maker = Callable[[Room], Case]
"""Makes the input of a class in an empty folder."""
