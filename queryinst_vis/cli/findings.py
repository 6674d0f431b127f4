"""How findings about files reach the user: tables, JSON, and the exit status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from queryinst_vis.data.tools.findings import Finding


def report_findings(found: dict[Path, list[Finding]], json_path: Path | None = None) -> None:
    """Print what was found in each file.

    Args:
        found: findings by the file that they are about.
        json_path: where to write them all as JSON.

    Raises:
        InputError: there are errors among them.
    """
    from rich.console import Console

    from queryinst_vis.data.tools.findings import (
        ERROR,
        count_severities,
        findings_table,
        summarise,
    )
    from queryinst_vis.errors import InputError
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
            console.print(findings_table(one))
        print(f"{path}: {summarise(count_severities(one))}")
    if counts[ERROR]:
        faulty = [str(path) for path, one in found.items() if count_severities(one)[ERROR]]
        raise InputError(f"{' and '.join(faulty)}: {summarise(counts)}")
