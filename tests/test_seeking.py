"""Seeking gives exactly the frames of sequential decoding."""

import warnings
from itertools import pairwise

import numpy as np
import pytest

from queryinst_vis.video import VideoReader
from queryinst_vis.video.packets import Decoder
from queryinst_vis.video.scan import scan
from queryinst_vis.video.seek import find_start
from tests.moving_clips import CLIPS, FRAMES, copy_stream, random, write_moving

NEVER = {"raw h264", "h264, refreshed bit by bit"}
"""Clips that may always be decoded from the start: without times, or without key frames."""


def read(path, **bounds):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(VideoReader(path, **bounds).frames())


def assert_same(found, expected):
    assert [frame.number for frame in found] == [frame.number for frame in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.seconds == other.seconds
        assert one.is_damaged == other.is_damaged, one.number
        np.testing.assert_array_equal(one.image, other.image, str(one.number))


def check(path):
    """Compare ranges with sequential decoding; returns how many were reached by seeking."""
    whole = read(path)
    scanned = scan(path, allow_partial=True)
    sought = 0
    for first in (1, 23, 24, 37, len(whole) - 1):
        sought += find_start(path, scanned, first) is not None
        end = min(first + 9, len(whole))
        assert_same(read(path, start_frame=first, end_frame=end), whole[first:end])
    start = whole[45].seconds - whole[0].seconds
    assert_same(read(path, start=start, stride=4), whole[45::4])
    assert len(VideoReader(path, start=start)) == len(whole) - 45
    return sought


@pytest.mark.parametrize("clip", CLIPS, indirect=True)
def test_seeking_gives_the_frames_of_sequential_decoding(clip, request):
    name = request.node.callspec.params["clip"]
    assert check(clip) > 1 or name in NEVER


def test_packets_before_the_key_frame_are_not_decoded(tmp_path, monkeypatch):
    path = write_moving(tmp_path / "clip.mp4", g="12", bf="3")
    decoded = []

    def note(decoder, *arguments):
        for number, packet, pictures in run(decoder, *arguments):
            decoded.append(number)
            yield number, packet, pictures

    run = Decoder.run
    reader = VideoReader(path, start_frame=50, end_frame=52)
    monkeypatch.setattr(Decoder, "run", note)
    assert len(list(reader.frames())) == 2
    assert len(decoded) < FRAMES


@pytest.mark.parametrize("clip", ["h264, B-frames", "mpeg4"], indirect=True)
@pytest.mark.parametrize("start", [1.7, 3.1])
def test_seeking_works_in_clips_trimmed_between_key_frames(clip, tmp_path, start):
    trim = copy_stream(clip, tmp_path / "trim.mp4", start)
    whole = read(trim)
    assert len(whole) == FRAMES - round(10 * start)
    for first in (1, 9, 13, len(whole) - 2):
        assert_same(read(trim, start_frame=first), whole[first:])


@pytest.mark.parametrize(
    "clip",
    ["h264, B-frames", "h264, open GOPs", "h264 in MPEG-TS", "h264 in Matroska", "hevc", "mpeg2"],
    indirect=True,
)
@pytest.mark.parametrize("share", [0.4, 0.7])
def test_seeking_in_damaged_videos_equals_sequential_decoding(clip, tmp_path, share):
    data = bytearray(clip.read_bytes())
    at = int(len(data) * share)
    data[at : at + 700] = random.integers(0, 255, 700, dtype=np.uint8).tobytes()
    path = tmp_path / f"damaged{clip.suffix}"
    path.write_bytes(data)
    whole = read(path)
    for first in (13, 25, 30, 37, 50):
        assert_same(read(path, start_frame=first, end_frame=first + 6), whole[first : first + 6])


def test_seeking_works_with_uneven_timestamps(tmp_path):
    path = write_moving(tmp_path / "even.mkv", g="12", bf="0")
    uneven = copy_stream(path, tmp_path / "uneven.mkv", retime=lambda n, t: t + n * n)
    times = [frame.seconds for frame in read(uneven)]
    assert len({round(b - a, 3) for a, b in pairwise(times)}) > 1
    check(uneven)


def test_joined_recordings_are_decoded_from_the_start(tmp_path):
    path = write_moving(tmp_path / "part.ts", g="12", bf="2")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(path.read_bytes() * 2)
    assert find_start(joined, scan(joined), 100) is None
    whole = read(joined)
    assert_same(read(joined, start_frame=100), whole[100:])
    assert len(whole) == 2 * FRAMES
