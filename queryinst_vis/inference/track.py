"""Tracking a video file into three files: annotated video, results and timeline."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from queryinst_vis.config import InferenceConfig
from queryinst_vis.drawing import Overlay, mark_damaged
from queryinst_vis.errors import InputError
from queryinst_vis.formats.results import stream_youtube_vis_entries, write_results
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.any_detector import AnyDetector, load_detector
from queryinst_vis.inference.result import FrameResult
from queryinst_vis.inference.tracker import VideoTracker, store
from queryinst_vis.utils.files import atomic_path, files_together, shortened
from queryinst_vis.utils.prefetch import finishing, prefetch
from queryinst_vis.utils.progress import show_progress
from queryinst_vis.video.frames import ALL_FRAMES, Selection
from queryinst_vis.video.source import Source, SourceLike, known_length, open_source
from queryinst_vis.video.writer import VideoWriter
from queryinst_vis.visualization.timeline import draw_timeline, read_origin

Files = tuple[Path, Path, Path]
"""Where the annotated video, the results and the timeline go."""

DEFAULT_MAX_TRACKS = 1000
"""Tracks that ``track`` remembers unless ``tracking.max_tracks`` says otherwise: those seen
last. The published tracker keeps all, and so grows with the video."""

SCORE_THRESHOLD = 0.3
"""Score from which ``track`` shows detections of weights that keep the 0.05 of the benchmarks,
whose metrics gain by weak detections."""

CUT_THRESHOLD = 4
"""``tracking.cut_threshold`` of ``track``, unless the user names another."""

_LONGEST_NAME = 251  # bytes before ".mp4"; file systems take 255
_VIDEO_ID = 1  # of the one video in results.json


@dataclass(frozen=True)
class TrackSummary:
    """What came out of a video.

    Attributes:
        frames: frames that were looked at.
        tracks: identities that were found.
        seconds: wall-clock time for all of them: decoding, tracking, drawing, encoding.
        fps: frames per second of that time.
        files: the annotated video, the results and the timeline.
    """

    frames: int
    tracks: int
    seconds: float
    fps: float
    files: Files

    def __str__(self) -> str:
        noun = "track" if self.tracks == 1 else "tracks"
        counts = f"{self.tracks} {noun} in {self.frames} frames"
        speed = f"{self.seconds:.1f} s ({self.fps:.1f} frames/s)"
        return "\n".join([f"{counts}, {speed}", *(f"wrote {path}" for path in self.files)])


def track_video(
    source: SourceLike,
    out_dir: str | Path,
    weights: AnyDetector = "people",
    *,
    selection: Selection = ALL_FRAMES,
    score_threshold: float | None = None,
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
    """Find, segment and follow the instances of a video, and show them.

    Writes three files into ``out_dir``: the annotated video (``NAME-OF-VIDEO.mp4``), the tracks
    as YouTube-VIS results (``results.json``; video id 1, category id = class index + 1) and a
    picture of who was there when (``timeline.png``). They appear together when all is done.
    Memory does not grow with the video's length.

    Args:
        source: what ``open_source`` opens; not live.
        out_dir: folder for the results; made where missing.
        weights: as for ``VideoTracker.from_pretrained``: a name, a file, or any detector.
        score_threshold: detections below this score, 0..1, are left out; None: the weights' own
            ``inference.score_threshold``, or ``SCORE_THRESHOLD`` where that is the benchmarks'.
        selection: which frames are looked at; the annotated video keeps its speed.
        stride, max_frames: shorthand for those of ``selection``.
        batch: frames that the network sees at a time; several are faster, on CPUs too.
        max_size: as for ``VideoTracker.from_pretrained``.
        device: ``"auto"`` takes the accelerator where there is one.
        overrides: dotlist changes of the config inside the weights, e.g.
            ``["tracking.rule=query"]``. Unless they say otherwise, ``tracking.max_tracks`` is
            ``DEFAULT_MAX_TRACKS`` and ``tracking.cut_threshold`` is ``CUT_THRESHOLD``.
        strict, allow_partial: as for ``VideoReader``.
        overwrite: replace another video's results in ``out_dir`` instead of refusing.

    Raises:
        InputError: the video, the weights or the overrides cannot be used, or the folder not be
            written, or holds results of another video.
    """
    if (stride, max_frames) != (1, None):
        selection = replace(selection, stride=stride, max_frames=max_frames)
    source = open_source(source, selection, strict=strict, allow_partial=allow_partial)
    files = output_files(out_dir, source)
    check_overwritten(files, source, overwrite)
    tracker = load_tracker(weights, score_threshold, max_size, device, overrides)
    return run_tracker(tracker, source, files, batch)


def track_videos(
    sources: Sequence[Source],
    out_dir: str | Path,
    weights: str | Path = "people",
    *,
    score_threshold: float | None = None,
    batch: int = 1,
    max_size: int | None = None,
    device: str = "auto",
    overrides: list[str] | None = None,
    overwrite: bool = False,
) -> Iterator[TrackSummary]:
    """Track one video after the other with weights that are loaded once.

    Args:
        sources: of different names, as ``open_sources`` gives them; none is live.
        out_dir: the files of each go to the folder of its name in there.
        weights, score_threshold, batch, max_size, device, overrides, overwrite: as for
            ``track_video``.

    Returns:
        What came out of each, as soon as its files are there.

    Raises:
        InputError: as for ``track_video``. Nothing is tracked if the weights or a folder cannot be
            used; the files of earlier videos stay if a later one turns out to be damaged.
    """
    outputs = [output_files(Path(out_dir) / source.name, source) for source in sources]
    for files, source in zip(outputs, sources, strict=True):
        check_overwritten(files, source, overwrite)
    tracker = load_tracker(weights, score_threshold, max_size, device, overrides)
    return (
        run_tracker(tracker, source, files, batch)
        for files, source in zip(outputs, sources, strict=True)
    )


def check_overwritten(files: Files, source: Source, overwrite: bool = False) -> None:
    """Refuse to replace what another source, or another program, has written.

    The timeline picture tells which source its files are from. Without that note, all three files
    are taken for those of an earlier version that tracked a video of this name.

    Args:
        files: what will be written.
        source: what they will be of.
        overwrite: never refuse.

    Raises:
        InputError: there are files of something else.
    """
    there = [path for path in files if path.exists()]
    found = read_origin(files[-1])
    is_other = found != origin_note(source) if found else len(there) < len(files)
    if there and not overwrite and is_other:
        raise InputError(
            f"{there[0]}: holds results of another video; name another folder with --out, or "
            "replace them with --overwrite"
        )


def origin_note(source: Source) -> str:
    """What the files say of their source: a hash, which gives no folder's name away."""
    return hashlib.sha256(source.origin.encode(errors="surrogateescape")).hexdigest()


def output_files(out_dir: str | Path, source: Source, name: str | None = None) -> Files:
    """The three files that tracking writes, checked not to replace the source.

    Args:
        out_dir: folder for them.
        source: what they are of.
        name: of the annotated video without ``.mp4``; None: the source's.

    Raises:
        InputError: they would replace the source.
    """
    out_dir = Path(out_dir)
    video_name = shortened(name or source.name, _LONGEST_NAME) + ".mp4"
    files = (out_dir / video_name, out_dir / "results.json", out_dir / "timeline.png")
    if Path(source.origin).resolve() in {path.resolve() for path in files}:
        raise InputError(
            f"video {source.origin}: the annotated video would replace it; choose another folder "
            f"than {out_dir} for the results"
        )
    return files


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
    if score_threshold is not None:
        defaults.append(f"inference.score_threshold={score_threshold}")
    overrides = overrides or []
    detector = load_detector(weights, device, [*defaults, *overrides], max_size)
    inference = detector.config.inference
    named = any(override.startswith("inference.score_threshold=") for override in overrides)
    if (
        score_threshold is None
        and not named
        and inference.score_threshold == InferenceConfig().score_threshold
    ):
        inference = replace(inference, score_threshold=SCORE_THRESHOLD)
        detector.config = replace(detector.config, inference=inference)
    return VideoTracker(detector)


def run_tracker(
    tracker: VideoTracker, source: Source, files: Files, batch: int = 1
) -> TrackSummary:
    """What ``track_video`` does once the weights are loaded.

    Args:
        tracker: reset before the video.
        source: the frames.
        files: the annotated video, the results and the timeline to write.
        batch: frames that the network sees at a time.

    Raises:
        InputError: the source turns out to be damaged, or a file cannot be written.
    """
    tracker.reset()
    tracked = tracker.follow_video(prefetch(source.frames(), max(2, batch)), batch)
    return write_outputs(files, tracker.class_names, tracked, source, behind=batch)


def write_outputs(
    files: Files,
    class_names: list[str],
    tracked: Generator[FrameResult, None, None],
    source: Source,
    *,
    behind: int = 1,
) -> TrackSummary:
    """Draw the tracks on the frames as they come, then write what was found: all files, or none.

    Tracking, and drawing with encoding run at the same time, frame after frame; memory does not
    grow with the video. A source without ``fps`` has its frames shown from their times on, in
    seconds from the first frame, until the next one's.

    Args:
        files: the annotated video, the results and the timeline to write.
        class_names: names of the labels.
        tracked: the frames, at least one; closed at the end.
        source: what the frames are of.
        behind: frames that the tracking may be ahead of the drawing.

    Raises:
        InputError: a file cannot be written, or the source turns out to be damaged.
    """
    start = time.perf_counter()
    fps = source.fps
    overlay = Overlay(class_names)
    first: float | None = None
    with TrackStore() as tracks:

        def show(found: FrameResult) -> None:
            nonlocal first
            store(tracks, found.detections, found.seconds, found.index)
            scene = overlay.draw(found.frame, found.detections)
            if found.detections.of_damaged_frame:
                scene = mark_damaged(scene, found.index)
            seconds = None
            if fps is None and found.seconds is not None:
                first = found.seconds if first is None else first
                seconds = found.seconds - first
            writer.write(scene, seconds)

        video_path, results_path, timeline_path = files
        with (
            files_together(),
            atomic_path(video_path) as video,
            atomic_path(results_path) as results,
            atomic_path(timeline_path) as timeline,
        ):
            with (
                VideoWriter(
                    video, fps, pixel_aspect=source.pixel_aspect, is_endless=source.is_live
                ) as writer,
                closing(tracked),
                finishing(show, behind) as finish,
            ):
                name = source.path.name if source.path else source.name
                total = known_length(source)
                for found in show_progress(tracked, name, total, unit="frames", delay=0):
                    finish(found)
            category_ids = range(1, len(class_names) + 1)
            with_times = fps is None and not source.is_live
            entries = stream_youtube_vis_entries(tracks, _VIDEO_ID, category_ids, with_times)
            write_results(results, entries)
            draw_timeline(
                tracks, class_names, fps or _average_fps(tracks), timeline, origin_note(source)
            )
        seconds = time.perf_counter() - start
        return TrackSummary(tracks.length, len(tracks), seconds, tracks.length / seconds, files)


def _average_fps(tracks: TrackStore) -> float:
    duration = tracks.duration()
    return (tracks.length - 1) / duration if duration > 0 else 1.0
