"""The HTML report of a training run: curves, samples, predictions, config and environment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.report import percent
from queryinst_vis.formats.training_starts import STARTS_FILE, read_starts
from queryinst_vis.report.page import Column, Table, data_uri, render_page, write_page
from queryinst_vis.utils.images import encode_jpeg, read_image
from queryinst_vis.visualization.curves import Curve, curve_charts, read_curves

_MAX_SHEETS = 10  # number of prediction sheets, evenly spaced over the training
_SHEET_WIDTH = 1280  # pixels
_SHEET_BYTES = 800_000  # per picture, before base64
_MAX_CONFIG = 256 * 1024  # bytes, the limit for configs
_STEP = re.compile(r"step_(\d{1,12})\.jpg")


def write_training_page(work_dir: str | Path, out: str | Path) -> None:
    """Write the report of a training run, which may still be in progress.

    The report lists what is missing in work dirs of earlier versions.

    Args:
        work_dir: folder of the run.
        out: the HTML file; written completely or not at all.

    Raises:
        InputError: the folder contains no run, a file in it is invalid, or the report cannot be
            written.
    """
    work_dir = Path(work_dir)
    if not (work_dir / "config.yaml").is_file():
        raise InputError(f"work dir {work_dir}: contains no training run (no config.yaml)")
    metrics = work_dir / "metrics.csv"
    curves = read_curves(metrics) if metrics.exists() else {}
    starts = read_starts(work_dir)
    restarts = sorted({start["step"] for start in starts[1:]})
    sheet = work_dir / "samples" / "training.jpg"
    sheets = _prediction_sheets(work_dir / "samples")
    charts = curve_charts(curves, restarts)
    context = {
        "work_dir": work_dir.resolve().name,
        "headline": _headline(curves),
        "titles": list(charts),
        "restarts": restarts,
        "scores": _scores_table(curves),
        "starts": None if not starts else _starts_table(starts),
        "first": _about(starts[0]) if starts else None,
        "changed": _changed_table(starts[0]) if starts else None,
        "base": _base_name(starts[0]) if starts else None,
        "config": _read_text(work_dir / "config.yaml"),
        "samples": _picture(sheet) if sheet.exists() else None,
        "sheets": [(step, _picture(path)) for step, path in sheets],
        "lacking": _lacking(metrics.exists(), bool(starts), sheet.exists(), bool(sheets)),
    }
    named = {
        str(number): chart.properties(height=200) for number, chart in enumerate(charts.values())
    }
    title = f"Training {work_dir.resolve().name}"
    html = render_page("training.html.j2", title, context, scripts=("sheets.js",), charts=named)
    write_page(out, html)


def _headline(curves: dict[str, Curve]) -> list[tuple[str, str]]:
    """The key figures of the training."""
    steps = max((curve[-1][0] for curve in curves.values() if curve), default=0)
    shown = [("steps", f"{steps:,}")]
    if curves.get("loss"):
        shown.append(("loss", f"{curves['loss'][-1][1]:.3f}"))
    for name, curve in curves.items():
        if name.startswith("val/") and curve:
            step, best = max(curve, key=lambda point: point[1])
            shown.append(
                (f"best {name.removeprefix('val/')}, step {step:,}", f"{100 * best:.1f} %")
            )
    return shown


def _scores_table(curves: dict[str, Curve]) -> Table | None:
    """The validation scores of every evaluation."""
    scores = {k.removeprefix("val/"): dict(c) for k, c in curves.items() if k.startswith("val/")}
    if not scores:
        return None
    steps = sorted({step for curve in scores.values() for step in curve})
    columns = [Column("step", str), *(Column(f"{name}, %", percent) for name in scores)]
    return Table(columns, [[s, *(curve.get(s) for curve in scores.values())] for s in steps])


def _starts_table(starts: Sequence[dict[str, Any]]) -> Table:
    """Times, devices and notes of every start and restart."""
    columns = [Column("after step", str), *map(Column, ("time", "device", "processes", "notes"))]
    rows = []
    for start in starts:
        environment = _part(start, "environment")
        notes = start.get("notes")
        rows.append(
            [
                start["step"],
                start.get("time", ""),
                environment.get("device", ""),
                environment.get("processes", ""),
                "; ".join(map(str, notes)) if isinstance(notes, list) else "",
            ]
        )
    return Table(columns, rows)


def _about(start: dict[str, Any]) -> list[tuple[str, str]]:
    """Seed, initial weights and environment."""
    environment, weights = _part(start, "environment"), _part(start, "weights")
    fingerprint = _part(weights, "fingerprint")
    began = weights.get("name") or "random weights"
    if fingerprint:
        began += (
            f" ({fingerprint.get('bytes')} bytes, {str(fingerprint.get('sha256_of_ends'))[:12]})"
        )
    versions = _part(environment, "versions")
    return [
        ("started", str(start.get("time", ""))),
        ("seed", str(start.get("seed", ""))),
        ("initial weights", str(began)),
        ("device", str(environment.get("device", ""))),
        ("processes", str(environment.get("processes", ""))),
        ("precision", str(environment.get("precision", ""))),
        ("system", str(environment.get("system", ""))),
        ("code", str(environment.get("code", ""))),
        ("libraries", ", ".join(f"{name} {number}" for name, number in versions.items())),
    ]


def _part(record: dict[str, Any], key: str) -> dict[str, Any]:
    """A dict in a record; empty if it is something else."""
    part = record.get(key)
    return part if isinstance(part, dict) else {}


def _base_name(start: dict[str, Any]) -> str | None:
    return _part(start, "base").get("name")


def _changed_table(start: dict[str, Any]) -> Table | None:
    """The keys in which the config differs from the config passed to ``train``."""
    if _base_name(start) is None:
        return None
    changed = _part(_part(start, "base"), "changed")
    rows = [
        [key, str(pair[0]), str(pair[1])]
        for key, pair in changed.items()
        if isinstance(pair, list) and len(pair) == 2
    ]
    return Table([Column("key"), Column("this run"), Column("base config")], rows)


def _read_text(path: Path) -> str:
    """The text of the config, without resolving references."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_CONFIG).decode(errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _prediction_sheets(folder: Path) -> list[tuple[int, Path]]:
    """Steps and pictures of evaluations: at most ``_MAX_SHEETS``, evenly spaced, with the last."""
    found = sorted(
        (int(match[1]), path)
        for path in folder.glob("step_*.jpg")
        if (match := _STEP.fullmatch(path.name))
    )
    if len(found) <= _MAX_SHEETS:
        return found
    kept = {round(k * (len(found) - 1) / (_MAX_SHEETS - 1)) for k in range(_MAX_SHEETS)}
    return [found[index] for index in sorted(kept)]


def _picture(path: Path) -> str:
    """A picture as a data URI, downscaled until it fits.

    Raises:
        InputError: it cannot be read.
    """
    pixels = read_image(path)
    width = min(_SHEET_WIDTH, pixels.shape[1])
    while True:
        height = max(round(pixels.shape[0] * width / pixels.shape[1]), 1)
        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        jpeg = encode_jpeg(small, 80)
        if len(jpeg) <= _SHEET_BYTES or width < 64:
            return data_uri(jpeg, "image/jpeg")
        width = width * 3 // 4


def _lacking(metrics: bool, starts: bool, samples: bool, sheets: bool) -> list[str]:
    """What is missing in the work dir, and possible reasons."""
    known = {
        "no metrics.csv: train.loggers excludes it, or nothing has been logged yet": metrics,
        f"no {STARTS_FILE}: written by an earlier version, which did not record restarts, "
        "environment, initial weights and the base config": starts,
        "no picture of training samples: written by an earlier version, or train.samples is "
        "0": samples,
        "no pictures of predictions: data.val is not set, train.samples is 0, or nothing has been "
        "evaluated yet": sheets,
    }
    return [what for what, is_there in known.items() if not is_there]
