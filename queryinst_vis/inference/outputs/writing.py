"""Writing the outputs of tracking, and a summary at the end."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Protocol

from queryinst_vis.drawing import Redaction, Redactor
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.filters import check_classes
from queryinst_vis.inference.outputs.embeddings import MeanEmbeddings
from queryinst_vis.inference.outputs.output import OutputContext
from queryinst_vis.inference.outputs.plan import OutputPlan
from queryinst_vis.inference.outputs.run_file import found_by_class, run_record
from queryinst_vis.inference.result import FrameResult, store
from queryinst_vis.structures.notebook import as_frame
from queryinst_vis.utils.files import files_together, write_json_atomically
from queryinst_vis.utils.prefetch import finishing
from queryinst_vis.utils.progress import show_progress
from queryinst_vis.utils.stage_times import StageTimes
from queryinst_vis.video.source import Source, known_length


@dataclass(frozen=True)
class TrackSummary:
    """Summary of a tracked video; notebooks show the player of ``save=["report"]`` inline.

    Attributes:
        frames: number of processed frames.
        tracks: number of tracks.
        seconds: total wall-clock time: decoding, tracking, drawing, encoding.
        fps: frames per second of wall-clock time.
        files: the files written.
        found: tracks by class name, the most frequent class first.
        hint: what to try if nothing was found; otherwise None.
        about: short description of each file.
    """

    frames: int
    tracks: int
    seconds: float
    fps: float
    files: tuple[Path, ...]
    found: Mapping[str, int] = field(default_factory=dict)
    hint: str | None = None
    about: Mapping[Path, str] = field(default_factory=dict)

    def __str__(self) -> str:
        noun = "track" if self.tracks == 1 else "tracks"
        counts = f"{self.tracks} {noun} in {self.frames} frames"
        speed = f"{self.seconds:.1f} s ({self.fps:.1f} frames/s)"
        classes = ", ".join(f"{name}: {count}" for name, count in self.found.items())
        lines = [f"{counts}, {speed}", *([classes] if classes else [])]
        for path in self.files:
            about = self.about.get(path)
            lines.append(f"wrote {path}" + (f" ({about})" if about else ""))
        return "\n".join(lines)

    def _repr_html_(self) -> str | None:
        """For notebooks: the page of ``save=["report"]``, with its player; None without a page."""
        pages = [path for path in self.files if path.suffix == ".html"]
        if not pages:
            return None
        return f"<pre>{escape(str(self))}</pre>{as_frame(pages[0].read_text(encoding='utf-8'))}"


class FoundBy(Protocol):
    """Properties of the tracker that produced the results, such as a ``VideoTracker``."""

    @property
    def class_names(self) -> list[str]:
        """Names of the labels; may grow during tracking."""

    @property
    def precision(self) -> str | None:
        """Precision of the network; None if unknown."""


class _Redact:
    """Redacts frames before they reach any output; warns at the end of what could not be redacted.

    Raises:
        InputError: an unknown class.
    """

    def __init__(self, redaction: Redaction, class_names: list[str]) -> None:
        chosen = [name for name in redaction.blur + redaction.cut_out if isinstance(name, str)]
        if class_names:  # those of a function may not be known yet
            check_classes(chosen, class_names)
        self._redactor = Redactor(redaction, class_names) if redaction else None

    def __call__(self, found: FrameResult) -> FrameResult:
        if self._redactor is None:
            return found
        tracked = found.detections
        frame = self._redactor.redact(
            found.frame, tracked, found.detected, is_damaged=tracked.of_damaged_frame
        )
        return replace(found, frame=frame)

    def warn(self, name: str) -> None:
        """Warn of damaged frames, and of track ids that did not occur."""
        if self._redactor is None:
            return
        notes = []
        if self._redactor.damaged:
            notes.append(
                f"{self._redactor.damaged} damaged frames show the previous redacted frame, since "
                "nothing can be detected in them"
            )
        if self._redactor.unseen:
            ids = ", ".join(str(each) for each in sorted(self._redactor.unseen))
            notes.append(f"no track {ids} was found, so nothing was redacted or cut out for it")
        for note in notes:
            warnings.warn(f"{name}: {note}", InputWarning, stacklevel=3)


class _FrameWriter:
    """Passes each frame to the track store and to all outputs.

    Args:
        plan: what to write.
        context: the run; resources of the outputs are closed with its ``stack``.
        tracks: the store to fill.
        times: measures the time spent here.

    Raises:
        InputError: a file cannot be written.
    """

    def __init__(
        self, plan: OutputPlan, context: OutputContext, tracks: TrackStore, times: StageTimes
    ) -> None:
        self.embeddings = MeanEmbeddings()
        self._name = context.source.name
        self._tracks, self._times = tracks, times
        self._outputs = plan.open(context)
        self._redact = _Redact(plan.options.redaction, context.class_names)

    def write(self, found: FrameResult) -> None:
        """Write the next frame."""
        with self._times.of("writing"):
            store(self._tracks, found.detections, found.seconds, found.index)
            self.embeddings.add(found.detections)
            redacted = self._redact(found)
            for output in self._outputs:
                output.write(redacted)

    def finish(self) -> None:
        """Complete the files after the last frame."""
        with self._times.of("writing"):
            for output in self._outputs:
                output.finish(self._tracks)
        self._redact.warn(self._name)


def _stage_seconds(times: StageTimes, start: float) -> dict[str, float]:
    """Seconds spent in each stage so far, and in total since ``start``; stages overlap."""
    return {
        "decoding": times["decoding"],
        "tracking": times["tracking"] - times["waiting for frames"],
        "writing": times["writing"],
        "total": time.perf_counter() - start,
    }


def write_outputs(
    plan: OutputPlan,
    tracker: FoundBy,
    tracked: Generator[FrameResult, None, None],
    source: Source,
    times: StageTimes,
    *,
    behind: int = 1,
    progress: bool = True,
) -> TrackSummary:
    """Write all outputs of a video, or none of them if it fails.

    Tracking and writing overlap; memory does not grow with the length of the video. If the source
    has no ``fps``, each frame of output videos is shown at its time relative to the first frame,
    until the next one.

    Args:
        plan: what to write.
        tracker: the tracker that yields ``tracked``.
        tracked: the results; closed at the end.
        source: the video.
        times: times of the previous stages.
        behind: maximum number of frames that tracking may be ahead of writing.
        progress: show a progress bar.

    Raises:
        InputError: a file cannot be written, or the source turns out to be damaged or empty.
    """
    start = time.perf_counter()
    stages = partial(_stage_seconds, times, start)
    with TrackStore() as tracks:
        with files_together(), ExitStack() as stack:
            context = OutputContext(
                tracker.class_names,
                source,
                plan.origin,
                plan.run,
                plan.options.style,
                plan.encoder,
                stack,
                stages,
            )
            writer = _FrameWriter(plan, context, tracks, times)
            timed = times.over(tracked, "tracking")
            with closing(timed), finishing(writer.write, behind) as finish:
                name = source.path.name if source.path else source.name
                total = known_length(source)
                for found in show_progress(timed, name, total, "frames", 0) if progress else timed:
                    finish(found)
            if not tracks.length:
                raise InputError(f"{source.origin}: has no frame in the selected range")
            writer.finish()
            found_classes = found_by_class(tracks, tracker.class_names)
            hint = None if found_classes else plan.run.hint(tracker.class_names)
            seconds = stages()
            files = [str(path.relative_to(plan.run_file.parent)) for path in plan.files[:-1]]
            record = run_record(
                plan.run, source, plan.origin, tracks, seconds, found_classes, hint, files
            )
            record["precision"] = tracker.precision
            record["embeddings"] = writer.embeddings.by_track()
            write_json_atomically(plan.run_file, record)
        return TrackSummary(
            tracks.length,
            len(tracks),
            seconds["total"],
            tracks.length / seconds["total"],
            plan.files,
            found_classes,
            hint,
            plan.about,
        )
