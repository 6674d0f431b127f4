"""The tracks of a video of any length, on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from types import TracebackType

from queryinst_vis.errors import InputError
from queryinst_vis.structures import Detections, Track

_SCHEMA = """
    CREATE TABLE sightings (
        track INTEGER, frame INTEGER, score REAL, label INTEGER,
        x0 REAL, y0 REAL, x1 REAL, y1 REAL, counts TEXT,
        PRIMARY KEY (track, frame)
    ) WITHOUT ROWID
"""


class TrackStore:
    """What ``VideoResult`` is in memory, for videos that may never end.

    Sightings go to a temporary SQLite database, which the system removes when it is closed or
    the process dies; iterating loads one track after the other.

    Attributes:
        length: frames so far.

    Raises:
        InputError: the folder for temporary files is full or cannot be written.
    """

    def __init__(self) -> None:
        self.length = 0
        self._frame_size = [0, 0]
        # "": a file of SQLite's own in the folder for temporary files; nobody else reads it, so
        # there is nothing to protect by journals or locks
        self._database = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute(_SCHEMA)

    def __enter__(self) -> TrackStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.close()

    def add(self, detections: Detections) -> None:
        """Append the next frame's tracked detections (``track_ids`` >= 0 and unique)."""
        frame, self.length = self.length, self.length + 1
        self._frame_size = list(detections.image_size)
        columns = (
            detections.track_ids.tolist(),
            [frame] * len(detections),
            detections.scores.tolist(),
            detections.labels.tolist(),
            *detections.boxes.T.tolist(),
            [rle["counts"] for rle in detections.rles()],
        )
        try:
            self._database.executemany(
                "INSERT INTO sightings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                zip(*columns, strict=True),
            )
        except sqlite3.OperationalError as error:
            raise InputError(
                f"cannot store the tracks of frame {frame} in a temporary file ({error}); free some"
                " space, or let TMPDIR name a folder that has some"
            ) from error

    def __len__(self) -> int:
        return self._database.execute("SELECT COUNT(DISTINCT track) FROM sightings").fetchone()[0]

    def __iter__(self) -> Iterator[Track]:
        """The tracks by ascending id, one in memory at a time."""
        ids = self._database.execute("SELECT DISTINCT track FROM sightings ORDER BY track")
        for (track_id,) in ids:
            yield self._load(track_id)

    def _load(self, track_id: int) -> Track:
        track = Track(track_id)
        rows = self._database.execute(
            "SELECT frame, score, label, x0, y0, x1, y1, counts FROM sightings"
            " WHERE track = ? ORDER BY frame",
            (track_id,),
        )
        for frame, score, label, *box, counts in rows:
            track.scores[frame] = score
            track.labels[frame] = label
            track.boxes[frame] = tuple(box)
            track.segmentations[frame] = {"size": self._frame_size, "counts": counts}
        return track
