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
    """What became of a video, or of a part of one.

    Attributes:
        video: which, with its part.
        kind: None: it is done; else what kind of failure cost it an attempt.
        reason: in one line.
        frames, seconds: of the video, as far as they have not been counted by one of its parts.
        stages: seconds by stage.
        cut: it is long, and all that was done is to find its segments.
        tracked: the indices of those that an earlier run has tracked.
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
        """Whether nothing more will come of the video: it is done, or it has failed."""
        part = self.video.part
        is_whole = self.cut is None and (part is None or part.index is None)
        return self.kind is not None or is_whole


@dataclass(frozen=True)
class Standing:
    """The videos that are neither done nor have failed for good.

    Attributes:
        in_progress: videos that workers are processing.
        attempts: used so far; without videos that have used none.
    """

    in_progress: tuple[Video, ...] = ()
    attempts: Mapping[Video, int] = field(default_factory=dict)


Event = tuple[Outcome, int] | Standing
"""A final outcome with the number of attempts, or the state of the remaining videos."""


class Driver(Protocol):
    """Hands out the videos; the interface that workers use."""

    def take(self) -> Video | None:
        """The next video; None if there is none at present."""

    def is_over(self) -> bool:
        """Whether no further video will come; waits briefly if one may."""

    def finished(self, outcome: Outcome) -> None:
        """Report the outcome of a video that was taken."""


FREE_LOSSES = 5
"""How often a video may lose its machine before that is held against it."""


class Dispatcher:
    """Hands out videos to workers on request, and counts attempts.

    A failure counts as an attempt. So does the death of a worker that was processing a single
    video. If it was processing several, the culprit is unknown: each is retried in isolation. The
    loss of a worker's machine is nobody's fault, unless it happens to a video again and again.

    A worker that finds a long video reports its segments. They are handed out next, like videos,
    each with attempts of its own; when all have been tracked, so is the joining of identities. A
    video of which one part has failed for good has failed.

    Args:
        videos: to track, in this order.
        attempts: of each, before it counts as failed.
        tried: attempts that earlier runs have made.

    Attributes:
        final: outcomes of videos that are done or have failed for good, and of parts that are
            done, until they are fetched.
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
        self._tried_before = dict(tried or {})
        self._losses: Counter[Video] = Counter()
        self._missing: dict[Video, set[int]] = {}  # segments that are to be tracked
        self._given_up: set[Video] = set()

    @property
    def is_over(self) -> bool:
        """Whether every video is done or has failed."""
        return not (self._waiting or self._alone or any(self._held.values()))

    def standing(self) -> Standing:
        """What workers have in hand, and the attempts so far of what is not settled.

        A video in segments has as many as that of its segments which has most.
        """
        in_hand = dict.fromkeys(v.whole for held in self._held.values() for v in held)
        attempts: dict[Video, int] = {}
        for video, count in self._tried.items():
            attempts[video.whole] = max(count, attempts.get(video.whole, 0))
        return Standing(tuple(in_hand), attempts)

    def take(self, worker: Hashable) -> Video | None:
        """The next video for a worker; None if there is none at present."""
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
        """Record the outcome of a worker's video."""
        self._held[worker].remove(outcome.video)
        self._isolated.discard(worker)
        if outcome.video.whole in self._given_up:
            return
        self._tried[outcome.video] += 1
        if outcome.kind is None:
            self._settle(outcome)
            self._hand_on(outcome)
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
            self._tried[video] += 1
            if self._is_exhausted(video) and video.whole not in self._given_up:
                self._give_up(Outcome(video, "worker", reason))
        self._alone.extend(video for video in held if video.whole not in self._given_up)
        return len(held)

    def lost(self, worker: Hashable, reason: str) -> int:
        """Record the death of a worker whose machine is gone; returns like ``died``.

        Its videos come next and keep their attempts. A video that has lost ``FREE_LOSSES`` machines
        may be what brings them down: from then on, this counts as the death of its worker.
        """
        held = self._held.get(worker, [])
        self._losses.update(held)
        if any(self._losses[video] > FREE_LOSSES for video in held):
            return self.died(worker, reason)
        self._held.pop(worker, None)
        self._isolated.discard(worker)
        self._waiting.extendleft(
            video for video in reversed(held) if video.whole not in self._given_up
        )
        return len(held)

    def _settle(self, outcome: Outcome) -> None:
        self.final.append((outcome, self._tried.pop(outcome.video)))

    def _hand_on(self, outcome: Outcome) -> None:
        """Let what comes after a part be next."""
        video, part = outcome.video.whole, outcome.video.part
        if outcome.cut is not None:
            missing = {segment.index for segment in outcome.cut.segments} - outcome.tracked
            self._missing[video] = missing
            for index in sorted(missing, reverse=True):
                segment = replace(video, part=Part(outcome.cut, index))
                self._waiting.appendleft(segment)
                if video in self._tried_before:
                    self._tried[segment] = self._tried_before[video]
            part = Part(outcome.cut)
        elif part is not None and part.index is not None:
            self._missing[video].discard(part.index)
        else:
            return
        if not self._missing[video]:
            self._waiting.appendleft(replace(video, part=Part(part.cut)))

    def _give_up(self, outcome: Outcome) -> None:
        self._settle(outcome)
        whole = outcome.video.whole
        self._given_up.add(whole)
        for queue in (self._waiting, self._alone):
            others = [video for video in queue if video.whole != whole]
            queue.clear()
            queue.extend(others)
        for video in [video for video in self._tried if video.whole == whole]:
            del self._tried[video]

    def _is_exhausted(self, video: Video) -> bool:
        return self._tried[video] >= self._attempts
