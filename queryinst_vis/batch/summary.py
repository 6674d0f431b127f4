"""Statistics and progress of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from queryinst_vis.batch.dispatcher import Outcome
from queryinst_vis.batch.options import Video
from queryinst_vis.batch.segments import Cut


class Workload:
    """The fraction of the work that is done, weighted by file size.

    The number of videos would predict the remaining time poorly, since lengths may differ by
    orders of magnitude. Sizes are known from listings; lengths would need every file opened.

    Args:
        videos: to track; those of unknown size count as average.
    """

    def __init__(self, videos: Collection[Video]) -> None:
        known = [video.size for video in videos if video.size]
        average = sum(known) / len(known) if known else 1.0
        self.videos = len(videos)
        self._left = {video: float(video.size or average) for video in videos}
        self._sizes = dict(self._left)
        self._total = sum(self._left.values())

    @property
    def done(self) -> float:
        """From 0 to 1; segments that earlier runs have tracked do not count."""
        return 1 - sum(self._left.values()) / self._total if self._total else 1.0

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of a video, or of a part of one."""
        video, part = outcome.video.whole, outcome.video.part
        if outcome.is_last:
            self._left[video] = 0.0
        elif outcome.cut is not None:
            tracked = sum(self._size(video, outcome.cut, index) for index in outcome.tracked)
            self._left[video] -= tracked
            self._total -= tracked
        elif part is not None and part.index is not None:
            self._left[video] -= self._size(video, part.cut, part.index)

    def _size(self, video: Video, cut: Cut, index: int) -> float:
        seconds = [segment.seconds for segment in cut.segments]
        return self._sizes[video] * seconds[index] / sum(seconds)


@dataclass
class RunSummary:
    """Statistics of a run.

    Attributes:
        workload: the fraction of the work that is done.
        done: number of videos tracked.
        frames: their total number of frames.
        seconds: their total duration.
        elapsed: duration of the run in seconds.
        segments: number of segments of the long videos.
        segments_tracked: how many of them have been tracked, by this run or earlier ones.
        stages: seconds of processing time by stage, summed over the videos.
        failures: outcomes of the videos that failed.
    """

    workload: Workload
    done: int = 0
    frames: int = 0
    seconds: float = 0.0
    elapsed: float = 0.0
    segments: int = 0
    segments_tracked: int = 0
    stages: Counter[str] = field(default_factory=Counter)
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of a video, or of a part of one."""
        self.workload.add(outcome)
        if outcome.kind is not None:
            self.failures.append(outcome)
            return
        self.done += outcome.is_last
        if outcome.cut is not None:
            self.segments += len(outcome.cut.segments)
            self.segments_tracked += len(outcome.tracked)
        elif not outcome.is_last:
            self.segments_tracked += 1
        self.frames += outcome.frames
        self.seconds += outcome.seconds
        self.stages.update(outcome.stages or {})

    def progress(self) -> str:
        """Text for the progress bar."""
        rate = self.frames / self.elapsed if self.elapsed else 0.0
        failed = f", {len(self.failures)} failed" if self.failures else ""
        cut = f"{self.segments_tracked}/{self.segments} segments, " if self.segments else ""
        videos = f"{self.done}/{self.workload.videos} videos"
        hours = f"{self.seconds / 3600:.2f} h"
        return f"{videos}, {cut}{self.frames} frames, {hours}, {rate:.1f} frames/s{failed}"

    def __str__(self) -> str:
        rate = self.frames / self.elapsed if self.elapsed else 0.0
        lines = [
            f"{self.done} videos done, {self.seconds / 3600:.2f} hours of video, {self.frames} "
            f"frames in {self.elapsed:.1f} s ({rate:.1f} frames/s)"
        ]
        if self.segments:
            lines.append(f"{self.segments_tracked} of {self.segments} segments of long videos")
        if self.frames:
            stages = ", ".join(
                f"{name} {self.frames / spent:.1f}"
                for name, spent in self.stages.items()
                if spent > 0
            )
            lines.append(f"frames/s by stage, for a single stream: {stages}")
        if self.failures:
            lines.append(f"{len(self.failures)} failed:")
            lines += [f"  {each.video.name} ({each.kind}): {each.reason}" for each in self.failures]
        return "\n".join(lines)
