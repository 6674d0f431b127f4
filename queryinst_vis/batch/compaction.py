"""Many small files of a data set become few large ones; it may be killed at any moment.

A plan is the commit. Before it exists, new files lie where nobody looks, and nothing has changed.
Once it exists, whoever comes next finishes what it says: the old files go first, ``videos`` before
the others, and the new ones are published after that, ``videos`` last. So a reader of
``videos/*.parquet`` may miss rows for the moment in between, but never sees one twice, and whoever
joins on ``key`` never sees a part of a video.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from queryinst_vis.batch.store import Store
from queryinst_vis.batch.tables import DETECTION_TABLE, TRACK_TABLE, VIDEO_COLUMNS, is_compacted
from queryinst_vis.formats.track_tables import Row, write_parquet
from queryinst_vis.utils.files import temporary_folder

PLAN = "compaction/plan.json"

_STAGED = "compaction"
_COLUMNS = {"detections": DETECTION_TABLE, "tracks": TRACK_TABLE, "videos": VIDEO_COLUMNS}
"""In the order in which new files are published; old ones go in the opposite one."""

_ROWS = 10_000  # that are read at a time


def compact(store: Store) -> int:
    """Write the rows of all files of each table into one; returns the number of files that went.

    Rows of a video whose content or settings have changed since are left out: of the keys of one
    ``video_id`` the one that was finished last stays.

    Raises:
        InputError: a file cannot be read or written.
    """
    finish_compaction(store)
    names = {table: list(store.list(table)) for table in _COLUMNS}
    if len(names["videos"]) < 2:
        return 0
    stays = _newest_keys(store, names["videos"])
    old = [f"{table}/{name}" for table in reversed(_COLUMNS) for name in _committed(names, table)]
    mark = secrets.token_hex(8)
    new = []
    with temporary_folder() as folder:
        for table, columns in _COLUMNS.items():
            path = folder / f"{table}.parquet"
            write_parquet(path, columns, _rows(store, table, _committed(names, table), stays))
            store.put(path, f"{_STAGED}/{table}-{mark}.parquet")
            new.append([f"{_STAGED}/{table}-{mark}.parquet", f"{table}/part-{mark}.parquet"])
            path.unlink()
    store.put_bytes(json.dumps({"old": old, "new": new}).encode(), PLAN)
    finish_compaction(store)
    return len(old)


def finish_compaction(store: Store) -> None:
    """Finish a compaction that was interrupted, or remove what it had prepared."""
    data = store.read(PLAN)
    if data is not None:
        plan: dict[str, Any] = json.loads(data)
        for name in plan["old"]:
            store.delete(name)
        for staged, name in plan["new"]:
            content = store.open_parquet(staged)
            with temporary_folder() as folder:
                path = folder / "table.parquet"
                _copy(content, path)
                store.put(path, name)
        store.delete(PLAN)
    for name in store.list(_STAGED):
        if f"{_STAGED}/{name}" != PLAN:
            store.delete(f"{_STAGED}/{name}")


def _copy(content: Any, path: Path) -> None:
    from pyarrow import parquet

    with parquet.ParquetWriter(path, content.schema_arrow) as writer:
        for batch in content.iter_batches(_ROWS):
            writer.write_batch(batch)


def _committed(names: dict[str, list[str]], table: str) -> list[str]:
    """The files of a table that belong to a video that is done, compacted ones first."""
    done = set(names["videos"])
    chosen = [name for name in names[table] if is_compacted(name) or name in done]
    return sorted(chosen, key=lambda name: (not is_compacted(name), name))


def _newest_keys(store: Store, names: list[str]) -> set[str]:
    newest: dict[str, tuple[float, str]] = {}
    for name in names:
        columns = ["key", "video_id", "finished_at"]
        for row in store.open_parquet(f"videos/{name}").read(columns=columns).to_pylist():
            found = row["finished_at"], row["key"]
            newest[row["video_id"]] = max(newest.get(row["video_id"], found), found)
    return {key for _, key in newest.values()}


def _rows(store: Store, table: str, names: list[str], stays: set[str]) -> Iterator[Row]:
    """The rows of a table, each video's once."""
    seen: set[str] = set()
    for name in names:
        here: set[str] = set()
        for batch in store.open_parquet(f"{table}/{name}").iter_batches(_ROWS):
            for row in batch.to_pylist():
                if row["key"] in stays and row["key"] not in seen:
                    here.add(row["key"])
                    yield row
        seen |= here
