"""The tracks of a video of any length, on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from queryinst_vis.errors import InputError
from queryinst_vis.masks import RLE

_SCHEMA = """
    CREATE TABLE frames (
        frame INTEGER PRIMARY KEY, seconds REAL, number INTEGER, is_damaged INTEGER
    );
    CREATE TABLE observations (
        track INTEGER, frame INTEGER, score REAL, label INTEGER,
        x0 REAL, y0 REAL, x1 REAL, y1 REAL, counts TEXT,
        PRIMARY KEY (track, frame)
    ) WITHOUT ROWID;
"""
_COLUMNS = "frame, score, label, x0, y0, x1, y1, counts"
_VOTES = "SELECT label, COUNT(*) FROM observations WHERE track = ? GROUP BY label"


class Observation(NamedTuple):
    """A track in one frame.

    Attributes:
        frame: index of the frame.
        score: 0..1.
        label: class index.
        box: xyxy in pixels, not clipped to the frame.
        segmentation: the mask.
    """

    frame: int
    score: float
    label: int
    box: tuple[float, float, float, float]
    segmentation: RLE


class StoredFrame(NamedTuple):
    """A frame and its tracks.

    Attributes:
        frame: index of the frame among the processed ones, from 0.
        number: frame number in the video file, which may have been subsampled.
        seconds: its time, None if unknown.
        tracks: ``(track id, observation)`` of each, by ascending id.
        is_damaged: the frame could not be decoded, so it has no tracks.
    """

    frame: int
    number: int
    seconds: float | None
    tracks: list[tuple[int, Observation]]
    is_damaged: bool = False


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a tracked video.

    Attributes:
        name: short, valid as a file name.
        fps: frames per second; None for a variable frame rate.
        class_names: names of the labels.
    """

    name: str
    fps: float | None
    class_names: list[str]


@dataclass(frozen=True)
class Track:
    """One instance of a video. Per-frame data are read from disk during iteration.

    Attributes:
        track_id: identity, unique in the video.
        score: mean score over its frames (MaskTrack R-CNN's video score).
        label: class by majority vote over the frames; ties: the lowest index.
    """

    track_id: int
    score: float
    label: int
    _store: TrackStore = field(repr=False)

    def frames(self) -> Iterator[int]:
        """Indices of its frames, ascending."""
        return (frame for (frame,) in self._select("frame"))

    def observations(self) -> Iterator[Observation]:
        """Its observations, by ascending frame."""
        size = list(self._store.frame_size)
        return (_observation(row, size) for row in self._select(_COLUMNS))

    def votes(self) -> dict[int, int]:
        """Number of frames by label, the most frequent label first."""
        return dict(self._store._query(f"{_VOTES} ORDER BY COUNT(*) DESC, label", self.track_id))

    def segmentations(self) -> Iterator[tuple[int, RLE]]:
        """``(frame index, RLE)`` of its frames, ascending."""
        return ((seen.frame, seen.segmentation) for seen in self.observations())

    def _select(self, columns: str) -> Iterator[tuple[Any, ...]]:
        return self._store._query(
            f"SELECT {columns} FROM observations WHERE track = ? ORDER BY frame", self.track_id
        )


class TrackStore:
    """Collects the tracks of one video, frame by frame; iterates over them by ascending id.

    Observations are stored in a temporary SQLite database, which is removed when it is closed or
    the process ends; memory does not grow with frames or tracks.

    Attributes:
        length: frames so far.
        frame_size: ``(height, width)`` of the frames; (0, 0) before the first.

    Raises:
        InputError: the folder for temporary files is full or not writable.

    Example::

        with TrackStore() as tracks:
            tracks.add((360, 640), ids=[0], scores=[0.9], labels=[0], boxes=[box], rles=[rle])
            for track in tracks:
                print(track.track_id, track.score, list(track.frames()))
    """

    def __init__(self) -> None:
        self.length = 0
        self.frame_size = (0, 0)
        # "": a private temporary file of SQLite, which needs no journal or locks; one thread may
        # fill it and another read it afterwards
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(_SCHEMA)

    def __enter__(self) -> TrackStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(
        self,
        frame_size: tuple[int, int],
        ids: Sequence[int],
        scores: Sequence[float],
        labels: Sequence[int],
        boxes: Sequence[Sequence[float]],
        rles: Sequence[RLE],
        seconds: float | None = None,
        number: int | None = None,
        is_damaged: bool = False,
    ) -> None:
        """Append the next frame.

        Args:
            frame_size: ``(height, width)``, the same for all frames.
            ids: identities of the N instances, non-negative and distinct.
            scores: N, 0..1.
            labels: N class indices.
            boxes: N times xyxy in pixels.
            rles: N compressed masks.
            seconds: time of the frame, from any origin; None: unknown.
            number: frame number in the video file, which may have been subsampled;
                None: the index of the frame.
            is_damaged: the frame could not be decoded.
        """
        frame, self.length = self.length, self.length + 1
        self.frame_size = frame_size
        rows = [
            (track_id, frame, score, label, *box, rle["counts"])
            for track_id, score, label, box, rle in zip(
                ids, scores, labels, boxes, rles, strict=True
            )
        ]
        with _as_input_error(f"store the tracks of frame {frame} in"):
            self._database.execute(
                "INSERT INTO frames VALUES (?, ?, ?, ?)",
                (frame, seconds, frame if number is None else number, is_damaged),
            )
            self._database.executemany(
                "INSERT INTO observations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
            )

    def frame_times(self) -> Iterator[float | None]:
        """The time of each frame in seconds, None if unknown."""
        return (seconds for (seconds,) in self._query("SELECT seconds FROM frames ORDER BY frame"))

    def frame_numbers(self) -> Iterator[int]:
        """The number of each frame in the video file."""
        return (number for (number,) in self._query("SELECT number FROM frames ORDER BY frame"))

    def frames(self) -> Iterator[StoredFrame]:
        """The frames in order, including those without tracks."""
        observations = self._query(f"SELECT track, {_COLUMNS} FROM observations ORDER BY 2, 1")
        groups = groupby(observations, key=itemgetter(1))
        size, upcoming = list(self.frame_size), next(groups, None)
        for index, number, seconds, is_damaged in self._query(
            "SELECT frame, number, seconds, is_damaged FROM frames ORDER BY frame"
        ):
            tracks = []
            if upcoming is not None and upcoming[0] == index:
                tracks = [(track, _observation(row, size)) for track, *row in upcoming[1]]
                upcoming = next(groups, None)
            yield StoredFrame(index, number, seconds, tracks, bool(is_damaged))

    def duration(self) -> float:
        """Seconds from the first to the last frame; 0 if times are unknown."""
        ((seconds,),) = self._query("SELECT MAX(seconds) - MIN(seconds) FROM frames")
        return seconds or 0.0

    def __len__(self) -> int:
        ((count,),) = self._query("SELECT COUNT(DISTINCT track) FROM observations")
        return count

    def __iter__(self) -> Iterator[Track]:
        scores = self._query(
            "SELECT track, AVG(score) FROM observations GROUP BY track ORDER BY track"
        )
        for track_id, score in scores:
            first, *_ = self._query(f"{_VOTES} ORDER BY COUNT(*) DESC, label LIMIT 1", track_id)
            yield Track(track_id, score, first[0], self)

    def _query(self, statement: str, *values: int) -> Iterator[tuple[Any, ...]]:
        # sorting many rows writes temporary files, too
        with _as_input_error("read the tracks from"):
            yield from self._database.execute(statement, values)


@contextmanager
def _as_input_error(task: str) -> Iterator[None]:
    """Report a full disk as an InputError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise InputError(
            f"cannot {task} a temporary file ({error}); free some space, or set TMPDIR to another"
            " folder"
        ) from error


def _observation(row: Sequence[Any], size: list[int]) -> Observation:
    """An observation from the values of ``_COLUMNS``."""
    frame, score, label, x0, y0, x1, y1, counts = row
    return Observation(frame, score, label, (x0, y0, x1, y1), {"size": size, "counts": counts})
