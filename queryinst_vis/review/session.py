"""Review sessions: the tracks of a video and their corrections."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import RLock
from typing import Any

from filelock import FileLock, Timeout

from queryinst_vis.errors import InputError
from queryinst_vis.formats.track_store import VideoInfo
from queryinst_vis.review.actions import Action, as_recorded
from queryinst_vis.review.colours import ColourDescriptors
from queryinst_vis.review.edits import Change, ConflictError
from queryinst_vis.review.history import History
from queryinst_vis.review.index import open_index
from queryinst_vis.review.journal import Journal, Record, now
from queryinst_vis.review.results import as_track_lines, find_results, find_video
from queryinst_vis.review.state import ReviewState, initial_state
from queryinst_vis.review.view import FrameView, ReviewView, TrackView
from queryinst_vis.utils.interrupt import signals_held


@dataclass(frozen=True)
class ActionResult:
    """The result of an action.

    Attributes:
        id: id of its record in the journal.
        changed: ids of modified tracks.
        created, removed: ids of new and of deleted tracks.
        regions: number of regions removed or created.
        is_repeated: the journal already had a record with this id, so nothing was done.
    """

    id: str
    changed: tuple[int, ...] = ()
    created: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    regions: int = 0
    is_repeated: bool = False

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        return asdict(self)


class ReviewSession:
    """The tracks of a video and their corrections, which are stored in a journal.

    Every action is on disk before ``apply`` returns; the results are never modified. Only one
    process at a time can open a session of the same results. Thread-safe.

    Attributes:
        results: path of the result file.
        folder: folder of the journal, next to the results.
        video: properties of the video, as stored in the results.
        size: ``(height, width)`` of its frames in pixels.
        source: path of the video or folder of its frames; None if unknown.
        run: content of ``run.json``, or None.
        index: index of the results.
        colours: colour descriptors of the detected regions, for ``suggest``.

    Example::

        from queryinst_vis.review import Merge, ReviewSession

        with ReviewSession.open("out/street") as session:
            session.apply(Merge(3, 7, decide="keep first"))
            for track in session.tracks():
                print(track.track_id, track.class_name, track.frames)
    """

    def __init__(
        self,
        results: str | Path,
        video: str | Path | None = None,
        gt: str | Path | None = None,
        video_id: int | None = None,
    ) -> None:
        """See ``open``."""
        self._lock = RLock()
        self._resources = ExitStack()
        try:
            found = find_results(Path(results))
            self.results, self.folder, self.run = found.path, found.folder, found.run
            self._resources.enter_context(_locked(found.folder))
            self.source, video_fingerprint = find_video(
                found, None if video is None else Path(video)
            )
            gt = None if gt is None else Path(gt)
            tracks = as_track_lines(found, self.source, gt, video_id)
            self.index = open_index(tracks, found.folder / "index")
            self._resources.callback(self.index.close)
            cache = found.folder / "index" / "colours.npz"
            self.colours = ColourDescriptors(self.index, self.source, cache)
            self.video: VideoInfo = self.index.video
            self.size = self.index.size
            about = {"results": self.index.identity._asdict(), "video": video_fingerprint}
            self._journal = Journal(self.folder / "journal.jsonl", about)
            self._history = History(self.index, initial_state(self.index))
            for number, record in enumerate(self._journal.records, 1):
                where = f"journal {self._journal.path}, record {number}"
                _do(self._history, record.action, where)
            self._view = ReviewView(self.index, self.state)
        except BaseException:
            self._resources.close()
            raise

    @classmethod
    def open(
        cls,
        results: str | Path,
        video: str | Path | None = None,
        *,
        gt: str | Path | None = None,
        video_id: int | None = None,
    ) -> ReviewSession:
        """Open the results of a video, with all corrections made so far.

        Args:
            results: an output folder of ``track``, its ``tracks.jsonl``, or another result file
                that ``read_any_results`` supports.
            video: the video file, if it has moved or is not recorded in the results.
            gt: for JSON results, as for ``read_any_results``.
            video_id: for JSON results, as for ``read_any_results``.

        Raises:
            InputError: the results cannot be read, the video is missing or a different one, the
                journal is damaged or belongs to other results, or another process has it open.
        """
        return cls(results, video, gt, video_id)

    def __enter__(self) -> ReviewSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the session, so that other processes can open the results."""
        self._resources.close()

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.index)

    @property
    def state(self) -> ReviewState:
        """The tracks after all corrections so far; immutable."""
        return self._history.state

    @property
    def view(self) -> ReviewView:
        """A view of the current ``state``, unaffected by later actions."""
        return self._view

    @property
    def records(self) -> Sequence[Record]:
        """The records of the journal, in order."""
        return tuple(self._journal.records)

    @property
    def can_undo(self) -> bool:
        """Whether there is an action to undo."""
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is an action to redo."""
        return self._history.can_redo

    def tracks(self) -> list[TrackView]:
        """The corrected tracks by ascending id."""
        return self._view.tracks()

    def track(self, track_id: int) -> TrackView:
        """The corrected track with an id.

        Raises:
            InputError: there is none.
        """
        return self._view.track(track_id)

    def frame(self, frame: int) -> FrameView:
        """The corrected content of a frame.

        Args:
            frame: 0-based index.

        Raises:
            InputError: there is no such frame.
        """
        if not 0 <= frame < len(self):
            raise InputError(f"frame {frame} does not exist; there are frames 0 to {len(self) - 1}")
        return self._view.frame(frame)

    def apply(self, action: Action, record_id: str | None = None) -> ActionResult:
        """Apply an action, which is on disk when this returns.

        Args:
            action: the action.
            record_id: id of its record; None: a new one. If the journal already has a record with
                this id, nothing is done, so that requests can safely be repeated.

        Raises:
            ConflictError: a merge without a decision for frames with both tracks.
            InputError: the action is invalid, or the journal cannot be written.
        """
        [result] = self.apply_all([(action, record_id)])
        return result

    def apply_all(
        self, actions: Iterable[tuple[Action, str | None]], where: str = ""
    ) -> list[ActionResult]:
        """Apply several actions in order: all of them or none.

        Args:
            actions: ``(action, record id)`` pairs, as for ``apply``.
            where: their file, for error messages.

        Raises:
            ConflictError, InputError: as for ``apply``; none of the actions is applied then.
        """
        actions = [(as_recorded(action), record_id) for action, record_id in actions]
        with self._lock:
            history = self._history.copy()
            known = {record.id for record in self._journal.records}
            results, records = [], []
            for number, (action, record_id) in enumerate(actions, 1):
                record_id = record_id or secrets.token_hex(8)
                if record_id in known:
                    results.append(ActionResult(record_id, is_repeated=True))
                    continue
                known.add(record_id)
                prefix = f"{where}, action {number}" if where else ""
                before = history.state
                change = _do(history, action, prefix)
                results.append(_result(record_id, before, change))
                records.append(Record(record_id, action, now()))
            if records:
                with signals_held():  # the journal and the state must not differ
                    self._journal.append(records)
                    self._history = history
                    self._view = ReviewView(self.index, self.state)
            return results


def _do(history: History, action: Action, where: str) -> Change:
    """Apply an action; ``where`` is the prefix of error messages."""
    try:
        return history.do(action)
    except ConflictError as error:
        raise error.at(where) from error
    except InputError as error:
        raise InputError(f"{where}: {error}" if where else str(error)) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock out other processes, at most until this one ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"{folder}: another process has this review open; end that one first"
        ) from error
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def _result(record_id: str, before: ReviewState, change: Change) -> ActionResult:
    old, new = before.tracks, change.state.tracks
    changed = tuple(id_ for id_ in new if id_ in old and new[id_] is not old[id_])
    created = tuple(id_ for id_ in new if id_ not in old)
    removed = tuple(id_ for id_ in old if id_ not in new)
    return ActionResult(record_id, changed, created, removed, change.regions)
