"""Faults of annotation and result files: their kinds, and who refuses a file because of them.

The parsers of this room report every fault as a ``Finding`` to a function. ``data validate``
gathers them all; whoever needs a sound file passes ``refuse_faults``, which raises the first error.
So where ``data validate`` finds no error, training and evaluation accept a file, but for the kinds
that ``REFUSED`` lists.
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
"""How grave each kind of finding is: with an error the file is refused or scored wrongly, a
warning is probably not meant, a note is good to know."""

REFUSED = {
    "training": frozenset({"no file names", "file path"}),
    "evaluation of masks": frozenset({"no annotations", "boxes only"}),
    "evaluation of boxes": frozenset({"no annotations", "no box or area"}),
    "Cityscapes": frozenset({"no annotations", "no file names"}),
}
"""What a use of a file refuses besides errors."""

Place = dict[str, Any]
"""Where in a file: ``{"video": id, "name": its name, "annotation": id, "frame": index}`` or those
of them that apply; ``image`` for images, ``entry`` for what has no id."""


@dataclass(frozen=True)
class Finding:
    """One fault at one place.

    Attributes:
        kind: a key of ``SEVERITIES``.
        place: where in the file; empty for the file as a whole.
        message: what is wrong there.
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
        """The finding with its place spread out, for programs."""
        return {"severity": self.severity, "kind": self.kind, **self.place, "message": self.message}


Report = Callable[[Finding], None]
"""Takes a parser's findings, such as ``list.append`` or what ``refuse_faults`` returns."""


def ignore(finding: Finding) -> None:
    """A ``Report`` for whoever takes what is usable of a file."""


def refuse_faults(where: str, use: str | None = None, remedy: str = "") -> Report:
    """A ``Report`` that raises the first error.

    Args:
        where: the file, to begin the message with.
        use: a key of ``REFUSED``: what the file is for.
        remedy: what the user can do about it, to end the message with.

    Returns:
        A function of a finding, which raises InputError where the finding is an error or ``use``
        does not allow it.
    """
    refused = REFUSED[use] if use else frozenset()

    def report(finding: Finding) -> None:
        if finding.severity == ERROR or finding.kind in refused:
            raise InputError(f"{where}: {finding}{f'; {remedy}' if remedy else ''}")

    return report


def describe_place(place: Place) -> str:
    """``video 3 (0002), annotation 17, frame 4``: a name stands behind what it belongs to."""
    parts: list[str] = []
    for key, value in place.items():
        if key == "name":
            parts[-1] += f" ({value})"
        else:
            parts.append(f"{key} {value}")
    return ", ".join(parts)


def count_severities(found: Sequence[Finding]) -> dict[str, int]:
    """How many errors, warnings and notes there are."""
    counts = Counter(finding.severity for finding in found)
    return {severity: counts[severity] for severity in (ERROR, WARNING, NOTE)}


def summarise(counts: dict[str, int]) -> str:
    """``2 errors, 1 warning`` in words; ``no findings`` without any."""
    parts = [f"{n} {word}{'s' if n > 1 else ''}" for word, n in counts.items() if n]
    return ", ".join(parts) or "no findings"
