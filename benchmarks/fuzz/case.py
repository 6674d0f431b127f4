"""Fuzz inputs and their context."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Context:
    """The context in which a case is made.

    Attributes:
        random: the only source of randomness, seeded by the run's seed, the class and ``number``.
        seed: seed of the run.
        number: index of the input in its class, for classes that enumerate their inputs.
        samples: folder of valid inputs, see ``samples.py``; read-only.
        folder: an empty folder, the working directory of the case.
        seconds: time limit of a command.
    """

    random: random.Random
    seed: int
    number: int
    samples: Path
    folder: Path
    seconds: float = 60.0

    def words(self, text: str) -> list[str]:
        """The words of a command line, in which ``{samples}`` is replaced by the folder."""
        return [word.format(samples=self.samples) for word in text.split()]


@dataclass
class Case:
    """An input and the expected outcome.

    Attributes:
        run: a command line for ``queryinst_vis.cli.main``, or a function that calls the library and
            may return an exit status.
        note: short description of the errors in the input.
        outputs: files or folders (or patterns) that a successful run writes.
        keeps: patterns of files that a failed run may also leave.
        changes: patterns of existing files that may change.
        must_reject: why the input must be rejected; None if success is allowed.
        memory: memory limit in MiB, for small files that declare large sizes.
        check: checks the outputs of a successful run; returns a description of the error, or None.
        reaches: other hosts that may be contacted, since the server given by the user redirects to
            them.
    """

    run: list[str] | Callable[[], Any]
    note: str
    outputs: list[str] = field(default_factory=list)
    keeps: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    must_reject: str | None = None
    memory: int | None = None
    check: Callable[[], str | None] | None = None
    reaches: tuple[str, ...] = ()


Maker = Callable[[Context], Case]
"""Creates an input of a class in an empty folder."""
