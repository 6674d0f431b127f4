"""Random access gives the same frames as sequential reading."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from queryinst_vis.errors import InputWarning
from queryinst_vis.video import VideoReader, random_access
from queryinst_vis.video.source import open_source
from tests.clips import frame_of, index_of, write_video
from tests.moving_clips import CLIPS


def check(path, order):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        reader = VideoReader(path)
        expected = list(reader)
    frames = reader.random_access()
    for number in order(len(expected)):
        np.testing.assert_array_equal(frames.read(number), expected[number], err_msg=str(number))
    frames.close()


def any_order(length):
    """Jumps, each followed by a few steps forwards and backwards."""
    rng = np.random.default_rng(3)
    for start in rng.integers(0, length, 8):
        yield from (np.clip(start + step, 0, length - 1) for step in (0, 1, 2, 1, 0, -1, -2, 5))


@pytest.mark.parametrize("clip", CLIPS, indirect=True)
def test_random_access_gives_the_frames_of_sequential_reading(clip, monkeypatch):
    check(clip, any_order)
    monkeypatch.setattr(random_access, "CACHE_BYTES", 0)  # two frames: nothing is remembered
    check(clip, any_order)


def test_random_access_to_damaged_frames_equals_sequential_reading(tmp_path):
    path = write_video(tmp_path / "clip.mp4", frames=40)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + len(data) // 3
    data[start : start + 40] = b"\xa5" * 40
    path.write_bytes(data)
    check(path, lambda length: range(length))


def test_a_frame_number_out_of_range_is_an_error(tmp_path):
    frames = VideoReader(write_video(tmp_path / "clip.mp4", frames=5)).random_access()
    for number in (-1, 5):
        with pytest.raises(IndexError, match=f"frame {number} of 5"):
            frames.read(number)


def test_files_and_images_are_read_through_their_source(tmp_path):
    from PIL import Image

    video = open_source(write_video(tmp_path / "clip.mp4", frames=12)).random_access()
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(12):
        Image.fromarray(frame_of(index)).save(folder / f"{index}.png")
    images = open_source(folder).random_access()
    for source in (video, images):
        assert [index_of(source.read(number)) for number in (7, 2, 11)] == [7, 2, 11]
        assert len(source) == 12


def test_an_unreadable_image_shows_the_previous_one(tmp_path):
    from PIL import Image

    for index in range(4):
        Image.fromarray(frame_of(index)).save(tmp_path / f"{index}.png")
    images = open_source(tmp_path).random_access()
    (tmp_path / "2.png").write_bytes(b"no picture")
    assert [index_of(images.read(number)) for number in (3, 2, 1)] == [3, 1, 1]
