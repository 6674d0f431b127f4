"""Tracking a video and writing the results to files (see ``outputs``)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from queryinst_vis.drawing import DEFAULT_STYLE, NOTHING_HIDDEN, DrawingStyle, Redaction
from queryinst_vis.inference.any_detector import AnyDetector, is_weights, load_detector
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.filters import for_showing
from queryinst_vis.inference.options import DEFAULT_SAVE, TrackOptions
from queryinst_vis.inference.outputs import OUTPUTS, OutputKind, OutputPlan
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
"""``tracking.max_tracks`` of ``track`` by default: the most recently seen tracks are kept. The
published tracker keeps all, so its memory grows with the video."""

CUT_THRESHOLD = 4
"""``tracking.cut_threshold`` of ``track`` by default."""


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
            is a benchmark value, 0.05 or 0.
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
            written, or contains results of another video.

    Example::

        summary = queryinst_vis.track_video("street.mp4", "out/street", save=["json", "csv"])
        print(summary.tracks, "tracks in", summary.frames, "frames:", *summary.files)
    """
    if stride != 1:
        selection = replace(selection, stride=stride)
    if max_frames is not None:
        selection = replace(selection, max_frames=max_frames)
    source = open_source(source, selection, strict=strict, allow_partial=allow_partial)
    options = TrackOptions(
        weights,
        conf=score_threshold,
        iou=iou,
        classes=classes,
        max_size=max_size,
        overrides=overrides or (),
        selection=selection,
        save=save,
        style=style,
        redaction=redaction,
        encoder=encoder,
    )
    [summary] = track_videos(
        [source],
        [out_dir or Path("out") / source.name],
        options,
        kinds=kinds,
        batch=batch,
        device=device,
        overwrite=overwrite,
    )
    return summary


def track_videos(
    sources: Sequence[Source],
    folders: Sequence[str | Path],
    options: TrackOptions,
    *,
    kinds: Mapping[str, OutputKind] = OUTPUTS,
    batch: int = 1,
    streams: int = 1,
    device: str = "auto",
    overwrite: bool = False,
) -> Iterator[TrackSummary]:
    """Track several videos with weights that are loaded once.

    Args:
        sources: opened with ``open_sources``; none is live.
        folders: output folder of each source.
        options: of all videos. ``selection`` is only recorded: the sources already apply it.
        kinds: the available outputs.
        batch: batch size.
        streams: number of videos tracked at the same time; their frames share batches.
        device: ``"auto"``: a GPU if available.
        overwrite: replace results of other videos in the folders.

    Returns:
        The summary of each video, as soon as its files are written.

    Raises:
        InputError: as for ``track_video``. Nothing is tracked if the weights or a folder cannot be
            used; the files of earlier videos stay if a later one turns out to be damaged.
    """
    plans = plans_of(sources, folders, options, kinds, overwrite)
    tracker = load_tracker(options, device)
    videos = zip(sources, plans, strict=True)
    if streams == 1 or len(plans) == 1:
        return (run_tracker(tracker, source, plan, batch) for source, plan in videos)
    detector = tracker.detector
    runs = (begin_run(VideoTracker(detector), source, plan, batch) for source, plan in videos)
    return _side_by_side(runs, len(plans), streams, batch)


def _side_by_side(
    runs: Iterator[VideoRun[TrackSummary]], videos: int, streams: int, batch: int
) -> Iterator[TrackSummary]:
    with closing(run_side_by_side(lambda: next(runs, None), streams, batch)) as done:
        for run in show_progress(done, f"{streams} videos at a time", videos, delay=0):
            yield run.outcome.result()


def plans_of(
    sources: Sequence[Source],
    folders: Sequence[str | Path],
    options: TrackOptions,
    kinds: Mapping[str, OutputKind],
    overwrite: bool,
) -> list[OutputPlan]:
    """The files to write for each source, checked before any weights are loaded.

    Raises:
        InputError: as for ``OutputPlan``.
    """
    return [
        OutputPlan(folder, source, options, overwrite=overwrite, kinds=kinds)
        for source, folder in zip(sources, folders, strict=True)
    ]


def load_tracker(options: TrackOptions, device: str = "auto") -> VideoTracker:
    """Load the tracker that the options ask for, with the defaults of ``track``.

    Raises:
        InputError: invalid weights or overrides.
    """
    overrides = list(options.overrides)
    if options.conf is not None:
        overrides.append(f"inference.score_threshold={options.conf}")
    detector = load_detector(options.weights, device, overrides, options.max_size)
    if is_weights(options.weights) or isinstance(options.weights, Detector):
        # custom detectors choose their own threshold
        detector = for_showing(detector, overrides)
    given = {text.partition("=")[0] for text in overrides}
    tracking = detector.config.tracking
    if tracking.max_tracks is None and "tracking.max_tracks" not in given:
        tracking = replace(tracking, max_tracks=DEFAULT_MAX_TRACKS)
    if tracking.cut_threshold is None and "tracking.cut_threshold" not in given:
        tracking = replace(tracking, cut_threshold=CUT_THRESHOLD)
    detector = copy.copy(detector)
    detector.config = replace(detector.config, tracking=tracking)
    return VideoTracker(detector)


def run_tracker(
    tracker: VideoTracker, source: Source, plan: OutputPlan, batch: int = 1
) -> TrackSummary:
    """Track a video with loaded weights, and write its files.

    Args:
        tracker: reset before the video.
        source: the video.
        plan: what to write; of its options, ``classes`` and ``iou`` are applied here.
        batch: batch size.

    Raises:
        InputError: the source turns out to be damaged, or a file cannot be written.
    """
    tracker.reset()
    times = StageTimes()
    decoded = prefetch(times.over(source.frames(), "decoding"), max(2, batch))
    frames = times.over(decoded, "waiting for frames")
    options = plan.options
    tracked = tracker.follow_video(frames, batch, classes=options.classes, iou=options.iou)
    return write_outputs(plan, tracker, tracked, source, times, behind=batch)


def begin_run(
    tracker: VideoTracker, source: Source, plan: OutputPlan, batch: int = 1
) -> VideoRun[TrackSummary]:
    """Like ``run_tracker``, for one of several videos that are tracked at the same time.

    Args:
        tracker: used by no other video; trackers of one detector share its network.
        source, plan, batch: as for ``run_tracker``.
    """
    times = StageTimes()
    frames = Polled(times.over(source.frames(), "decoding"), max(2, batch))
    return VideoRun(
        Lane(tracker, frames, classes=plan.options.classes, iou=plan.options.iou),
        lambda results: write_outputs(
            plan, tracker, results, source, times, behind=batch, progress=False
        ),
    )
