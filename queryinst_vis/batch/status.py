"""How far a run is: a file beside the tables, for other terminals and for the next run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from queryinst_vis.batch.store import Store
from queryinst_vis.errors import InputError

STATUS = "status.json"
"""How far the last run is, beside the tables."""


@dataclass(frozen=True)
class Unsettled:
    """What earlier runs left behind.

    Attributes:
        attempts: that videos have used up, by key.
        interrupted: keys of the videos that were in progress when the last driver was killed. One
            that was on its own has used up an attempt by that; of several, nobody knows whose fault
            it was.
    """

    attempts: Mapping[str, int]
    interrupted: frozenset[str]


def write_status(store: Store, status: Mapping[str, Any]) -> None:
    """Replace the status of a data set."""
    store.put_bytes(json.dumps(status, indent=1).encode(), STATUS)


def read_unsettled(store: Store) -> Unsettled:
    """What earlier runs left behind, according to the status.

    Raises:
        InputError: the file is damaged.
    """
    status = _load(store) or {}
    attempts = Counter(status.get("attempts", {}))
    interrupted = frozenset(status.get("in_progress", []))
    if len(interrupted) == 1:
        attempts.update(interrupted)
    return Unsettled(attempts, interrupted)


def read_status(out: str) -> dict[str, Any]:
    """How far the last run of a data set is: the content of its ``status.json``.

    Raises:
        InputError: there is none, or it is damaged.
    """
    store = Store(out)
    status = _load(store)
    if status is None:
        raise InputError(f"{store.name}: holds no {STATUS}; has 'queryinst-vis batch' begun there?")
    return status


def _load(store: Store) -> dict[str, Any] | None:
    data = store.read(STATUS)
    if data is None:
        return None
    try:
        return json.loads(data)
    except ValueError as error:
        raise InputError(f"{store.name}/{STATUS}: is damaged ({error}); remove it") from error


def tell_status(status: Mapping[str, Any], now: float) -> str:
    """The status in a few lines."""
    done = status["done"] + status["failed"]
    state = "over" if status["is_over"] else f"last sign of life {now - status['at']:.0f} s ago"
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
    if done and not status["is_over"]:
        left = status["elapsed"] / done * (status["to_track"] - done)
        lines.append(f"about {left / 60:.0f} minutes left")
    return "\n".join(lines)
