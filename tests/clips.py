"""Test videos whose frames encode their number and orientation."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from queryinst_vis.errors import InputError
from queryinst_vis.video import VideoReader, VideoWriter

HEIGHT, WIDTH = 48, 64


def frame_of(index, height=HEIGHT, width=WIDTH):
    """Flat grey that encodes the frame number, with a red corner that marks the top left."""
    frame = np.full((height, width, 3), 40 + 3 * index, dtype=np.uint8)
    frame[: height // 3, : width // 3] = (220, 20, 20)
    return frame


def index_of(frame):
    """The frame number that ``frame_of`` encoded in the grey."""
    return round((float(frame[-8:, -8:].mean()) - 40) / 3)


def write_video(path, frames=20, fps=10, height=HEIGHT, width=WIDTH):
    with VideoWriter(path, fps) as writer:
        for index in range(frames):
            writer.write(frame_of(index, height, width))
    return path


def write_noise(path, frames=40):
    """A video of many bytes, so that half of its file holds about half of its frames."""
    random = np.random.default_rng(0)
    with VideoWriter(path, 10) as writer:
        for _ in range(frames):
            writer.write(random.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    return path


def write_with_pyav(path, frames=20, format=None, **options):
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(frames):
            picture = av.VideoFrame.from_ndarray(frame_of(index), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def run_script(script, path):
    """What a script with the path as its argument prints, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


def refused(path):
    """The one-line error with which a reader refuses a file, on opening or while reading."""
    with pytest.raises(InputError) as caught:
        for _ in VideoReader(path):
            pass
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def indices(source):
    """Frame numbers of a source whose frames ``frame_of`` drew; pictures and numbers must agree."""
    frames = list(source.frames())
    assert [frame.number for frame in frames] == [index_of(frame.image) for frame in frames]
    return [frame.number for frame in frames]
