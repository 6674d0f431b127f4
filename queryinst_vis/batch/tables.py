"""The tables of a data set: columns, file names and rows.

``OUT/videos/KEY.parquet`` has one row and is written last: a video is done once it exists.
``OUT/tracks/KEY.parquet`` and ``OUT/detections/KEY.parquet`` have the rows of that video;
``OUT/failures/KEY.parquet`` has the reason why there are none. All tables join on ``key``. For
segments of videos that are not done, see ``segment_files``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import queryinst_vis
from queryinst_vis.batch.options import RunOptions, Video
from queryinst_vis.batch.store import Store
from queryinst_vis.formats.track_store import TrackStore, VideoInfo
from queryinst_vis.formats.track_tables import (
    DETECTION_COLUMNS,
    TRACK_COLUMNS,
    Row,
    detection_rows,
    track_rows,
)
from queryinst_vis.inference.outputs.run_file import RunSettings

SCHEMA_VERSION = 1
"""Incremented when a column changes its name, type or meaning, but not for added columns."""

FILES = "files"
"""Folder of the ``--save`` outputs, with one subfolder per key."""

VIDEO_COLUMNS = {
    "key": "string",
    "video_id": "string",
    "name": "string",
    "path": "string",
    "bytes": "int64",
    "sha256": "string",
    "version": "string",
    "width": "int64",
    "height": "int64",
    "fps": "float64",
    "frames": "int64",
    "duration": "float64",
    "tracks": "int64",
    "warnings": "string",
    "weights": "string",
    "weights_sha256": "string",
    "options": "string",
    "batch": "int64",
    "threads": "int64",
    "package": "string",
    "schema_version": "int64",
    "finished_at": "float64",
    "seconds_decoding": "float64",
    "seconds_tracking": "float64",
    "seconds_writing": "float64",
    "seconds_total": "float64",
}
"""Columns of ``videos``. ``duration`` is the time from the first frame to the last, in seconds;
``warnings`` is a JSON list of strings, ``options`` a JSON object."""

TIMES = (
    "finished_at",
    "seconds_decoding",
    "seconds_tracking",
    "seconds_writing",
    "seconds_total",
)
"""Columns that vary between runs: the completion time (Unix time) and durations, in seconds.
``seconds_tracking`` includes waiting for other videos of the same worker."""

TRACK_TABLE = {"key": "string", **TRACK_COLUMNS}
DETECTION_TABLE = {"key": "string", **DETECTION_COLUMNS, "rle": "string"}
"""``rle`` is the ``counts`` of COCO's compressed RLE of a mask with the size of the video."""

FAILURE_COLUMNS = {
    "key": "string",
    "video_id": "string",
    "name": "string",
    "path": "string",
    "kind": "string",
    "reason": "string",
    "attempts": "int64",
    "package": "string",
    "schema_version": "int64",
    "failed_at": "float64",
}
"""Columns of ``failures``. ``kind`` is ``input``, ``memory``, ``hang``, ``crash`` (of the decoder),
``worker`` or ``driver`` (died while processing only this video), ``output`` or ``error``."""


def file_of(table: str, key: str) -> str:
    """The file of a video's rows in a table."""
    return f"{table}/{key}.parquet"


def video_id(video: Video) -> str:
    """A hash of the origin; unaffected by changes of content or settings."""
    return _hash(video.origin)[:16]


def key_of(video: Video, run: RunOptions) -> str:
    """The key of a video's results, a function of everything that they depend on.

    Format: ``VIDEO_ID-HASH``, where the hash covers the version of the content, the weights, the
    options, batch size, number of threads and the versions of package and schema.
    """
    parts = {
        "version": video.version,
        "weights": _weights_checksum(video.options.weights),
        "options": video.options.key_parts(),
        "run": run.key_parts(),
        "package": queryinst_vis.__version__,
        "schema": SCHEMA_VERSION,
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return f"{video_id(video)}-{_hash(text)[:16]}"


def id_of_key(key: str) -> str:
    """The ``video_id`` in a key."""
    return key.partition("-")[0]


def tracks_table(key: str, tracks: TrackStore, video: VideoInfo) -> Iterator[Row]:
    """Rows of ``tracks``, by ascending track id."""
    for row in track_rows(tracks, video):
        yield {"key": key, **row}


def detections_table(key: str, tracks: TrackStore, video: VideoInfo) -> Iterator[Row]:
    """Rows of ``detections``, by frame and track id."""
    masks = (instance.segmentation for frame in tracks.frames() for _, instance in frame.tracks)
    for row, mask in zip(detection_rows(tracks, video), masks, strict=True):
        yield {"key": key, **row, "rle": mask["counts"]}


def failure_row(key: str, video: Video, kind: str, reason: str, attempts: int, at: float) -> Row:
    """The row of ``failures``."""
    return {
        "key": key,
        "video_id": video_id(video),
        "name": video.name,
        "path": video.origin,
        "kind": kind,
        "reason": reason,
        "attempts": attempts,
        **_provenance(),
        "failed_at": at,
    }


def video_row(
    key: str,
    video: Video,
    run: RunOptions,
    source: Mapping[str, Any],
    record: Mapping[str, Any],
    at: float,
) -> Row:
    """The row of ``videos``.

    Args:
        key: of the results.
        video: the tracked video.
        run: settings of the run.
        source: columns provided by the decoder: ``bytes``, ``sha256``, ``warnings``, ``duration``
            and ``seconds_decoding``.
        record: the content of ``run.json``.
        at: completion time, as Unix time in seconds.
    """
    spent = record["seconds"]
    return {
        "key": key,
        "video_id": video_id(video),
        "name": video.name,
        "path": video.origin,
        "version": video.version,
        "width": record["source"]["width"],
        "height": record["source"]["height"],
        "fps": record["source"]["fps"],
        "frames": record["frames"],
        "tracks": record["tracks"],
        "weights": record["weights"]["name"],
        "weights_sha256": record["weights"]["sha256"],
        "options": json.dumps(record["options"], sort_keys=True, default=str),
        "batch": run.batch,
        "threads": run.threads,
        **_provenance(),
        "finished_at": at,
        "seconds_tracking": spent["tracking"],
        "seconds_writing": spent["writing"],
        "seconds_total": spent["total"],
        **source,
    }


def table_files(store: Store, table: str) -> list[str]:
    """Names of the files of a table, without empty ones, which a power failure may leave."""
    return [name for name, size in store.list(table).items() if size]


def done_keys(store: Store) -> set[str]:
    """Keys of the completed videos, including those in compacted files."""
    keys = set()
    for name in table_files(store, "videos"):
        stem = Path(name).stem
        if is_compacted(name):
            column = store.open_parquet(f"videos/{name}").read(columns=["key"]).column("key")
            keys.update(column.to_pylist())
        else:
            keys.add(stem)
    return keys


def failed_keys(store: Store) -> set[str]:
    """Keys of the videos that have failed."""
    return {Path(name).stem for name in table_files(store, "failures")}


def is_compacted(name: str) -> bool:
    """Whether a file of a table contains the rows of several videos."""
    return Path(name).name.startswith("part-")


def remove_video(store: Store, key: str) -> None:
    """Delete the files of a video, its row in ``videos`` first."""
    for table in ("videos", "tracks", "detections"):
        store.delete(file_of(table, key))
    for name in store.list(f"{FILES}/{key}", recursive=True):
        store.delete(f"{FILES}/{key}/{name}")


def _provenance() -> Row:
    return {"package": queryinst_vis.__version__, "schema_version": SCHEMA_VERSION}


@cache
def _weights_checksum(weights: str) -> str:
    """The checksum of the weights, or their name if they are a third-party detector."""
    return RunSettings(weights).weights_sha256 or weights


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
