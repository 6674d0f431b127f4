"""Bad video files are refused in one line."""

import os
from pathlib import Path

import av
import numpy as np
import pytest

from queryinst_vis.video import VideoReader
from tests.clips import refused, write_noise, write_with_pyav


def test_a_missing_video_is_refused(tmp_path):
    assert refused(tmp_path / "none.mp4").endswith("none.mp4: no such file")


def test_a_folder_is_refused_as_a_video(tmp_path):
    assert "is a folder, not a video" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello world\n" * 50], ids=["empty", "text"])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "notes.txt"])
def test_a_file_that_is_no_video_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert "video" in refused(path)


def test_an_audio_file_is_refused(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        sound.rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    assert "contains no video stream" in refused(path)


def test_half_an_mp4_is_refused(tmp_path):
    """With the index in front, as in downloads, the file opens, but half of it is missing."""
    path = write_noise(tmp_path / "clip.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "truncated or damaged: its header specifies 40 frames" in refused(path)


def test_an_mp4_without_its_index_is_refused(tmp_path):
    path = write_with_pyav(tmp_path / "clip.mp4")  # recorders write the index last
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "copy or download it again" in refused(path)


def test_half_an_avi_is_refused(tmp_path):
    path = write_with_pyav(tmp_path / "clip.avi", frames=60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    refused(path)


def test_a_damaged_file_prints_no_decoder_messages(tmp_path, capfd):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"\x00\x00\x00\x20ftypisom" + b"\x17" * 4000)
    refused(path)
    assert capfd.readouterr() == ("", "")


# Real files


@pytest.mark.parametrize(
    ("name", "frames", "fps", "size"),
    [
        ("vtest.avi", 795, 10.0, (576, 768)),
        ("sam2_01_dog.mp4", 289, 30000 / 1001, (720, 1280)),
        ("mmtracking_demo.mp4", 8, 3.0, (1080, 1920)),
        ("intel_car-detection.mp4", 377, 12.5, (432, 768)),
    ],
)
def test_real_videos_have_their_known_length_rate_and_size(name, frames, fps, size, tmp_path):
    root = os.environ.get("QUERYINST_VIS_DATA")
    if root is None:
        pytest.skip("set QUERYINST_VIS_DATA to a folder with videos/ to read real videos")
    path = Path(root) / "videos" / name
    reader = VideoReader(path, stride=7)
    assert (reader.height, reader.width) == size
    assert reader.fps == pytest.approx(fps / 7)
    assert len(VideoReader(path)) == frames
    assert sum(1 for _ in reader) == len(reader) == -(-frames // 7)
    half = tmp_path / name
    half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(half)
