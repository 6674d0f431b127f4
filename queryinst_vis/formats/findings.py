"""Kinds of problems in annotation and result files, and which uses reject a file for them.

The parsers of this package report every problem as a ``Finding`` to a function. ``data validate``
collects all of them; code that needs a valid file passes ``refuse_faults``, which raises the first
error. If ``data validate`` finds no error, training and evaluation accept a file, except for the
kinds listed in ``REFUSED``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from queryinst_vis.errors import InputError

ERROR, WARNING, NOTE = "error", "warning", "note"

SEVERITIES = {
    # of the file as a whole
    "missing list": ERROR,
    "broken entry": ERROR,
    "duplicate id": ERROR,
    "unknown id": ERROR,
    "class name": ERROR,
    "id 0": WARNING,
    "no annotations": NOTE,
    "unused class": NOTE,
    "nothing annotated": NOTE,
    # of videos and images
    "frame size": ERROR,
    "frame list": ERROR,
    "repeated frame": WARNING,
    "no file names": WARNING,
    "frame order": WARNING,
    "shared frame": WARNING,
    "file path": WARNING,
    "uneven frames": NOTE,
    "missing image": ERROR,
    "unreadable image": ERROR,
    "image size": ERROR,
    "image orientation": WARNING,
    "image bits": NOTE,
    # of tracks and their masks
    "list length": ERROR,
    "crowd flag": ERROR,
    "counts as bytes": ERROR,
    "unreadable mask": ERROR,
    "mask size": ERROR,
    "run lengths": ERROR,
    "polygon": ERROR,
    "nothing shown": ERROR,
    "empty entry": WARNING,
    "polygon outside": WARNING,
    "empty mask": WARNING,
    "never visible": WARNING,
    "repeated masks": WARNING,
    "annotation size": WARNING,
    "crowd": NOTE,
    "boxes only": NOTE,
    "masks missing": WARNING,
    # of the boxes and areas beside the masks
    "broken box": ERROR,
    "broken area": ERROR,
    "empty box": WARNING,
    "box differs": WARNING,
    "box without mask": WARNING,
    "mask without box": WARNING,
    "area differs": WARNING,
    "area without mask": WARNING,
    "mask without area": WARNING,
    "no box or area": WARNING,
    # of result files
    "score": ERROR,
    "not compressed": ERROR,
    "other files": WARNING,
    "score range": WARNING,
    "too many": WARNING,
    "nothing found": WARNING,
}
"""Severity of each kind: a file with errors is rejected or evaluated incorrectly, warnings are
probably mistakes, notes are for information."""

REFUSED = {
    "training": frozenset({"no file names", "file path"}),
    "evaluation of masks": frozenset({"no annotations", "boxes only"}),
    "evaluation of boxes": frozenset({"no annotations", "no box or area"}),
    "Cityscapes": frozenset({"no annotations", "no file names"}),
}
"""Kinds that a use of a file rejects in addition to errors."""

Place = dict[str, Any]
"""Place in a file: ``{"video": id, "name": its name, "annotation": id, "frame": index}``, as far as
applicable; ``image`` for images, ``entry`` for entries without id."""


@dataclass(frozen=True)
class Finding:
    """One problem at one place.

    Attributes:
        kind: a key of ``SEVERITIES``.
        place: place in the file; empty for the whole file.
        message: description of the problem.
    """

    kind: str
    place: Place
    message: str

    @property
    def severity(self) -> str:
        """``"error"``, ``"warning"`` or ``"note"``."""
        return SEVERITIES[self.kind]

    def __str__(self) -> str:
        where = describe_place(self.place)
        return f"{where}: {self.message}" if where else self.message

    def as_json(self) -> dict[str, Any]:
        """The finding as a flat JSON object."""
        return {"severity": self.severity, "kind": self.kind, **self.place, "message": self.message}


Report = Callable[[Finding], None]
"""Receives the findings of a parser, such as ``list.append`` or the result of ``refuse_faults``."""


def ignore(finding: Finding) -> None:
    """A ``Report`` for using only the valid parts of a file."""


def refuse_faults(where: str, use: str | None = None, remedy: str = "") -> Report:
    """A ``Report`` that raises the first error.

    Args:
        where: the file, as prefix of the message.
        use: a key of ``REFUSED``: the use of the file.
        remedy: advice for the user, as suffix of the message.

    Returns:
        A function of a finding, which raises InputError if the finding is an error or ``use``
        does not allow it.
    """
    refused = REFUSED[use] if use else frozenset()

    def report(finding: Finding) -> None:
        if finding.severity == ERROR or finding.kind in refused:
            raise InputError(f"{where}: {finding}{f'; {remedy}' if remedy else ''}")

    return report


def describe_place(place: Place) -> str:
    """For example ``video 3 (0002), annotation 17, frame 4``."""
    parts: list[str] = []
    for key, value in place.items():
        if key == "name":
            parts[-1] += f" ({value})"
        else:
            parts.append(f"{key} {value}")
    return ", ".join(parts)


def count_severities(found: Sequence[Finding]) -> dict[str, int]:
    """The number of errors, warnings and notes."""
    counts = Counter(finding.severity for finding in found)
    return {severity: counts[severity] for severity in (ERROR, WARNING, NOTE)}


def summarise(counts: dict[str, int]) -> str:
    """For example ``2 errors, 1 warning``; ``no findings`` without any."""
    parts = [f"{n} {word}{'s' if n > 1 else ''}" for word, n in counts.items() if n]
    return ", ".join(parts) or "no findings"
