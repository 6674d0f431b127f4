"""Assigns videos to workers and retries those that fail; independent of the engine."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from queryinst_vis.batch.decoding import FailureKind
from queryinst_vis.batch.options import Video
from queryinst_vis.batch.segments import Cut, Part


@dataclass(frozen=True)
class Outcome:
    """The outcome of a video, or of a part of one.

    Attributes:
        video: with its part, if any.
        kind: of the failure; None: success.
        reason: of the failure, in one line.
        frames, seconds: number of frames and duration, except what its segments have reported.
        stages: seconds of processing time by stage.
        cut: segments of a long video, which has not been tracked yet.
        tracked: indices of the segments that an earlier run has tracked.
    """

    video: Video
    kind: FailureKind | None = None
    reason: str = ""
    frames: int = 0
    seconds: float = 0.0
    stages: Mapping[str, float] | None = None
    cut: Cut | None = None
    tracked: frozenset[int] = frozenset()

    @property
    def is_last(self) -> bool:
        """Whether the whole video is done or has failed."""
        part = self.video.part
        is_whole = self.cut is None and (part is None or part.index is None)
        return self.kind is not None or is_whole


@dataclass(frozen=True)
class Pending:
    """The videos that are neither done nor have failed for good.

    Attributes:
        in_progress: videos that workers are processing.
        attempts: used so far, by video; without videos that have used none.
    """

    in_progress: tuple[Video, ...] = ()
    attempts: Mapping[Video, int] = field(default_factory=dict)


Event = tuple[Outcome, int] | Pending
"""A final outcome with its number of attempts, or the state of the videos still pending."""


class Driver(Protocol):
    """Hands out the videos; the interface that workers use."""

    def take(self) -> Video | None:
        """The next video; None if there is none at present."""

    def is_over(self) -> bool:
        """Whether no further video will come; waits briefly if one may."""

    def finished(self, outcome: Outcome) -> None:
        """Report the outcome of a video that was taken."""


MAX_LOSSES = 5
"""Number of lost machines per video that do not count as attempts."""


class Dispatcher:
    """Hands out videos to workers on request, and counts attempts.

    A failure counts as an attempt. So does the death of a worker that was processing a single
    video. If it was processing several, the culprit is unknown: each is retried in isolation. The
    loss of a worker's machine is no attempt, unless it happens to a video repeatedly.

    A worker that opens a long video reports its segments. They are handed out next, like videos,
    each with its own attempts, and a final part that joins them when all have been tracked. A
    video fails as soon as one of its parts has failed for good.

    Args:
        videos: to track, in this order.
        max_attempts: per video, before it counts as failed.
        earlier_attempts: made by earlier runs.

    Attributes:
        final: outcomes of videos that are done or have failed for good, and of parts that are
            done, until they are fetched.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        max_attempts: int,
        earlier_attempts: Mapping[Video, int] | None = None,
    ) -> None:
        self.final: deque[tuple[Outcome, int]] = deque()
        self._max_attempts = max_attempts
        self._waiting = deque(videos)
        self._suspects: deque[Video] = deque()  # to retry in isolation
        self._held: dict[Hashable, list[Video]] = {}  # by worker
        self._isolated: set[Hashable] = set()  # workers that process a suspect
        self._attempts: Counter[Video] = Counter(earlier_attempts)
        self._earlier_attempts = dict(earlier_attempts or {})
        self._losses: Counter[Video] = Counter()  # of machines
        self._missing: dict[Video, set[int]] = {}  # segments to track
        self._given_up: set[Video] = set()

    @property
    def is_over(self) -> bool:
        """Whether every video is done or has failed."""
        return not (self._waiting or self._suspects or any(self._held.values()))

    def pending(self) -> Pending:
        """The videos in progress and the attempts used so far.

        Of a video in segments, the maximum over its segments counts.
        """
        in_progress = dict.fromkeys(v.whole for held in self._held.values() for v in held)
        attempts: dict[Video, int] = {}
        for video, count in self._attempts.items():
            attempts[video.whole] = max(count, attempts.get(video.whole, 0))
        return Pending(tuple(in_progress), attempts)

    def take(self, worker: Hashable) -> Video | None:
        """The next video for a worker; None if there is none at present."""
        if worker in self._isolated:
            return None
        held = self._held.setdefault(worker, [])
        if self._suspects and not held:
            self._isolated.add(worker)
            held.append(self._suspects.popleft())
        elif self._waiting:
            held.append(self._waiting.popleft())
        else:
            return None
        return held[-1]

    def finished(self, worker: Hashable, outcome: Outcome) -> None:
        """Record the outcome of a worker's video."""
        self._held[worker].remove(outcome.video)
        self._isolated.discard(worker)
        if outcome.video.whole in self._given_up:
            return
        self._attempts[outcome.video] += 1
        if outcome.kind is None:
            self._finalize(outcome)
            self._queue_parts(outcome)
        elif self._is_exhausted(outcome.video):
            self._give_up(outcome)
        else:
            self._waiting.append(outcome.video)

    def died(self, worker: Hashable, reason: str) -> int:
        """Record the death of a worker; returns the number of videos it was processing."""
        held = self._held.pop(worker, [])
        self._isolated.discard(worker)
        if len(held) == 1:
            [video] = held
            self._attempts[video] += 1
            if self._is_exhausted(video) and video.whole not in self._given_up:
                self._give_up(Outcome(video, "worker", reason))
        self._suspects.extend(video for video in held if video.whole not in self._given_up)
        return len(held)

    def lost(self, worker: Hashable, reason: str) -> int:
        """Record the loss of a worker's machine; returns like ``died``.

        Its videos come next, and no attempts are counted. A video that has lost more than
        ``MAX_LOSSES`` machines may be the cause: from then on, a loss counts like ``died``.
        """
        held = self._held.get(worker, [])
        self._losses.update(held)
        if any(self._losses[video] > MAX_LOSSES for video in held):
            return self.died(worker, reason)
        self._held.pop(worker, None)
        self._isolated.discard(worker)
        self._waiting.extendleft(
            video for video in reversed(held) if video.whole not in self._given_up
        )
        return len(held)

    def _finalize(self, outcome: Outcome) -> None:
        self.final.append((outcome, self._attempts.pop(outcome.video)))

    def _queue_parts(self, outcome: Outcome) -> None:
        """Put the parts that can be done now at the head of the queue."""
        video, part = outcome.video.whole, outcome.video.part
        if outcome.cut is not None:
            missing = {segment.index for segment in outcome.cut.segments} - outcome.tracked
            self._missing[video] = missing
            for index in sorted(missing, reverse=True):
                segment = replace(video, part=Part(outcome.cut, index))
                self._waiting.appendleft(segment)
                if video in self._earlier_attempts:
                    self._attempts[segment] = self._earlier_attempts[video]
            part = Part(outcome.cut)
        elif part is not None and part.index is not None:
            self._missing[video].discard(part.index)
        else:
            return
        if not self._missing[video]:
            self._waiting.appendleft(replace(video, part=Part(part.cut)))

    def _give_up(self, outcome: Outcome) -> None:
        self._finalize(outcome)
        whole = outcome.video.whole
        self._given_up.add(whole)
        for queue in (self._waiting, self._suspects):
            others = [video for video in queue if video.whole != whole]
            queue.clear()
            queue.extend(others)
        for video in [video for video in self._attempts if video.whole == whole]:
            del self._attempts[video]

    def _is_exhausted(self, video: Video) -> bool:
        return self._attempts[video] >= self._max_attempts
