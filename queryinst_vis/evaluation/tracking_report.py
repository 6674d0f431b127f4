"""Tracking metrics as tables for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from queryinst_vis.evaluation.coverage import RATIOS
from queryinst_vis.evaluation.report import print_videos
from queryinst_vis.evaluation.tracking_metrics import COUNTS

FAMILIES = {
    "HOTA, %": ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA"),
    "identity, %": ("IDF1", "IDR", "IDP", "IDSW", "Frag", "MT", "PT", "ML"),
    "CLEAR MOT, %": ("MOTA", "sMOTA", "MOTP", "TP", "FN", "FP"),
    "identities": (
        "objects",
        "objects_found",
        "identities",
        "identities_matched",
        "identities_per_object",
        "objects_per_identity",
    ),
}
"""Tables and their columns; four keep within the width of a terminal."""

SHORT = ("HOTA", "DetA", "AssA", "IDF1", "MOTA", "IDSW", "Frag")
"""What a video's row shows."""

SHORT_IDENTITIES = (
    "objects",
    "objects_found",
    "identities_per_object",
    "objects_per_identity",
    "IDSW",
    "HOTA",
    "IDF1",
)
"""What a video's row shows in the table of identities."""

HEADINGS = {
    "objects_found": "found",
    "identities": "ids",
    "identities_matched": "matched",
    "identities_per_object": "ids/object",
    "objects_per_identity": "objects/id",
}
"""Columns whose heading is shorter than the metric's name."""


def print_tracking(
    metrics: dict[str, Any], per_video: bool = False, console: Console | None = None
) -> None:
    """Print what ``evaluate_tracking`` returned; fractions in percent, the rest as it is.

    Args:
        metrics: the dict.
        per_video: also a table with a row for each video.
        console: where to print; standard output if None.
    """
    console = console or Console()
    rows = dict(metrics["per_class"])
    if len(rows) > 1:
        rows["mean of classes"] = metrics["class_averaged"]
        rows["all pooled"] = metrics["detection_averaged"]
    for title, names in FAMILIES.items():
        console.print(_table(title, names, rows))
    if per_video:
        videos = {found["video"]: found for found in metrics["per_video"]}
        console.print(_table("video", SHORT, videos))
        console.print(_table("video", SHORT_IDENTITIES, videos))
    print_videos(metrics["videos"], console)
    console.print("On masks MOTA is MOTSA, sMOTA is sMOTSA and MOTP is MOTSP.")


def _table(title: str, names: tuple[str, ...], rows: dict[str, dict | None]) -> Table:
    table = Table(title, *(Column(HEADINGS.get(n, n), justify="right") for n in names))
    for row, found in rows.items():
        table.add_row(escape(row), *("-" if found is None else _text(found, n) for n in names))
    return table


def _text(found: dict[str, float], name: str) -> str:
    value = found[name]
    if name in COUNTS:
        return str(value)
    if name in RATIOS:
        return "-" if value is None else f"{value:.2f}"
    return f"{100 * value:.1f}"
