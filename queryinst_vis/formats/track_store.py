"""The tracks of a video of any length, on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType

from queryinst_vis.errors import InputError
from queryinst_vis.masks import RLE
from queryinst_vis.structures import Detections

_SCHEMA = """
    CREATE TABLE sightings (
        track INTEGER, frame INTEGER, score REAL, label INTEGER, counts TEXT,
        PRIMARY KEY (track, frame)
    ) WITHOUT ROWID
"""


@dataclass(frozen=True)
class StoredTrack:
    """One instance of a ``TrackStore``. What grows with the video is read while it is iterated.

    Attributes:
        track_id: identity, unique in the video.
        score: mean score over the frames that show it.
        label: class by majority vote over the frames; the lowest index wins a tie.
    """

    track_id: int
    score: float
    label: int
    _database: sqlite3.Connection = field(repr=False)
    _frame_size: list[int] = field(repr=False)

    def frames(self) -> Iterator[int]:
        """Indices of the frames that show it, ascending."""
        rows = self._database.execute(
            "SELECT frame FROM sightings WHERE track = ? ORDER BY frame", (self.track_id,)
        )
        return (frame for (frame,) in rows)

    def segmentations(self) -> Iterator[tuple[int, RLE]]:
        """``(frame index, RLE)`` of the frames that show it, ascending."""
        rows = self._database.execute(
            "SELECT frame, counts FROM sightings WHERE track = ? ORDER BY frame", (self.track_id,)
        )
        return ((frame, {"size": self._frame_size, "counts": counts}) for frame, counts in rows)


class TrackStore:
    """What ``VideoResult`` is in memory, for videos that may never end.

    Sightings go to a temporary SQLite database, which the system removes when it is closed or
    the process dies; memory grows neither with the frames nor with the tracks.

    Attributes:
        length: frames so far.

    Raises:
        InputError: the folder for temporary files is full or cannot be written.
    """

    def __init__(self) -> None:
        self.length = 0
        self._frame_size = [0, 0]
        # "": a file of SQLite's own in the folder for temporary files; nobody else reads it, so
        # there is nothing to protect by journals or locks; a thread may fill it and another
        # read it afterwards
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
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
            [rle["counts"] for rle in detections.rles()],
        )
        try:
            self._database.executemany(
                "INSERT INTO sightings VALUES (?, ?, ?, ?, ?)", zip(*columns, strict=True)
            )
        except sqlite3.OperationalError as error:
            raise InputError(
                f"cannot store the tracks of frame {frame} in a temporary file ({error}); free some"
                " space, or let TMPDIR name a folder that has some"
            ) from error

    def __len__(self) -> int:
        return self._database.execute("SELECT COUNT(DISTINCT track) FROM sightings").fetchone()[0]

    def __iter__(self) -> Iterator[StoredTrack]:
        """The tracks by ascending id."""
        scores = self._database.execute(
            "SELECT track, AVG(score) FROM sightings GROUP BY track ORDER BY track"
        )
        for track_id, score in scores:
            (label,) = self._database.execute(
                "SELECT label FROM sightings WHERE track = ?"
                " GROUP BY label ORDER BY COUNT(*) DESC, label LIMIT 1",
                (track_id,),
            ).fetchone()
            yield StoredTrack(track_id, score, label, self._database, self._frame_size)
