"""What is wrong with a file: findings, gathered rather than raised one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

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
    "no file names": WARNING,
    "frame order": WARNING,
    "shared frame": WARNING,
    "file path": WARNING,
    "uneven frames": NOTE,
    "missing image": ERROR,
    "unreadable image": ERROR,
    "image size": ERROR,
    # of tracks and their masks
    "list length": ERROR,
    "crowd flag": ERROR,
    "counts as bytes": ERROR,
    "unreadable mask": ERROR,
    "mask size": ERROR,
    "run lengths": ERROR,
    "polygon": ERROR,
    "empty entry": ERROR,
    "polygon outside": WARNING,
    "empty mask": WARNING,
    "never visible": WARNING,
    "repeated masks": WARNING,
    "annotation size": WARNING,
    "crowd": NOTE,
    "boxes only": NOTE,
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


def describe_place(place: Place) -> str:
    """``video 3 (0002), annotation 17, frame 4``: a name stands behind what it belongs to."""
    parts: list[str] = []
    for key, value in place.items():
        if key == "name":
            parts[-1] += f" ({value})"
        else:
            parts.append(f"{key} {value}")
    return ", ".join(parts)


def refuse_errors(found: Sequence[Finding], path: str | Path, remedy: str) -> None:
    """Raise the first error among the findings, if there is one.

    Args:
        found: findings about the file ``path``.
        path: the file.
        remedy: what the user can do about it.

    Raises:
        InputError: there is an error.
    """
    errors = [finding for finding in found if finding.severity == ERROR]
    if errors:
        raise InputError(f"{path}: {errors[0]}; {remedy}")


def count_severities(found: Sequence[Finding]) -> dict[str, int]:
    """How many errors, warnings and notes there are."""
    counts = Counter(finding.severity for finding in found)
    return {severity: counts[severity] for severity in (ERROR, WARNING, NOTE)}


def summarise(counts: dict[str, int]) -> str:
    """``2 errors, 1 warning`` in words; ``no findings`` without any."""
    parts = [f"{n} {word}{'s' if n > 1 else ''}" for word, n in counts.items() if n]
    return ", ".join(parts) or "no findings"


def findings_table(found: Sequence[Finding], places: int = 3) -> Table:
    """Findings by kind, the gravest first, each with the first few places."""
    groups: dict[str, list[Finding]] = {}
    for finding in found:
        groups.setdefault(finding.kind, []).append(finding)
    table = Table("", "kind", Column("count", justify="right"), "where, and what is wrong")
    table.show_lines = True
    for kind in sorted(groups, key=_gravity):
        group = groups[kind]
        lines = [str(finding) for finding in group[:places]]
        if len(group) > places:
            lines.append(f"... and {len(group) - places} more")
        table.add_row(SEVERITIES[kind], kind, str(len(group)), escape("\n".join(lines)))
    return table


def _gravity(kind: str) -> tuple[int, int]:
    order = (ERROR, WARNING, NOTE).index(SEVERITIES[kind])
    return order, list(SEVERITIES).index(kind)
