"""Damaged videos: decodable frames keep their number, and the others are reported."""

import re
import warnings
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import pytest

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.video import VideoReader

FRAMES, GOP = 48, 12

# name: (file name, encoder, its options, whether pictures are reordered)
KINDS = {
    "h264": ("clip.mp4", "libx264", {"bf": "0", "x264-params": "scenecut=0"}),
    "h264_reordered": ("clip.mp4", "libx264", {"bf": "3", "x264-params": "scenecut=0"}),
    "h264_mkv": ("clip.mkv", "libx264", {"bf": "3", "x264-params": "scenecut=0"}),
    "h264_ts": ("clip.ts", "libx264", {"bf": "3", "x264-params": "scenecut=0"}),
    "hevc": (
        "clip.mp4",
        "libx265",
        {"x265-params": "log-level=none:bframes=3:scenecut=0:open-gop=0"},
    ),
    "hevc_ts": (
        "clip.ts",
        "libx265",
        {"x265-params": "log-level=none:bframes=3:scenecut=0:open-gop=0"},
    ),
    "mpeg4": ("clip.avi", "mpeg4", {"bf": "0"}),
    "mpeg4_reordered": ("clip.mp4", "mpeg4", {"bf": "2"}),
    "mpeg2_ts": ("clip.ts", "mpeg2video", {"bf": "2"}),
    "vp9": ("clip.webm", "libvpx-vp9", {"lag-in-frames": "0", "deadline": "realtime"}),
    "mjpeg": ("clip.avi", "mjpeg", {}),
}


def numbered(index):
    """A picture with its number as bright blocks, on noise that does not compress."""
    noise = np.random.default_rng(index).integers(90, 160, (96, 128, 3), np.uint8)
    for bit in range(6):
        noise[32:64, 20 * bit : 20 * bit + 16] = 235 if index >> bit & 1 else 20
    return noise


def number_of(image):
    bits = [image[40:56, 20 * bit + 4 : 20 * bit + 12].mean() > 128 for bit in range(6)]
    return sum(1 << bit for bit, is_set in enumerate(bits) if is_set)


@cache
def encoded(kind):
    """``(bytes of the video file, its packets)``, in coding order."""
    name, codec, options = KINDS[kind]
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options={"g": str(GOP), **options})
            stream.width, stream.height = 128, 96
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for index in range(FRAMES):
                picture = av.VideoFrame.from_ndarray(numbered(index), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        with av.open(str(path)) as container:
            packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
        assert len(packets) == FRAMES
        return path.read_bytes(), packets


def write(folder, kind, spoilt=(), start=0):
    """Write a numbered video, with noise from byte ``start`` on in some packets (coding order)."""
    data, packets = encoded(kind)
    path = folder / KINDS[kind][0]
    path.write_bytes(data)
    changes = {packets[number]: _with_noise(packets[number], start) for number in spoilt}
    if changes and path.suffix == ".ts":  # where packets are not in one piece
        _rewrite(path, changes)
        return path
    for packet, noise in changes.items():
        assert data.count(packet) == 1
        data = data.replace(packet, noise)
    path.write_bytes(data)
    return path


def _with_noise(data, start):
    noise = np.random.default_rng(0).integers(0, 256, len(data), np.uint8).tobytes()
    return data[:start] + noise[start:]


def _rewrite(path, changes):
    """Copy a video with the bytes of some packets replaced."""
    copy = path.with_name(f"copy{path.suffix}")
    with av.open(str(path)) as source, av.open(str(copy), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                changed = av.Packet(changes.get(bytes(packet), bytes(packet)))
                changed.pts, changed.dts, changed.time_base = (
                    packet.pts,
                    packet.dts,
                    packet.time_base,
                )
                changed.stream, changed.is_keyframe = stream, packet.is_keyframe
                target.mux(changed)
    copy.replace(path)


def read(reader):
    """``(frames, numbers in the warning, other warnings)`` of an iteration."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frames = list(reader.frames())
    named, others = [], []
    for warning in caught:
        found = re.search(r"damaged: frames? (.*) \(\d+ of \d+\)", str(warning.message))
        if found is None:
            others.append(str(warning.message))
            continue
        for run in found[1].split(", "):
            first, _, last = run.partition("-")
            named.extend(range(int(first), int(last or first) + 1))
    return frames, named, others


def assert_in_place(frames, named, unsure=range(0), count=FRAMES):
    """Frames carry their numbers; those that are damaged show the last good one, or black.

    For ``unsure`` frames the decoder may have concealed the error.
    """
    assert [frame.number for frame in frames] == list(range(count))
    assert [frame.number for frame in frames if frame.is_damaged] == named
    assert set(named) <= set(unsure)
    good = np.zeros_like(frames[0].image)
    for frame in frames:
        if frame.is_damaged:
            np.testing.assert_array_equal(frame.image, good)
        elif frame.number not in unsure:
            assert number_of(frame.image) == frame.number
        good = frame.image
    seconds = [frame.seconds - frames[0].seconds for frame in frames]
    np.testing.assert_allclose(seconds, np.arange(count) / 25, atol=1e-3)


def around(packet):
    """Frames that the packet of that number may be needed for."""
    start = packet // GOP * GOP
    return range(max(0, start - 3), min(start + GOP, FRAMES))


@pytest.mark.parametrize("kind", KINDS)
def test_an_undamaged_video_has_all_its_frames_and_no_warning(tmp_path, kind):
    reader = VideoReader(write(tmp_path, kind))
    assert (len(reader), reader.fps, reader.is_variable) == (FRAMES, 25.0, False)
    frames, named, others = read(reader)
    assert_in_place(frames, named)
    assert (named, others) == ([], [])


@pytest.mark.parametrize("start", [0, 40])
@pytest.mark.parametrize("packet", [0, 17, FRAMES - 1])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_around_a_packet_of_noise_keep_their_places(tmp_path, kind, packet, start):
    if packet == 0 and kind.endswith("ts"):
        pytest.skip("a broadcast begins with the first key frame that can be recognised")
    reader = VideoReader(write(tmp_path, kind, [packet], start))
    assert len(reader) == FRAMES
    frames, named, others = read(reader)
    assert_in_place(frames, named, around(packet))
    assert others == []


def test_concurrent_readers_are_independent(tmp_path):
    path = write(tmp_path, "h264_reordered", [17])
    with pytest.warns(InputWarning, match="damaged"):
        readers = [VideoReader(path).frames() for _ in range(3)]
        for number, frames in enumerate(zip(*readers, strict=True)):
            assert {frame.number for frame in frames} == {number}
            for frame in frames:
                assert frame.is_damaged or number in around(17) or number_of(frame.image) == number
            if number == 30:
                readers[2].close()
                break
        for number, frames in enumerate(zip(*readers[:2], strict=True), start=31):
            assert [number_of(frame.image) for frame in frames] == [number] * 2


def test_strict_refuses_missing_frames_before_anything_is_decoded(tmp_path, monkeypatch):
    path = without_a_picture(write(tmp_path, "mpeg2_ts"), 17)
    frames, named, _ = read(VideoReader(path))
    assert len(named) == 1 and len(frames) == FRAMES
    end = named[0]
    before = VideoReader(path, strict=True, end_frame=end).frames()
    assert [frame.number for frame in before] == list(range(end))
    monkeypatch.setattr("queryinst_vis.video.reader.decode", None)
    with pytest.raises(InputError, match=r"1 of 48 frames .*strict"):
        VideoReader(path, strict=True)


def without_a_picture(path, number):
    """A broadcast that has lost all packets of one picture (ISO 13818-1, 2.4.3)."""
    kept, picture = b"", -1
    data = path.read_bytes()
    for start in range(0, len(data), 188):
        packet = data[start : start + 188]
        is_video = int.from_bytes(packet[1:3], "big") & 0x1FFF == 0x100
        picture += is_video and bool(packet[1] & 0x40)
        if not (is_video and picture == number):
            kept += packet
    path.write_bytes(kept)
    return path
