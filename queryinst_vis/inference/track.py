"""Tracking a video and writing the results to files (see ``outputs``)."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from html import escape
from pathlib import Path

from queryinst_vis.drawing import DEFAULT_STYLE, NOTHING_HIDDEN, DrawingStyle, Redaction, Redactor
from queryinst_vis.errors import InputWarning
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.any_detector import AnyDetector, load_detector
from queryinst_vis.inference.filters import check_classes, for_showing
from queryinst_vis.inference.outputs import (
    DEFAULT_SAVE,
    OUTPUTS,
    OutputContext,
    OutputKind,
    OutputPlan,
    RunSettings,
)
from queryinst_vis.inference.outputs.embeddings import MeanEmbeddings
from queryinst_vis.inference.outputs.run_file import found_by_class, run_record
from queryinst_vis.inference.result import FrameResult, store
from queryinst_vis.inference.side_by_side import Lane
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.inference.video_runs import VideoRun, run_side_by_side
from queryinst_vis.structures.notebook import as_frame
from queryinst_vis.utils.files import files_together, write_json_atomically
from queryinst_vis.utils.prefetch import Polled, finishing, prefetch
from queryinst_vis.utils.progress import show_progress
from queryinst_vis.utils.stage_times import StageTimes
from queryinst_vis.video.encoders import X264
from queryinst_vis.video.frames import ALL_FRAMES, Selection
from queryinst_vis.video.source import Source, SourceLike, known_length, open_source

DEFAULT_MAX_TRACKS = 1000
"""Tracks that ``track`` remembers unless ``tracking.max_tracks`` says otherwise: those seen
last. The published tracker keeps all, and so grows with the video."""

CUT_THRESHOLD = 4
"""``tracking.cut_threshold`` of ``track``, unless the user names another."""


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
        """In a notebook: the page of ``save=["report"]``, with its player; None: there is none."""
        pages = [path for path in self.files if path.suffix == ".html"]
        if not pages:
            return None
        return f"<pre>{escape(str(self))}</pre>{as_frame(pages[0].read_text(encoding='utf-8'))}"


def track_video(
    source: SourceLike,
    out_dir: str | Path | None = None,
    weights: AnyDetector = "people",
    *,
    save: Sequence[str] = DEFAULT_SAVE,
    kinds: Mapping[str, OutputKind] = OUTPUTS,
    style: DrawingStyle = DEFAULT_STYLE,
    encoder: str = X264,
    redaction: Redaction = NOTHING_HIDDEN,
    selection: Selection = ALL_FRAMES,
    score_threshold: float | None = None,
    classes: Sequence[str | int] | None = None,
    iou: float | None = None,
    stride: int = 1,
    max_frames: int | None = None,
    batch: int = 1,
    max_size: int | None = None,
    device: str = "auto",
    overrides: list[str] | None = None,
    strict: bool = False,
    allow_partial: bool = False,
    overwrite: bool = False,
) -> TrackSummary:
    """Detect, segment and track the instances of a video, and write the results.

    Writes the outputs in ``save`` to ``out_dir``, by default the annotated video
    (``NAME-OF-VIDEO.mp4``), the tracks as YouTube-VIS results (``results.json``; video id 1,
    category id = class index + 1) and as one JSON line per frame (``tracks.jsonl``), and a timeline
    of the tracks (``timeline.png``); ``run.json`` with the provenance is always written.
    All files are published together at the end. Memory does not grow with the length of the video.

    Args:
        source: as for ``open_source``; not live.
        out_dir: output folder, created if necessary. None: ``out/NAME-OF-SOURCE``.
        weights: as for ``VideoTracker.from_pretrained``: a name, a file, or any detector.
        save: the outputs to write, of ``kinds``.
        kinds: the available outputs.
        style: what is drawn for each instance in the annotated video.
        encoder: of the videos, of ``video.encoders.ENCODERS``, or ``"auto"``: hardware if it works.
        redaction: classes and track ids that are blurred, or cut out, in all images and videos.
        score_threshold: 0..1; None: ``inference.score_threshold`` of the weights, or 0.3 if that
            is the 0.05 used for benchmarks.
        classes: track only these classes, by name or 0-based label; None: all.
        iou: IoU threshold for NMS, 0..1; None: that of the weights.
        selection: the frames to process; the annotated video keeps its playback speed.
        stride: shorthand for ``selection.stride``.
        max_frames: shorthand for ``selection.max_frames``.
        batch: batch size: the same results, higher throughput, also on CPUs.
        max_size: as for ``VideoTracker.from_pretrained``.
        device: ``"auto"``: a GPU if available.
        overrides: dotlist overrides of the config in the weights, e.g.
            ``["tracking.rule=query"]``. By default, ``tracking.max_tracks`` is
            ``DEFAULT_MAX_TRACKS`` and ``tracking.cut_threshold`` is ``CUT_THRESHOLD``.
        strict: reject a source with missing or damaged frames, as for ``VideoReader``.
        allow_partial: accept a truncated file, as for ``VideoReader``.
        overwrite: replace results of another video in ``out_dir``.

    Raises:
        InputError: the video, the weights or the overrides cannot be used, or the folder not be
            written, or holds results of another video.

    Example::

        summary = queryinst_vis.track_video("street.mp4", "out/street", save=["json", "csv"])
        print(summary.tracks, "tracks in", summary.frames, "frames:", *summary.files)
    """
    if (stride, max_frames) != (1, None):
        selection = replace(selection, stride=stride, max_frames=max_frames)
    source = open_source(source, selection, strict=strict, allow_partial=allow_partial)
    return next(
        track_videos(
            [source],
            [out_dir or Path("out") / source.name],
            weights,
            save=save,
            kinds=kinds,
            style=style,
            encoder=encoder,
            redaction=redaction,
            selection=selection,
            score_threshold=score_threshold,
            classes=classes,
            iou=iou,
            batch=batch,
            max_size=max_size,
            device=device,
            overrides=overrides,
            overwrite=overwrite,
        )
    )


def track_videos(
    sources: Sequence[Source],
    folders: Sequence[str | Path],
    weights: AnyDetector = "people",
    *,
    save: Sequence[str] = DEFAULT_SAVE,
    kinds: Mapping[str, OutputKind] = OUTPUTS,
    style: DrawingStyle = DEFAULT_STYLE,
    encoder: str = X264,
    redaction: Redaction = NOTHING_HIDDEN,
    selection: Selection = ALL_FRAMES,
    score_threshold: float | None = None,
    classes: Sequence[str | int] | None = None,
    iou: float | None = None,
    batch: int = 1,
    streams: int = 1,
    max_size: int | None = None,
    device: str = "auto",
    overrides: list[str] | None = None,
    overwrite: bool = False,
) -> Iterator[TrackSummary]:
    """Track several videos with weights that are loaded once.

    Args:
        sources: as ``open_sources`` gives them; none is live.
        folders: where the files of each go, one folder for each source.
        selection: which of their frames they give, for ``run.json``.
        weights, save, kinds, style, encoder, redaction, score_threshold, classes, iou, batch,
            max_size, device, overrides, overwrite: as for ``track_video``.

    Returns:
        What came out of each, as soon as its files are there.

    Raises:
        InputError: as for ``track_video``. Nothing is tracked if the weights or a folder cannot be
            used; the files of earlier videos stay if a later one turns out to be damaged.
    """
    run = settings_of(weights, score_threshold, classes, iou, max_size, overrides, selection)
    plans = [
        OutputPlan(
            folder,
            source,
            save,
            overwrite=overwrite,
            run=run,
            style=style,
            encoder=encoder,
            redaction=redaction,
            kinds=kinds,
        )
        for source, folder in zip(sources, folders, strict=True)
    ]
    tracker = load_tracker(weights, score_threshold, max_size, device, overrides)
    videos = zip(sources, plans, strict=True)
    if streams == 1 or len(plans) == 1:
        return (
            run_tracker(tracker, source, plan, batch, classes=classes, iou=iou)
            for source, plan in videos
        )
    detector = tracker.detector
    runs = (
        begin_run(VideoTracker(detector), source, plan, batch, classes=classes, iou=iou)
        for source, plan in videos
    )
    return _side_by_side(runs, len(plans), streams, batch)


def _side_by_side(
    runs: Iterator[VideoRun[TrackSummary]], videos: int, streams: int, batch: int
) -> Iterator[TrackSummary]:
    with closing(run_side_by_side(lambda: next(runs, None), streams, batch)) as done:
        for run in show_progress(done, f"{streams} videos at a time", videos, delay=0):
            yield run.outcome.result()


def load_tracker(
    weights: AnyDetector,
    score_threshold: float | None,
    max_size: int | None,
    device: str,
    overrides: list[str] | None,
) -> VideoTracker:
    """The tracker that ``track_video`` means by these arguments."""
    defaults = [
        f"tracking.max_tracks={DEFAULT_MAX_TRACKS}",
        f"tracking.cut_threshold={CUT_THRESHOLD}",
    ]
    overrides = overrides or []
    if score_threshold is not None:
        overrides = [f"inference.score_threshold={score_threshold}", *overrides]
    detector = load_detector(weights, device, [*defaults, *overrides], max_size)
    return VideoTracker(for_showing(detector, overrides))


def settings_of(
    weights: AnyDetector,
    score_threshold: float | None,
    classes: Sequence[str | int] | None,
    iou: float | None,
    max_size: int | None,
    overrides: list[str] | None,
    selection: Selection,
) -> RunSettings:
    """What the files of a run say that it was asked for."""
    name = getattr(weights, "__name__", type(weights).__name__)
    return RunSettings(
        str(weights) if isinstance(weights, str | Path) else name,
        {
            "score_threshold": score_threshold,
            "classes": None if classes is None else list(classes),
            "iou": iou,
            "max_size": max_size,
            "overrides": list(overrides or []),
            **asdict(selection),
        },
    )


def run_tracker(
    tracker: VideoTracker,
    source: Source,
    plan: OutputPlan,
    batch: int = 1,
    *,
    classes: Sequence[str | int] | None = None,
    iou: float | None = None,
) -> TrackSummary:
    """What ``track_video`` does once the weights are loaded.

    Args:
        tracker: reset before the video.
        source: the frames.
        plan: what to write.
        batch: frames that the network sees at a time.
        classes, iou: as for ``track_video``.

    Raises:
        InputError: the source turns out to be damaged, or a file cannot be written.
    """
    tracker.reset()
    times = StageTimes()
    decoded = prefetch(times.over(source.frames(), "decoding"), max(2, batch))
    frames = times.over(decoded, "waiting for frames")
    tracked = tracker.follow_video(frames, batch, classes=classes, iou=iou)
    return write_outputs(plan, tracker, tracked, source, times, behind=batch)


def begin_run(
    tracker: VideoTracker,
    source: Source,
    plan: OutputPlan,
    batch: int = 1,
    *,
    classes: Sequence[str | int] | None = None,
    iou: float | None = None,
) -> VideoRun[TrackSummary]:
    """What ``run_tracker`` does, for one of several videos that advance side by side.

    Args:
        tracker: of this video alone.
        source, plan, batch, classes, iou: as for ``run_tracker``.
    """
    times = StageTimes()
    frames = Polled(times.over(source.frames(), "decoding"), max(2, batch))
    return VideoRun(
        Lane(tracker, frames, classes=classes, iou=iou),
        lambda results: write_outputs(
            plan, tracker, results, source, times, behind=batch, progress=False
        ),
    )


class _Redact:
    """Hides from every output what nobody shall see, and tells at the end what could not be done.

    Raises:
        InputError: the weights do not know a class that shall be hidden.
    """

    def __init__(self, redaction: Redaction, class_names: list[str]) -> None:
        chosen = [name for name in redaction.blur + redaction.cut_out if isinstance(name, str)]
        if class_names:  # a function's become known as they come up
            check_classes(chosen, class_names)
        self._redactor = Redactor(redaction, class_names) if redaction else None

    def __call__(self, found: FrameResult) -> FrameResult:
        if self._redactor is None:
            return found
        is_damaged = found.detections.of_damaged_frame
        frame = self._redactor.redact(found.frame, found.detections, is_damaged=is_damaged)
        return replace(found, frame=frame)

    def tell(self, name: str) -> None:
        """Warn of damaged frames, and of ids that never came up."""
        if self._redactor is None:
            return
        notes = []
        if self._redactor.damaged:
            notes.append(
                f"{self._redactor.damaged} frames are damaged, so nothing was found to hide in "
                "them: they show the redacted picture before them"
            )
        if self._redactor.unseen:
            ids = ", ".join(str(each) for each in sorted(self._redactor.unseen))
            notes.append(f"no track {ids} was found, so nothing was hidden or cut out for it")
        for note in notes:
            warnings.warn(f"{name}: {note}", InputWarning, stacklevel=3)


def _stage_seconds(times: StageTimes, start: float) -> dict[str, float]:
    """Seconds of each stage so far, and of all of them since ``start``; stages overlap."""
    return {
        "decoding": times["decoding"],
        "tracking": times["tracking"] - times["waiting for frames"],
        "writing": times["writing"],
        "total": time.perf_counter() - start,
    }


def write_outputs(
    plan: OutputPlan,
    tracker: VideoTracker,
    tracked: Generator[FrameResult, None, None],
    source: Source,
    times: StageTimes,
    *,
    behind: int = 1,
    progress: bool = True,
) -> TrackSummary:
    """Hand the frames to every output as they come, and the tracks at the end: all files, or none.

    Tracking and writing run at the same time, frame after frame; memory does not grow with the
    video. A source without ``fps`` has its frames shown from their times on, in seconds from the
    first frame, until the next one's.

    Args:
        plan: what to write.
        tracker: what found them.
        tracked: the frames, at least one; closed at the end.
        source: what the frames are of.
        times: of the stages before this one.
        behind: frames that the tracking may be ahead of the writing.
        progress: show a bar.

    Raises:
        InputError: a file cannot be written, or the source turns out to be damaged.
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
                plan.style,
                plan.encoder,
                stack,
                stages,
            )
            outputs = plan.open(context)
            redact = _Redact(plan.redaction, tracker.class_names)
            embeddings = MeanEmbeddings()

            def write(found: FrameResult) -> None:
                with times.of("writing"):
                    store(tracks, found.detections, found.seconds, found.index)
                    embeddings.add(found.detections)
                    found = redact(found)
                    for output in outputs:
                        output.write(found)

            timed = times.over(tracked, "tracking")
            with closing(timed), finishing(write, behind) as finish:
                name = source.path.name if source.path else source.name
                total = known_length(source)
                shown = show_progress(timed, name, total, "frames", 0) if progress else timed
                for found in shown:
                    finish(found)
            with times.of("writing"):
                for output in outputs:
                    output.finish(tracks)
            redact.tell(source.name)
            found_classes = found_by_class(tracks, tracker.class_names)
            hint = None if found_classes else plan.run.hint(tracker.class_names)
            seconds = stages()
            files = [str(path.relative_to(plan.run_file.parent)) for path in plan.files[:-1]]
            record = run_record(
                plan.run, source, plan.origin, tracks, seconds, found_classes, hint, files
            )
            record["precision"] = tracker.precision
            record["embeddings"] = embeddings.by_track()
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
