"""Tracking a video and writing the results to files (see ``outputs``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from queryinst_vis.drawing import DEFAULT_STYLE, NOTHING_HIDDEN, DrawingStyle, Redaction
from queryinst_vis.inference.any_detector import AnyDetector, load_detector
from queryinst_vis.inference.filters import for_showing
from queryinst_vis.inference.outputs import (
    DEFAULT_SAVE,
    OUTPUTS,
    OutputKind,
    OutputPlan,
    RunSettings,
)
from queryinst_vis.inference.outputs.writing import TrackSummary, write_outputs
from queryinst_vis.inference.side_by_side import Lane
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.inference.video_runs import VideoRun, run_side_by_side
from queryinst_vis.utils.prefetch import Polled, prefetch
from queryinst_vis.utils.progress import show_progress
from queryinst_vis.utils.stage_times import StageTimes
from queryinst_vis.video.encoders import X264
from queryinst_vis.video.frames import ALL_FRAMES, Selection
from queryinst_vis.video.source import Source, SourceLike, open_source

DEFAULT_MAX_TRACKS = 1000
"""Tracks that ``track`` remembers unless ``tracking.max_tracks`` says otherwise: those seen
last. The published tracker keeps all, and so grows with the video."""

CUT_THRESHOLD = 4
"""``tracking.cut_threshold`` of ``track``, unless the user names another."""


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
