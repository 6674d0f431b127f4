"""Input of ``review_server``: a long synthetic video and its tracks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import av
import numpy as np

from queryinst_vis.formats.track_lines import write_track_lines
from queryinst_vis.formats.track_store import TrackStore, VideoInfo
from queryinst_vis.masks import RLE, encode_region
from queryinst_vis.utils.files import atomic_path
from queryinst_vis.utils.progress import show_progress

WIDTH, HEIGHT, FPS = 1280, 720, 25
MINUTE = 60 * FPS
KEY_FRAMES = 2 * FPS

_SHAPES = 35  # different ellipses
_PERIOD = 250  # frames per orbit of an ellipse


def write_video(path: Path, minutes: int) -> None:
    """A minute of H.264 with a key frame every two seconds, repeated by stream copy."""
    minute = path.with_name("minute.mp4")
    if not minute.exists():
        _encode_minute(minute)
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as out:
        stream = None
        for repeat in range(minutes):
            with av.open(str(minute)) as container:
                source = container.streams.video[0]
                stream = stream or out.add_stream_from_template(source)
                shift = round(repeat * 60 / source.time_base)
                for packet in container.demux(source):
                    if packet.dts is None:
                        continue
                    packet.pts += shift
                    packet.dts += shift
                    packet.stream = stream
                    out.mux(packet)


def _encode_minute(path: Path) -> None:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 255, (90, 160, 3), dtype=np.uint8)
    scene = blocks.repeat(16, 0).repeat(16, 1)
    scene = np.clip(scene + rng.normal(0, 12, scene.shape), 0, 255).astype(np.uint8)
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as out:
        options = {"preset": "veryfast", "crf": "24"}
        stream = out.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = KEY_FRAMES
        for index in show_progress(range(MINUTE), "Encoding a minute"):
            phase = 2 * math.pi * index / MINUTE
            x, y = (round(320 * (1 + math.sin(n * phase))) for n in (3, 2))
            image = np.ascontiguousarray(scene[y : y + HEIGHT, x : x + WIDTH])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))


def write_tracks(path: Path, minutes: int, tracks: int) -> None:
    """Write tracks of moving ellipses, each present for a part of the video."""
    length = minutes * MINUTE
    with TrackStore() as store:
        for index in show_progress(range(length), "Writing tracks"):
            instances = list(_instances(index, length, tracks))
            store.add(
                (HEIGHT, WIDTH),
                [track for track, _, _ in instances],
                [0.9] * len(instances),
                [track % 2 for track, _, _ in instances],
                [box for _, box, _ in instances],
                [rle for _, _, rle in instances],
                index / FPS,
            )
        write_track_lines(path, store, VideoInfo("hour", FPS, ["person", "dog"]))


def _instances(index: int, length: int, tracks: int) -> Iterator[tuple[int, list[int], RLE]]:
    """``(track, box, mask)`` of each instance in a frame."""
    duration = max(1, 8 * length // tracks)  # in frames: about eight tracks at a time
    for track in range(tracks):
        age = index - track * (length - duration) // max(1, tracks - 1)
        if 0 <= age < duration:
            yield track, *_ellipse(track % _SHAPES, age % _PERIOD)


@cache
def _ellipse(shape: int, age: int) -> tuple[list[int], RLE]:
    """The box and mask of an ellipse that orbits the frame centre in ``_PERIOD`` frames."""
    a, b = 30 + 5 * (shape % 7), 60 + 9 * (shape % 5)
    phase = 2 * math.pi * age / _PERIOD
    x = round((WIDTH - 2 * a - 2) * (0.5 + 0.5 * math.sin(shape + phase)))
    y = round((HEIGHT - 2 * b - 2) * (0.5 + 0.5 * math.cos(2 * shape + phase)))
    rows, columns = np.ogrid[-b : b + 1, -a : a + 1]
    region = (rows / b) ** 2 + (columns / a) ** 2 <= 1
    return [x, y, x + 2 * a + 1, y + 2 * b + 1], encode_region(region, x, y, (HEIGHT, WIDTH))
