"""Report findings about files: tables, JSON, and the exit status."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from queryinst_vis.formats.findings import Finding


def report_findings(found: dict[Path, list[Finding]], json_path: Path | None = None) -> None:
    """Print the findings of each file.

    Args:
        found: findings by file.
        json_path: where to write all findings as JSON.

    Raises:
        InputError: there are errors among the findings.
    """
    from rich.console import Console

    from queryinst_vis.errors import InputError
    from queryinst_vis.formats.findings import (
        ERROR,
        count_severities,
        summarise,
    )
    from queryinst_vis.utils.files import write_json_atomically

    counts = count_severities([finding for one in found.values() for finding in one])
    if json_path is not None:
        entries = [
            {"file": str(path), **finding.as_json()}
            for path, one in found.items()
            for finding in one
        ]
        write_json_atomically(json_path, {**counts, "findings": entries})
    console = Console()
    for path, one in found.items():
        if one:
            console.print(_table(one))
        print(f"{path}: {summarise(count_severities(one))}")
    if counts[ERROR]:
        faulty = [str(path) for path, one in found.items() if count_severities(one)[ERROR]]
        raise InputError(f"{' and '.join(faulty)}: {summarise(counts)}")


def _table(found: Sequence[Finding], places: int = 3) -> Table:
    """Findings by kind, most severe first, each with the first few places."""
    from rich.markup import escape
    from rich.table import Column, Table

    from queryinst_vis.formats.findings import ERROR, NOTE, SEVERITIES, WARNING

    groups: dict[str, list[Finding]] = {}
    for finding in found:
        groups.setdefault(finding.kind, []).append(finding)
    table = Table("", "kind", Column("count", justify="right"), "occurrences")
    table.show_lines = True
    order = sorted(SEVERITIES, key=lambda kind: (ERROR, WARNING, NOTE).index(SEVERITIES[kind]))
    for kind in sorted(groups, key=order.index):
        group = groups[kind]
        lines = [str(finding) for finding in group[:places]]
        if len(group) > places:
            lines.append(f"... and {len(group) - places} more")
        table.add_row(SEVERITIES[kind], kind, str(len(group)), escape("\n".join(lines)))
    return table
