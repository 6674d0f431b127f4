"""Clocks for live sources: tests advance the time, and waiting takes no real time."""

import threading

from queryinst_vis.video.live import Clock


class JumpingClock(Clock):
    """Advances to the end of every wait.

    Attributes:
        waits: seconds of every wait so far.
    """

    def __init__(self):
        self.time = 0.0
        self.waits = []

    def now(self):
        return self.time

    def wait_until(self, due):
        self.waits.append(due - self.time)
        self.time = max(self.time, due)
        return self.time


class SteppedClock(Clock):
    """Stands still until ``advance``, for a recording that is played in another thread.

    Args:
        end: when the last frame of the recording is due.
    """

    def __init__(self, end):
        self._end = end
        self._time = 0.0
        self._due = None
        self._changed = threading.Condition()

    def now(self):
        return self._time

    def wait_until(self, due):
        with self._changed:
            self._due = due
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._time >= due)
            self._due = None
        return due

    def advance(self, seconds):
        """Let time pass; all frames that are due by then have arrived, but those after the end."""
        with self._changed:
            self._time += seconds
            self._changed.notify_all()
            if self._time < self._end:
                self._changed.wait_for(lambda: self._due is not None and self._due > self._time)
