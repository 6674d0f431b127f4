"""Tracking several videos at a time, each with a thread that writes its results."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import closing
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Generic, TypeVar

from queryinst_vis.inference.result import FrameResult
from queryinst_vis.inference.side_by_side import PATIENCE, Lane, SideBySide

T = TypeVar("T")
Results = Generator[FrameResult, None, None]

_BACKLOG = 16  # maximum number of results waiting to be written
_POLL = 0.1  # seconds between checks whether the run was stopped


class VideoRun(Generic[T]):
    """A video that is being tracked, and the consumer of its results.

    Args:
        lane: the video.
        consume: called in a new thread with the results of all frames; if the video ends with an
            error, iterating over them raises it.

    Attributes:
        outcome: the return value or exception of ``consume``.
    """

    def __init__(self, lane: Lane, consume: Callable[[Results], T]) -> None:
        self.lane = lane
        self.outcome: Future[T] = Future()
        self._consume = consume
        self._results: SimpleQueue[FrameResult | None] = SimpleQueue()
        self._stopped = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Whether the consumer keeps up; fails the lane if the consumer has stopped early."""
        if self.outcome.done():  # before the last frame
            error = self.outcome.exception()
            self.lane.fail(error or RuntimeError("results were not read to their end"))
            return False
        return self._results.qsize() < _BACKLOG

    def put(self, result: FrameResult | None) -> None:
        """Pass on the next result; None after the last one."""
        self._results.put(result)

    def stop(self, error: BaseException) -> None:
        """Stop early; no files of the video are written."""
        self.lane.fail(error)
        self._stopped.set()
        self.wait()

    def wait(self) -> None:
        """Wait until everything is written."""
        self._thread.join()

    def _run(self) -> None:
        try:
            with closing(self._read()) as results:
                self.outcome.set_result(self._consume(results))
        except BaseException as error:  # handled by the reader of ``outcome``, in another thread
            self.outcome.set_exception(error)

    def _read(self) -> Results:
        while not self._stopped.is_set():
            try:
                result = self._results.get(timeout=_POLL)
            except Empty:
                continue
            if result is None:
                break
            yield result
        if self.lane.error is not None:
            raise self.lane.error


def run_side_by_side(
    next_run: Callable[[], VideoRun[T] | None],
    streams: int,
    batch: int = 1,
    patience: float = PATIENCE,
) -> Generator[VideoRun[T], None, None]:
    """Track several videos at a time; yields each one when its consumer has returned or failed.

    Args:
        next_run: starts the next video; returns None if there is none at the moment.
        streams, batch, patience: as for ``SideBySide``.

    Raises:
        InputError: as for ``SideBySide``.
    """
    running: dict[Lane, VideoRun[T]] = {}
    finishing: list[VideoRun[T]] = []

    def next_lane() -> Lane | None:
        if len(finishing) >= streams:  # do not let unwritten results pile up
            finishing[0].wait()
        run = next_run()
        if run is None:
            return None
        running[run.lane] = run
        return run.lane

    lanes = SideBySide(next_lane, streams, batch, patience, lambda lane: running[lane].has_room)
    try:
        for lane, result in lanes:
            running[lane].put(result)
            if result is None:
                finishing.append(running.pop(lane))
            for run in [run for run in finishing if run.outcome.done()]:
                finishing.remove(run)
                yield run
        while finishing:
            finishing[0].wait()
            yield finishing.pop(0)
    finally:
        for run in [*running.values(), *finishing]:
            run.stop(KeyboardInterrupt("stopped"))
