"""Writing synthetic videos to a folder, with annotations and statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from queryinst_vis.data.convert.builder import (
    LabelledTrack,
    LabelledVideo,
    build_video_set,
    write_both,
)
from queryinst_vis.data.convert.images import write_jpeg
from queryinst_vis.data.synthetic.render import MIN_VISIBLE_PIXELS, render
from queryinst_vis.data.synthetic.scene import Scene, draw_scene
from queryinst_vis.data.synthetic.settings import SyntheticSettings
from queryinst_vis.data.synthetic.shapes import CLASS_NAMES
from queryinst_vis.data.synthetic.statistics import SyntheticStatistics
from queryinst_vis.errors import InputError
from queryinst_vis.masks import RLE
from queryinst_vis.utils.files import new_folder
from queryinst_vis.utils.progress import show_progress

_MAX_DRAWS = 20

VideoWriter = Callable[[Path, Iterable[np.ndarray], float], None]
"""Writes (H, W, 3) uint8 RGB frames to a path, at a frame rate in frames per second."""


def generate(
    dst: str | Path,
    settings: SyntheticSettings,
    seed: int,
    write_video: VideoWriter | None = None,
) -> SyntheticStatistics:
    """Write synthetic videos with exact instance masks.

    Writes ``frames/VIDEO/00000.jpg`` (JPEG, quality 95), ``youtube_vis.json`` and ``coco.json``
    (the same frames as images) with file names relative to ``frames``, and with ``write_video``
    ``videos/VIDEO.mp4``. The JSON files are written last, so a folder that contains them is
    complete. After an error, the folder is empty. Video n depends only on the settings, the seed
    and n.

    Args:
        dst: folder to write, new or empty.
        settings: distribution of the videos.
        seed: random seed, not negative; the output is deterministic.
        write_video: writes one video file and creates its folder; None: only frames.

    Raises:
        InputError: ``dst`` is not empty or not writable, the seed is negative, or the settings do
            not allow all objects to be visible.
    """
    if seed < 0:
        raise InputError(f"synthetic data: seed {seed} is negative; use 0 or more")
    videos: list[LabelledVideo] = []
    statistics = SyntheticStatistics(
        settings.videos, settings.frames, settings.width, settings.height
    )
    with new_folder(dst) as folder:
        for number in show_progress(range(settings.videos), "Rendering videos"):
            name = f"{number:04d}"
            file_names = [f"{name}/{index:05d}.jpg" for index in range(settings.frames)]
            paths = [folder / "frames" / file_name for file_name in file_names]
            rng = np.random.default_rng([seed, number])
            scene, rles = _write_frames(paths, settings, rng, statistics)
            tracks = [
                LabelledTrack(CLASS_NAMES[shape.label], masks)
                for shape, masks in zip(scene.objects, rles, strict=True)
            ]
            videos.append(LabelledVideo(file_names, settings.height, settings.width, tracks))
            if write_video is not None:
                frames = render(scene, settings.frames, settings.height, settings.width)
                images = (frame.image for frame in frames)
                write_video(folder / "videos" / f"{name}.mp4", images, settings.fps)
        description = f"Synthetic moving shapes, seed {seed}"
        write_both(folder, build_video_set(videos, description, CLASS_NAMES))
    return statistics


def _write_frames(
    paths: list[Path],
    settings: SyntheticSettings,
    rng: np.random.Generator,
    statistics: SyntheticStatistics,
) -> tuple[Scene, list[list[RLE | None]]]:
    """Render and write the frames of a video, and update the statistics.

    If an object is never visible, and thus has no track, the scene is replaced by a new one.

    Returns:
        The scene, and RLEs by object and frame.
    """
    for _ in range(_MAX_DRAWS):
        scene = draw_scene(settings, rng)
        visible, extent, rles = [], [], []
        frames = render(scene, settings.frames, settings.height, settings.width)
        for path, frame in zip(paths, frames, strict=True):
            write_jpeg(path, frame.image)
            visible.append(frame.visible)
            extent.append(frame.extent)
            rles.append(frame.rles())
        if (np.max(visible, axis=0) >= MIN_VISIBLE_PIXELS).all():
            labels = [shape.label for shape in scene.objects]
            statistics.count(labels, np.stack(visible), np.stack(extent))
            return scene, [list(track) for track in zip(*rles, strict=True)]
    raise InputError(
        f"synthetic data: {settings.min_objects} to {settings.max_objects} objects cannot all be "
        f"visible in {settings.width}x{settings.height} pixels; use fewer objects or larger frames"
    )
