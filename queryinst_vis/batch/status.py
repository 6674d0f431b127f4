"""The progress of a run, in a file next to the tables, for ``--status`` and for later runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from queryinst_vis.batch.store import Store
from queryinst_vis.errors import InputError

STATUS = "status.json"
"""Name of the file with the progress of the last run."""


@dataclass(frozen=True)
class Unfinished:
    """Videos that earlier runs neither completed nor gave up.

    Attributes:
        attempts: used so far, by key.
        interrupted: keys of the videos that were in progress when the last driver was killed. If
            there was only one, this counts as an attempt; otherwise the culprit is unknown.
    """

    attempts: Mapping[str, int]
    interrupted: frozenset[str]


def write_status(store: Store, status: Mapping[str, Any]) -> None:
    """Replace the status of a data set."""
    store.put_bytes(json.dumps(status, indent=1).encode(), STATUS)


def read_unfinished(store: Store) -> Unfinished:
    """Unfinished videos of earlier runs, according to the status file.

    Raises:
        InputError: the file is damaged.
    """
    status = _load(store) or {}
    attempts = Counter(status.get("attempts", {}))
    interrupted = frozenset(status.get("in_progress", []))
    if len(interrupted) == 1:
        attempts.update(interrupted)
    return Unfinished(attempts, interrupted)


def read_status(out: str) -> dict[str, Any]:
    """The content of a data set's ``status.json``.

    Raises:
        InputError: the file does not exist or is damaged.
    """
    store = Store(out)
    status = _load(store)
    if status is None:
        raise InputError(
            f"{store.name}: contains no {STATUS}; has 'queryinst-vis batch' been run there?"
        )
    return status


def _load(store: Store) -> dict[str, Any] | None:
    data = store.read(STATUS)
    if data is None:
        return None
    try:
        return json.loads(data)
    except ValueError as error:
        raise InputError(f"{store.name}/{STATUS}: is damaged ({error}); delete it") from error


def format_status(status: Mapping[str, Any], now: float) -> str:
    """The status as text of two or three lines.

    Args:
        status: as ``read_status`` returns it.
        now: Unix time in seconds.
    """
    done = status["done"] + status["failed"]
    state = "finished" if status["is_over"] else f"last update {now - status['at']:.0f} s ago"
    rate = status["frames"] / status["elapsed"] if status["elapsed"] else 0.0
    lines = [
        f"{status['videos']} videos: {status['done_before'] + status['done']} done, "
        f"{status['failed_before'] + status['failed']} failed, {status['to_track'] - done} left "
        f"({state})",
        f"this run: {status['frames']} frames, {status['hours']:.2f} hours of video, "
        f"{rate:.1f} frames/s",
    ]
    if status.get("segments"):
        tracked = f"{status['segments_tracked']} of {status['segments']}"
        lines.append(f"{tracked} segments of long videos tracked")
    fraction = status.get("fraction")
    if fraction and not status["is_over"]:
        left = status["elapsed"] * (1 - fraction) / fraction
        lines.append(f"about {left / 60:.0f} minutes left")
    return "\n".join(lines)
