"""Trimmed, truncated, miscounted and joined containers: frames as in a video player."""

import warnings
from fractions import Fraction

import av
import numpy as np
import pytest

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.video import VideoReader, VideoWriter
from tests.clips import frame_of, index_of, refused, write_noise, write_video, write_with_pyav

# Trims


def trimmed(source, target, start, end=None):
    """Give the only track of an mp4 an edit list (ISO 14496-12, 8.6.6), in seconds."""
    data = bytearray(source.read_bytes())
    edit = data.index(b"elst") + 12
    movie_scale = int.from_bytes(data[data.index(b"mvhd") + 16 :][:4], "big")
    media_scale = int.from_bytes(data[data.index(b"mdhd") + 16 :][:4], "big")
    first = int.from_bytes(data[edit + 4 : edit + 8], "big")  # the delay of reordering
    length = int.from_bytes(data[edit : edit + 4], "big")
    if end is not None:
        length = round(end * movie_scale)
    length -= round(start * movie_scale)
    data[edit : edit + 4] = length.to_bytes(4, "big")
    data[edit + 4 : edit + 8] = (first + round(start * media_scale)).to_bytes(4, "big")
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("b_frames", ["0", "3"])
@pytest.mark.parametrize(("start", "end"), [(0.5, None), (0.7, 1.6), (1.0, 1.5), (0.0, 1.3)])
def test_a_trim_between_key_frames_shows_what_players_show(tmp_path, b_frames, start, end):
    whole = write_with_pyav(tmp_path / "whole.mp4", 20, g="10", bf=b_frames)
    path = trimmed(whole, tmp_path / "clip.mp4", start, end)
    expected = list(range(round(10 * start), round(10 * (end or 2.0))))
    with av.open(str(path)) as container:  # FFmpeg's own
        assert len(list(container.decode(video=0))) == len(expected)
    reader = VideoReader(path)
    assert [index_of(frame) for frame in reader] == expected
    assert len(reader) == len(expected) and reader.fps == 10


def test_a_trimmed_copy_starts_where_players_start(tmp_path):
    """``ffmpeg -ss 0.5 -c copy`` keeps the previous key frame, but hidden."""
    whole = write_with_pyav(tmp_path / "whole.mp4", 40, g="30", bf="0")
    path = trimmed(whole, tmp_path / "clip.mp4", 0.5)
    assert [index_of(frame) for frame in VideoReader(path)] == list(range(5, 40))
    assert [frame.number for frame in VideoReader(path, stride=10).frames()] == [0, 10, 20, 30]


# Counts


def write_jpegs(path, frames=20):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(frame_of(index), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def set_avi_length(path, frames):
    """Change what the stream header of an AVI says."""
    data = bytearray(path.read_bytes())
    length = data.index(b"strh") + 8 + 32
    data[length : length + 4] = frames.to_bytes(4, "little")
    path.write_bytes(data)


@pytest.mark.parametrize("more", [1, 5])
def test_an_avi_header_that_counts_too_many_frames_is_corrected(tmp_path, more):
    path = write_jpegs(tmp_path / "clip.avi")
    set_avi_length(path, 20 + more)
    with pytest.warns(InputWarning, match=f"{20 + more} frames.* 20"):
        reader = VideoReader(path)
    assert [index_of(frame) for frame in reader] == list(range(20))
    with pytest.raises(InputError, match="leave out strict"):
        VideoReader(path, strict=True)


def test_an_avi_header_that_counts_too_few_frames_is_corrected(tmp_path):
    path = write_jpegs(tmp_path / "clip.avi")
    set_avi_length(path, 3)
    reader = VideoReader(path)
    assert [index_of(frame) for frame in reader] == list(range(20))


def test_empty_avi_chunks_keep_the_timing(tmp_path):
    """Capture programs write them for dropped frames: no picture, but time advances."""
    path = write_jpegs(tmp_path / "clip.avi")
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    movi, index = data.index(b"movi") + 4, data.index(b"idx1")
    dropped, chunks, entries = (3, 8, 13, 18), b"", b""
    for number, packet in enumerate(packets):
        content = b"" if number in dropped else packet
        entries += b"00dc" + b"".join(
            value.to_bytes(4, "little") for value in (16, 4 + len(chunks), len(content))
        )
        chunks += (
            b"00dc" + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)
        )
    body = data[8 : movi - 8] + (4 + len(chunks)).to_bytes(4, "little") + b"movi" + chunks
    body += b"idx1" + len(entries).to_bytes(4, "little") + entries
    path.write_bytes(b"RIFF" + len(body).to_bytes(4, "little") + body)
    assert index > movi
    with pytest.warns(InputWarning, match=r"20 frames.* 16"):
        reader = VideoReader(path)
    frames = list(reader.frames())
    kept = [number for number in range(20) if number not in dropped]
    assert [index_of(frame.image) for frame in frames] == kept
    assert [frame.number for frame in frames] == list(range(16))
    assert [frame.seconds for frame in frames] == pytest.approx([n / 10 for n in kept])
    assert reader.is_variable and reader.fps == pytest.approx(15 / 1.9)
    assert not any(frame.is_damaged for frame in frames)


# Truncated files

_FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof"


@pytest.mark.parametrize("share", [0.45, 0.6, 0.75, 0.9])
def test_a_truncated_fragmented_mp4_is_read_up_to_the_end(tmp_path, share):
    """As after a power loss of the recorder."""
    path = tmp_path / "clip.mp4"
    noise = np.random.default_rng(0).integers(-20, 20, (48, 64, 3))
    with av.open(str(path), "w", options={"movflags": _FRAGMENTS}) as container:
        stream = container.add_stream(
            "libx264", rate=10, options={"g": "10", "bf": "3", "crf": "2"}
        )
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(40):
            pixels = np.clip(frame_of(index) + np.roll(noise, 9 * index, axis=1), 0, 255)
            pixels[-8:, -8:] = 40 + 3 * index
            frame = av.VideoFrame.from_ndarray(pixels.astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data[: round(share * len(data))])
    with pytest.warns(InputWarning, match="truncated after frame"):
        reader = VideoReader(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        frames = list(reader.frames())
    good = [frame for frame in frames if not frame.is_damaged]
    assert [index_of(frame.image) for frame in good] == [frame.number for frame in good]
    assert 40 * share - 12 < len(good) <= 40 * share + 12


def test_a_fragmented_mp4_that_ends_within_a_header_is_read(tmp_path):
    """FFmpeg alone refuses it."""
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, None) as writer:
        for index in range(600):
            writer.write(frame_of(index % 60), index / 10)
    data = path.read_bytes()
    last = data.rindex(b"moof") - 4
    end = data.index(b"mdat", last) - 4
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(data[: last + round(share * (end - last))])
        with pytest.warns(InputWarning, match="truncated after frame"):
            reader = VideoReader(path)
        frames = list(reader)
        assert 200 < len(frames) < 600
        assert [index_of(frame) for frame in frames] == [n % 60 for n in range(len(frames))]


def test_a_truncated_plain_mp4_is_refused_unless_allowed(tmp_path):
    path = write_noise(tmp_path / "clip.mp4")
    whole = [frame.copy() for frame in VideoReader(path)]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "--allow-partial" in refused(path)
    with pytest.warns(InputWarning, match=r"truncated: .*40 frames"):
        reader = VideoReader(path, allow_partial=True)
    with pytest.warns(InputWarning, match="cannot be decoded"):
        frames = list(reader.frames())
    good = [frame for frame in frames if not frame.is_damaged]
    assert 10 < len(good) < 30
    for frame in good:
        np.testing.assert_array_equal(frame.image, whole[frame.number])


def test_an_mp4_missing_its_last_bytes_is_detected(tmp_path):
    path = write_noise(tmp_path / "clip.mp4")
    path.write_bytes(path.read_bytes()[:-20])
    assert "truncated or damaged" in refused(path)


def test_a_truncated_avi_is_refused_unless_allowed(tmp_path):
    path = write_jpegs(tmp_path / "clip.avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert "truncated or damaged" in refused(path)
    with pytest.warns(InputWarning, match="truncated"):
        frames = list(VideoReader(path, allow_partial=True).frames())
    assert 8 <= len(frames) < 20
    assert [index_of(f.image) for f in frames if not f.is_damaged][:8] == list(range(8))


def test_a_truncated_matroska_file_is_read_with_a_warning(tmp_path):
    path = tmp_path / "clip.mkv"
    write_with_pyav(path, 40, g="5")
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        assert len(list(VideoReader(path))) == 40
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.warns(InputWarning, match="truncated after frame"):
        reader = VideoReader(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        frames = [frame for frame in reader.frames() if not frame.is_damaged]
    assert 10 < len(frames) < 40
    assert [index_of(frame.image) for frame in frames[:-1]] == list(range(len(frames) - 1))


# Rates


def write_times(path, seconds):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, second in enumerate(seconds):
            frame = av.VideoFrame.from_ndarray(frame_of(index), format="rgb24")
            frame.pts, frame.time_base = round(1000 * second), stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_variable_frame_rate_is_reported_as_its_average(tmp_path, name):
    seconds = [*np.arange(10.0), *np.arange(10, 11, 1 / 30)]
    reader = VideoReader(write_times(tmp_path / name, seconds))
    assert reader.is_variable
    assert reader.fps == pytest.approx((len(seconds) - 1) / seconds[-1], rel=0.01)
    frames = list(reader.frames())
    assert [index_of(frame.image) for frame in frames] == list(range(len(seconds)))
    assert [frame.seconds for frame in frames] == pytest.approx(seconds, abs=2e-3)


def test_a_frame_rate_with_gaps_is_reported_as_its_average(tmp_path):
    seconds = [0, 0.04, 0.08, 10, 10.04, 10.08, 60, 60.04]
    reader = VideoReader(write_times(tmp_path / "clip.mkv", seconds))
    assert reader.fps == pytest.approx(7 / 60.04, rel=0.01)
    assert [time for time, _ in reader.timed()] == pytest.approx(seconds, abs=2e-3)


@pytest.mark.parametrize("rate", [25, 30000 / 1001, 59.94, 10])
def test_a_constant_frame_rate_is_exact_despite_rounded_times(tmp_path, rate):
    """Matroska rounds to milliseconds."""
    source = write_video(tmp_path / "clip.mp4", 50, rate)
    path = tmp_path / "clip.mkv"
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = stream
                written.mux(packet)
    for video in (source, path):
        reader = VideoReader(video)
        assert reader.fps == pytest.approx(rate, rel=1e-4) and not reader.is_variable


# Other containers


@pytest.mark.parametrize("name", ["clip.avi", "clip.mkv", "clip.mp4"])
def test_a_title_that_is_not_utf_8_is_accepted(tmp_path, name):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Cafe"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(frame_of(index), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    assert b"Cafe" in data
    path.write_bytes(data.replace(b"Cafe", b"Caf\xe9"))
    assert len(list(VideoReader(path))) == 3


def test_timestamps_continue_across_joined_recordings(tmp_path):
    """The timestamps of the second part restart."""
    parts = [
        write_with_pyav(tmp_path / f"{number}.ts", 20, g="10", bf="3").read_bytes()
        for number in range(2)
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    reader = VideoReader(path)
    frames = list(reader.frames())
    assert [index_of(frame.image) for frame in frames] == [*range(20), *range(20)]
    seconds = np.array([frame.seconds for frame in frames])
    assert (np.diff(seconds) > 0.05).all() and (np.diff(seconds) < 0.2).all()
    assert not any(frame.is_damaged for frame in frames)


def test_reference_only_pictures_are_not_frames(tmp_path):
    """VP8's alternative references are packets of their own."""
    noise = np.random.default_rng(0).integers(0, 60, (48, 64, 3), np.uint8)
    path = tmp_path / "clip.webm"
    options = {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "30", "b": "60000"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(40):
            frame = np.clip(frame_of(index) + np.roll(noise, index, axis=1), 0, 255)
            frame = av.VideoFrame.from_ndarray(frame.astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    reader = VideoReader(path)
    assert len(reader) == len(list(reader)) == 40


def test_packets_without_a_picture_do_not_end_the_video(tmp_path):
    """An empty packet means "no more" to a decoder."""
    source = write_with_pyav(tmp_path / "clip.mp4", 12, g="1")
    data = bytearray(source.read_bytes())
    sizes = data.index(b"stsz") + 16
    fifth = int.from_bytes(data[sizes + 16 : sizes + 20], "big")
    data[sizes + 16 : sizes + 20] = bytes(4)
    sixth = int.from_bytes(data[sizes + 20 : sizes + 24], "big")
    data[sizes + 20 : sizes + 24] = (fifth + sixth).to_bytes(4, "big")  # of both; the first shows
    source.write_bytes(data)
    reader = VideoReader(source)
    seen = [index_of(frame) for frame in reader]
    assert seen[:4] == [0, 1, 2, 3] and seen[-6:] == [6, 7, 8, 9, 10, 11]
