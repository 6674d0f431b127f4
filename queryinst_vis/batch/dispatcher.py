"""Who tracks what, and what becomes of videos whose workers die. No engine is named here."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from queryinst_vis.batch.decoding import Kind
from queryinst_vis.batch.options import Video


@dataclass(frozen=True)
class Outcome:
    """What became of a video.

    Attributes:
        video: which.
        kind: None: it is done; else what kind of failure cost it an attempt.
        reason: in one line.
        frames, seconds: of the video, as far as it is done.
        stages: seconds by stage.
    """

    video: Video
    kind: Kind | None = None
    reason: str = ""
    frames: int = 0
    seconds: float = 0.0
    stages: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Standing:
    """What is not settled yet.

    Attributes:
        in_progress: videos that workers have at the moment.
        attempts: that videos have used up so far; those without any are left out.
    """

    in_progress: tuple[Video, ...] = ()
    attempts: Mapping[Video, int] = field(default_factory=dict)


Event = tuple[Outcome, int] | Standing
"""A video that is done or has failed for good, with its attempts; or how things stand."""


class Driver(Protocol):
    """Whoever hands out the videos, as a worker sees it."""

    def take(self) -> Video | None:
        """The next video; None: none for now."""

    def is_over(self) -> bool:
        """Whether no further video will come; waits a moment where one may."""

    def finished(self, outcome: Outcome) -> None:
        """Tell what became of a video that was taken."""


class Dispatcher:
    """Hands videos to workers that ask for them, and counts the attempts of each.

    A failure costs a video an attempt. A worker's death costs one only where it held a single
    video: of several, nobody knows whose fault it was, so each is tried again with a worker to
    itself.

    Args:
        videos: to track, in this order.
        attempts: of each, before it counts as failed.
        tried: attempts that earlier runs have made.

    Attributes:
        final: outcomes of videos that are done or have failed for good, until they are fetched.
    """

    def __init__(
        self, videos: Sequence[Video], attempts: int, tried: Mapping[Video, int] | None = None
    ) -> None:
        self.final: deque[tuple[Outcome, int]] = deque()
        self._attempts = attempts
        self._waiting = deque(videos)
        self._alone: deque[Video] = deque()
        self._held: dict[Hashable, list[Video]] = {}
        self._isolated: set[Hashable] = set()
        self._tried: Counter[Video] = Counter(tried)

    @property
    def is_over(self) -> bool:
        """Whether every video is done or has failed."""
        return not (self._waiting or self._alone or any(self._held.values()))

    def standing(self) -> Standing:
        """What workers have in hand, and the attempts so far of what is not settled."""
        return Standing(tuple(v for held in self._held.values() for v in held), dict(self._tried))

    def take(self, worker: Hashable) -> Video | None:
        """The next video for a worker; None: none for now."""
        if worker in self._isolated:
            return None
        held = self._held.setdefault(worker, [])
        if self._alone and not held:
            self._isolated.add(worker)
            held.append(self._alone.popleft())
        elif self._waiting:
            held.append(self._waiting.popleft())
        else:
            return None
        return held[-1]

    def finished(self, worker: Hashable, outcome: Outcome) -> None:
        """Note what became of a video that a worker held."""
        self._held[worker].remove(outcome.video)
        self._isolated.discard(worker)
        self._tried[outcome.video] += 1
        if outcome.kind is None or self._is_exhausted(outcome.video):
            self._settle(outcome)
        else:
            self._waiting.append(outcome.video)

    def died(self, worker: Hashable, reason: str) -> int:
        """Note the death of a worker; returns the number of videos that it held."""
        held = self._held.pop(worker, [])
        self._isolated.discard(worker)
        if len(held) == 1:
            [video] = held
            self._tried[video] += 1
            if self._is_exhausted(video):
                self._settle(Outcome(video, "worker", reason))
                return 1
        self._alone.extend(held)
        return len(held)

    def _is_exhausted(self, video: Video) -> bool:
        return self._tried[video] >= self._attempts

    def _settle(self, outcome: Outcome) -> None:
        self.final.append((outcome, self._tried.pop(outcome.video)))
