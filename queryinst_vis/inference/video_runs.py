"""Videos that advance side by side, each with a thread that takes its results to files."""

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

_BACKLOG = 16  # results that may wait for being written
_POLL = 0.1  # seconds between looks at whether a run was given up


class VideoRun(Generic[T]):
    """A video on its way, and what takes its results.

    Args:
        lane: the video.
        consume: reads the results of all frames, in a thread of its own, and returns what came
            out; where the video ends with an error, reading raises it.

    Attributes:
        outcome: what ``consume`` returns or raises.
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
        """Whether it can be read on: the results so far are not far behind, or not wanted."""
        if self.outcome.done():  # nobody takes results any more: it failed
            error = self.outcome.exception()
            self.lane.fail(error or RuntimeError("results were not read to their end"))
            return False
        return self._results.qsize() < _BACKLOG

    def put(self, result: FrameResult | None) -> None:
        """Hand on the next result; None after the last one."""
        self._results.put(result)

    def stop(self, error: BaseException) -> None:
        """End early: nothing of the video is written."""
        self.lane.fail(error)
        self._stopped.set()
        self.wait()

    def wait(self) -> None:
        """Wait until nothing is left to be written."""
        self._thread.join()

    def _run(self) -> None:
        try:
            with closing(self._read()) as results:
                self.outcome.set_result(self._consume(results))
        except BaseException as error:  # whoever reads the outcome handles it, in another thread
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
    """Run videos side by side; yields each when its results have been taken, or it has failed.

    Args:
        next_run: begins the next video, or returns None where there is none for now.
        streams, batch, patience: as for ``SideBySide``.

    Raises:
        InputError: as for ``SideBySide``.
    """
    running: dict[Lane, VideoRun[T]] = {}
    finishing: list[VideoRun[T]] = []

    def next_lane() -> Lane | None:
        if len(finishing) >= streams:  # what is written slower than it is found does not pile up
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
