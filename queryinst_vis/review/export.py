"""Export of corrected tracks to data set formats and annotation tools."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from queryinst_vis.data.convert.builder import LabelledTrack, LabelledVideo, build_video_set
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.formats.cvat_video import write_cvat_video
from queryinst_vis.formats.label_studio import write_label_studio
from queryinst_vis.formats.losses import Losses
from queryinst_vis.formats.names import list_names
from queryinst_vis.formats.single_video import write_coco_video_document, write_mots_video
from queryinst_vis.formats.track_store import TrackStore, VideoInfo
from queryinst_vis.review.results import hidden_by_run
from queryinst_vis.review.session import ReviewSession
from queryinst_vis.review.view import ReviewView
from queryinst_vis.utils.files import new_folder, shortened, write_json_atomically
from queryinst_vis.utils.progress import show_progress
from queryinst_vis.video.frames import Selection
from queryinst_vis.video.source import open_source

Frames = Literal["checked", "all"]

_JPEG_QUALITY = 95
_MAX_NAME_BYTES = 200
_NAMES = "names of identities, which the format cannot store"
_SCORES = "scores, which the format cannot store"


@dataclass(frozen=True)
class _Export:
    """The input of the format writers.

    Attributes:
        folder: output folder.
        session: the review session.
        view: view of the corrected tracks.
        video: properties of the video.
        frames: indices of the exported frames, ascending.
        tracks: the corrected tracks in these frames.
        names: names of identities, by track id.
    """

    folder: Path
    session: ReviewSession
    view: ReviewView
    video: VideoInfo
    frames: Sequence[int]
    tracks: TrackStore
    names: Mapping[int, str]


def export(
    session: ReviewSession, folder: str | Path, to: str, frames: Frames | None = None
) -> str:
    """Export the corrected tracks.

    * ``youtube-vis``: ``annotations.json`` and ``frames/NAME/000012.jpg``, for ``finetune`` (with
      ``--images``) or as ground truth for ``eval-video``;
    * ``coco-video``: ``coco_video.json``, as with ``track --save coco-video``;
    * ``mots``: ``NAME.txt``, as with ``track --save mots``;
    * ``cvat``: ``annotations.xml``, "CVAT for video 1.1";
    * ``label-studio``: ``tasks.json``, boxes only.

    Args:
        session: the review session.
        folder: output folder, new or empty.
        to: a format of ``EXPORTS``.
        frames: "checked" (only frames marked as checked) or "all"; None: checked frames for
            ``youtube-vis``, since training data should be correct, all frames for other formats.

    Returns:
        One-line summary of what was written and lost.

    Raises:
        InputError: an unknown format, a folder that is not empty, no frame to export, or, for
            ``youtube-vis``, a video that is missing or has another size.
    """
    if to not in EXPORTS:
        raise InputError(f"format '{to}': choose {', '.join(EXPORTS)}")
    frames = frames or ("checked" if to == "youtube-vis" else "all")
    view, length = session.view, len(session)
    chosen = [frame for frame in range(length) if frames == "all" or view.is_checked(frame)]
    if not chosen:
        raise InputError(
            f"{session.results}: no frame is marked as checked; mark correct frames, or "
            "export all of them with --frames all"
        )
    video = VideoInfo(
        _file_name(session.video.name), session.video.fps, list(view.state.class_names)
    )
    names = {track.track_id: track.name for track in view.state.tracks.values() if track.name}
    with TrackStore() as tracks:
        _fill(tracks, session, view, chosen)
        with new_folder(folder) as target:
            job = _Export(target, session, view, video, chosen, tracks, names)
            losses = EXPORTS[to](job)
        count = f"{len(tracks)} tracks in {len(chosen)} of {length} frames"
    return f"wrote {folder}: {to}, {count}" + (f"; not kept: {losses}" if str(losses) else "")


def _file_name(name: str) -> str:
    """The name of a video, from an untrusted file, made valid as a file name."""
    return shortened(re.sub(r"[^\w.-]+", "_", name).strip("._"), _MAX_NAME_BYTES) or "video"


def _fill(
    tracks: TrackStore, session: ReviewSession, view: ReviewView, frames: Sequence[int]
) -> None:
    labels = {name: label for label, name in enumerate(view.state.class_names)}
    for index in show_progress(frames, "Reading tracks"):
        frame = view.frame(index)
        regions = frame.regions
        tracks.add(
            session.size,
            [region.track_id for region in regions],
            [region.score for region in regions],
            [labels[region.class_name] for region in regions],
            [region.box for region in regions],
            [region.segmentation for region in regions],
            frame.seconds,
            frame.number,
        )


def _youtube_vis(job: _Export) -> Losses:
    names = {number: f"{job.video.name}/{number:06d}.jpg" for number in job.tracks.frame_numbers()}
    damaged = _write_frames(job, names)
    kept = [frame for frame, number in enumerate(names) if number not in damaged]
    if not kept:
        raise InputError(f"{job.session.results}: all frames to export are damaged")
    files = [name for number, name in names.items() if number not in damaged]
    height, width = job.tracks.frame_size
    labelled, ids = [], []
    for track in job.tracks:
        found = dict(track.segmentations())
        masks = [found.get(frame) for frame in kept]
        if any(masks):
            labelled.append(LabelledTrack(job.video.class_names[track.label], masks))
            ids.append(track.track_id)
    video = LabelledVideo(files, height, width, labelled)
    content = build_video_set([video], f"{job.video.name}, corrected", job.video.class_names)
    for annotation, track_id in zip(content["annotations"], ids, strict=True):
        annotation["track_id"] = track_id
        if track_id in job.names:
            annotation["name"] = job.names[track_id]
    write_json_atomically(job.folder / "annotations.json", content)
    losses = _losses(scores=_regions(job))
    losses["damaged frames"] += len(damaged)
    return losses


def _write_frames(job: _Export, files: Mapping[int, str]) -> set[int]:
    """Write frames of the video as JPEG; returns the numbers of damaged ones, left out.

    Args:
        job: the export.
        files: file names by frame number.
    """
    path = job.session.source
    if path is None:
        raise InputError(
            f"{job.session.results}: the path of its video is unknown; give it with --video"
        )
    source = open_source(path, Selection(start_frame=min(files), end_frame=max(files) + 1))
    missing, damaged = set(files), set[int]()
    for frame in show_progress(source.frames(), "Writing frames", max(files) + 1 - min(files)):
        if frame.number not in missing:
            continue
        if frame.image.shape[:2] != job.session.size:
            height, width = job.session.size
            raise InputError(
                f"video {path}: its frames are {frame.image.shape[1]}x{frame.image.shape[0]} "
                f"pixels, those of the tracks {width}x{height}"
            )
        missing.remove(frame.number)
        if frame.is_damaged:  # shows the previous frame
            damaged.add(frame.number)
            continue
        target = job.folder / "frames" / files[frame.number]
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame.image).save(target, quality=_JPEG_QUALITY, subsampling=0)
    if missing:
        raise InputError(f"video {path}: has no frame {min(missing)}, which the tracks have")
    hidden = hidden_by_run(job.session.run)
    if hidden:
        warnings.warn(
            f"{job.session.results}: {list_names(hidden)} was blurred or cut out in the video of "
            f"this run; the {len(files)} frames of this export show the original pixels",
            InputWarning,
            stacklevel=2,
        )
    return damaged


def _coco_video(job: _Export) -> Losses:
    write_coco_video_document(job.folder / "coco_video.json", job.tracks, job.video)
    return _losses(names=len(job.names))


def _mots(job: _Export) -> Losses:
    losses = _losses(names=len(job.names), scores=_regions(job))
    path = job.folder / f"{job.video.name}.txt"
    lost = write_mots_video(path, job.tracks, job.video)
    losses["masks cut where tracks overlap"] += lost.cut
    losses["masks hidden by others"] += lost.hidden
    losses["tracks beyond 999 per class"] += lost.tracks
    return losses


def _cvat(job: _Export) -> Losses:
    path = job.folder / "annotations.xml"
    return write_cvat_video(path, job.tracks, job.video, job.names)


def _label_studio(job: _Export) -> Losses:
    source = job.session.source
    address = job.video.name if source is None else source.name
    path = job.folder / "tasks.json"
    return write_label_studio(path, job.tracks, job.video, job.names, address)


def _losses(names: int = 0, scores: int = 0) -> Losses:
    return Losses({_NAMES: names, _SCORES: scores})


def _regions(job: _Export) -> int:
    return sum(len(frame.tracks) for frame in job.tracks.frames())


EXPORTS: Mapping[str, Callable[[_Export], Losses]] = {
    "youtube-vis": _youtube_vis,
    "coco-video": _coco_video,
    "mots": _mots,
    "cvat": _cvat,
    "label-studio": _label_studio,
}
"""Writers by format."""
