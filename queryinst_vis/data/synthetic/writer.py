"""Writing synthetic videos to a folder, with annotations and statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track as track_progress

from queryinst_vis.data.convert.youtube_vis import YouTubeVisBuilder, youtube_vis_to_coco
from queryinst_vis.data.synthetic.render import RenderedFrame, render
from queryinst_vis.data.synthetic.scene import Scene, draw_scene
from queryinst_vis.data.synthetic.settings import SyntheticSettings
from queryinst_vis.data.synthetic.shapes import CLASS_NAMES
from queryinst_vis.errors import InputError
from queryinst_vis.files import write_json_atomically
from queryinst_vis.masks import encode_rle

MIN_VISIBLE_PIXELS = 20
"""An object that shows fewer pixels counts as absent from the frame."""

COVERED_SHARE = 0.05
"""An object counts as partly covered when others hide this share of its pixels in the frame."""

_JPEG_QUALITY = 95
_MAX_DRAWS = 100

VideoWriter = Callable[[Path, Iterable[np.ndarray], float], None]
"""Writes (H, W, 3) uint8 RGB frames to a path at a number of frames per second."""


@dataclass
class SyntheticStatistics:
    """What the videos contain, counted while they are written.

    An object-frame is one object in one frame that shows it.
    """

    videos: int
    frames: int
    width: int
    height: int
    objects_per_class: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLASS_NAMES, 0))
    objects_per_video: list[int] = field(default_factory=list)
    object_frames: int = 0
    covered_object_frames: int = 0
    entries: int = 0
    exits: int = 0
    total_area: int = 0

    @property
    def covered_share(self) -> float:
        """Share of the object-frames in which another object covers part of the object."""
        return self.covered_object_frames / self.object_frames

    @property
    def mean_area(self) -> float:
        """Visible pixels per object-frame."""
        return self.total_area / self.object_frames

    def count(self, scene: Scene, visible: np.ndarray, extent: np.ndarray) -> None:
        """Add one video, from ``(T, N)`` visible pixels and pixels ignoring the others."""
        shown = visible >= MIN_VISIBLE_PIXELS
        for shape in scene.objects:
            self.objects_per_class[CLASS_NAMES[shape.label]] += 1
        self.objects_per_video.append(len(scene.objects))
        self.object_frames += int(shown.sum())
        self.covered_object_frames += int((shown & (visible <= (1 - COVERED_SHARE) * extent)).sum())
        self.entries += int((~shown[0]).sum())
        self.exits += int((~shown[-1]).sum())
        self.total_area += int(visible[shown].sum())

    def __str__(self) -> str:
        classes = ", ".join(f"{name} {count}" for name, count in self.objects_per_class.items())
        return "\n".join(
            [
                f"videos              {self.videos} of {self.frames} frames, "
                f"{self.width}x{self.height} pixels",
                f"objects             {sum(self.objects_per_video)} ({classes})",
                f"objects per video   {min(self.objects_per_video)} to "
                f"{max(self.objects_per_video)}",
                f"object-frames       {self.object_frames}, {self.covered_share:.1%} partly "
                "covered by another object",
                f"entries, exits      {self.entries}, {self.exits}",
                f"mean visible area   {self.mean_area:.0f} pixels",
            ]
        )


def generate(
    dst: str | Path,
    settings: SyntheticSettings,
    seed: int,
    write_video: VideoWriter | None = None,
) -> SyntheticStatistics:
    """Write synthetic videos with exact instance masks.

    ``dst`` gets ``frames/VIDEO/00000.jpg`` (JPEG, quality 95), ``youtube_vis.json`` and
    ``coco.json`` (the same frames as images; file names relative to ``frames``) and, with
    ``write_video``, ``videos/VIDEO.mp4``. The JSON files come last: a folder that has them
    is complete. Video n depends on the seed and n alone.

    Args:
        dst: a folder that does not exist or is empty.
        settings: what to draw.
        seed: the same seed writes the same bytes.
        write_video: writes one video file; None for frames only.

    Raises:
        InputError: ``dst`` is not empty or not writable, a negative seed, or settings under
            which objects cannot be seen.
    """
    dst = Path(dst)
    if seed < 0:
        raise InputError(f"synthetic data: seed {seed} is negative; use 0 or more")
    _make_empty_folder(dst)
    builder = YouTubeVisBuilder(CLASS_NAMES, f"Synthetic moving shapes, seed {seed}")
    statistics = SyntheticStatistics(
        settings.videos, settings.frames, settings.width, settings.height
    )
    progress = track_progress(
        range(settings.videos), "synthetic videos", console=Console(stderr=True), transient=True
    )
    for number in progress:
        name = f"{number:04d}"
        scene, frames = _draw_visible_scene(settings, np.random.default_rng([seed, number]))
        images = [frame.image for frame in frames]
        file_names = [f"{name}/{index:05d}.jpg" for index in range(len(frames))]
        _write_frames(dst / "frames", file_names, images)
        if write_video is not None:
            (dst / "videos").mkdir(exist_ok=True)
            write_video(dst / "videos" / f"{name}.mp4", images, settings.fps)
        builder.add_video(file_names, settings.height, settings.width)
        _add_tracks(builder, scene, frames)
        statistics.count(
            scene, _visible_pixels(scene, frames), np.stack([f.extent for f in frames])
        )
    video_set = builder.as_json()
    write_json_atomically(dst / "coco.json", youtube_vis_to_coco(video_set))
    write_json_atomically(dst / "youtube_vis.json", video_set)
    return statistics


def _make_empty_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        occupied = any(folder.iterdir())
    except OSError as error:
        raise InputError(f"cannot write to folder {folder}: {error.strerror}") from error
    if occupied:
        raise InputError(f"folder {folder} is not empty; name a new one or empty it first")


def _draw_visible_scene(
    settings: SyntheticSettings, rng: np.random.Generator
) -> tuple[Scene, list[RenderedFrame]]:
    """A scene all of whose objects are seen at some time, so that none is without a track."""
    for _ in range(_MAX_DRAWS):
        scene = draw_scene(settings, rng)
        frames = list(render(scene, settings.frames, settings.height, settings.width))
        if (_visible_pixels(scene, frames).max(axis=0) >= MIN_VISIBLE_PIXELS).all():
            return scene, frames
    raise InputError(
        f"synthetic data: {settings.min_objects} to {settings.max_objects} objects cannot all be "
        f"seen in {settings.width}x{settings.height} pixels; ask for fewer or larger frames"
    )


def _visible_pixels(scene: Scene, frames: list[RenderedFrame]) -> np.ndarray:
    """``(T, N)`` pixels that each frame shows of each object."""
    count = len(scene.objects)
    return np.stack([np.bincount(f.owner.ravel() + 1, minlength=count + 1)[1:] for f in frames])


def _add_tracks(builder: YouTubeVisBuilder, scene: Scene, frames: list[RenderedFrame]) -> None:
    shown = _visible_pixels(scene, frames) >= MIN_VISIBLE_PIXELS
    for index, shape in enumerate(scene.objects):
        rles = [
            encode_rle(frame.owner == index) if present else None
            for frame, present in zip(frames, shown[:, index], strict=True)
        ]
        builder.add_track(shape.label, rles)


def _write_frames(root: Path, file_names: list[str], images: list[np.ndarray]) -> None:
    for file_name, image in zip(file_names, images, strict=True):
        path = root / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded = cv2.imencode(
            ".jpg",
            cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
        )[1]
        try:
            path.write_bytes(encoded.tobytes())
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
