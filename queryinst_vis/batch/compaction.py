"""Compaction: merges the many small files of a data set; crash-safe.

Writing the plan file commits a compaction. Before that, the new files are in a staging folder and
the data set is unchanged. Afterwards the plan is executed, if necessary by the next run: the old
files are deleted, those of ``videos`` first, then the new ones are published, ``videos`` last. A
reader of ``videos/*.parquet`` may therefore miss rows for a moment, but never sees duplicates, and
a join on ``key`` never yields a partial video.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

from queryinst_vis.batch.store import Store
from queryinst_vis.batch.tables import (
    DETECTION_TABLE,
    TRACK_TABLE,
    VIDEO_COLUMNS,
    done_keys,
    id_of_key,
    is_compacted,
    remove_video,
    table_files,
)
from queryinst_vis.formats.track_tables import Row, write_parquet
from queryinst_vis.utils.files import temporary_folder

PLAN = "compaction/plan.json"

_STAGED = "compaction"
_COLUMNS = {"detections": DETECTION_TABLE, "tracks": TRACK_TABLE, "videos": VIDEO_COLUMNS}
"""In the order in which new files are published; old files are deleted in reverse order."""

_ROWS = 10_000  # per read


def compact(store: Store, *, even_one_file: bool = False) -> int:
    """Merge all files of each table into one; returns the number of files merged.

    Outdated rows of a video whose content or settings have changed are dropped: of the keys with
    the same ``video_id``, only the one that finished last is kept. A single file is left alone
    unless ``even_one_file``.

    Raises:
        InputError: a file cannot be read or written.
    """
    finish_compaction(store)
    names = {table: table_files(store, table) for table in _COLUMNS}
    if len(names["videos"]) < 2 and not even_one_file:
        return 0
    keep = _newest_keys(store, names["videos"])
    old = [f"{table}/{name}" for table in reversed(_COLUMNS) for name in _committed(names, table)]
    suffix = secrets.token_hex(8)
    new = []
    with temporary_folder() as folder:
        for table, columns in _COLUMNS.items():
            path = folder / f"{table}.parquet"
            write_parquet(path, columns, _rows(store, table, _committed(names, table), keep))
            store.put(path, f"{_STAGED}/{table}-{suffix}.parquet")
            new.append([f"{_STAGED}/{table}-{suffix}.parquet", f"{table}/part-{suffix}.parquet"])
            path.unlink()
    store.put_bytes(json.dumps({"old": old, "new": new}).encode(), PLAN)
    finish_compaction(store)
    return len(old)


def outdated_keys(store: Store, done: Set[str]) -> set[str]:
    """The keys of completed videos that also have a newer key.

    Args:
        store: the data set.
        done: keys of the completed videos.
    """
    count = Counter(map(id_of_key, done))
    several = {key for key in done if count[id_of_key(key)] > 1}
    names = [
        name
        for name in (table_files(store, "videos") if several else ())
        if is_compacted(name) or name.removesuffix(".parquet") in several
    ]
    return several - _newest_keys(store, names)


def remove_outdated(store: Store) -> None:
    """Remove results that newer ones of the same video have replaced.

    Repeated by every run, since the one that replaced them may have been killed before.
    """
    old = outdated_keys(store, done_keys(store))
    for key in old:
        remove_video(store, key)
    if old and done_keys(store) & old:  # in compacted files
        compact(store, even_one_file=True)


def finish_compaction(store: Store) -> None:
    """Complete an interrupted compaction that was committed, or remove its staged files."""
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
    """The files of a table that belong to completed videos, compacted files first."""
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


def _rows(store: Store, table: str, names: list[str], keep: set[str]) -> Iterator[Row]:
    """The rows of the keys to keep, each key from the first file that contains it."""
    seen: set[str] = set()
    for name in names:
        keys: set[str] = set()
        for batch in store.open_parquet(f"{table}/{name}").iter_batches(_ROWS):
            for row in batch.to_pylist():
                if row["key"] in keep and row["key"] not in seen:
                    keys.add(row["key"])
                    yield row
        seen |= keys
