"""Writing videos: playable everywhere, and atomic."""

import os
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import numpy as np
import pytest

from queryinst_vis.errors import InputError
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.inference.outputs import OutputPlan
from queryinst_vis.video import VideoReader, VideoWriter, encoders
from queryinst_vis.video.encoders import ENCODERS, find_encoder
from queryinst_vis.video.source import open_source
from tests.clips import HEIGHT, WIDTH, frame_of, index_of, run_script, write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4")


def test_videos_are_written_as_widely_playable_h264(video):
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.frames == 20
    data = video.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays while it loads


def test_colours_round_trip(tmp_path):
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (240, 240, 240), (10, 10, 10)]
    with VideoWriter(tmp_path / "colours.mp4", 5) as writer:
        for colour in colours:
            writer.write(np.full((HEIGHT, WIDTH, 3), colour, dtype=np.uint8))
    found = [frame.reshape(-1, 3).mean(axis=0) for frame in VideoReader(tmp_path / "colours.mp4")]
    np.testing.assert_allclose(found, colours, atol=6)


@pytest.mark.parametrize(
    ("rate", "exact"),
    [
        (25, Fraction(25)),
        (12.5, Fraction(25, 2)),
        (29.97002997002997, Fraction(30000, 1001)),
        (30000 / 1001 / 5, Fraction(6000, 1001)),
        (Fraction(24000, 1001), Fraction(24000, 1001)),
        (1 / 3, Fraction(1, 3)),
    ],
)
def test_frame_rates_are_exact(tmp_path, rate, exact):
    path = write_video(tmp_path / "clip.mp4", frames=5, fps=rate)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == exact


def test_frames_are_shown_at_their_timestamps(tmp_path):
    seconds = [0.0, 0.1, 0.15, 0.15, 0.9, 2.0]
    path = tmp_path / "live.mp4"
    with VideoWriter(path, fps=None) as writer:
        for index, second in enumerate(seconds):
            writer.write(frame_of(index), second)
    with av.open(str(path)) as container:
        shown = [frame.time for frame in container.decode(video=0)]
    assert shown == pytest.approx(seconds, abs=1e-4)
    assert shown == sorted(set(shown))  # two frames never share a timestamp
    assert [index_of(frame) for frame in VideoReader(path)] == list(range(6))
    assert b"moof" in path.read_bytes()  # in fragments, each with an index of its own


@pytest.mark.parametrize(("fps", "seconds"), [(10, 0.0), (None, None)])
def test_timestamps_are_required_exactly_without_a_frame_rate(tmp_path, fps, seconds):
    with (
        pytest.raises(ValueError, match="fps"),
        VideoWriter(tmp_path / "clip.mp4", fps) as writer,
    ):
        writer.write(frame_of(0), seconds)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("height", "width", "padded"),
    [(47, 64, (48, 64)), (48, 63, (48, 64)), (47, 63, (48, 64)), (1, 1, (2, 2))],
)
def test_odd_sides_repeat_the_last_row_or_column(tmp_path, height, width, padded):
    frame = np.zeros((height, width, 3), dtype=np.uint8)
    frame[-1], frame[:, -1] = 255, 255
    with VideoWriter(tmp_path / "odd.mp4", 10, crf=1) as writer:
        writer.write(frame)
    [read] = VideoReader(tmp_path / "odd.mp4")
    rows, columns = padded[0] - height, padded[1] - width
    expected = np.pad(frame, ((0, rows), (0, columns), (0, 0)), mode="edge")
    np.testing.assert_allclose(read.astype(int), expected, atol=12)


def test_a_view_of_a_larger_array_can_be_written(tmp_path):
    wide = np.concatenate([frame_of(3), frame_of(9)], axis=1)
    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        writer.write(wide[:, WIDTH:])
        writer.write(wide[:, :WIDTH][::1, ::1])
    assert [index_of(frame) for frame in VideoReader(tmp_path / "clip.mp4")] == [9, 3]


def test_missing_folders_are_made(tmp_path):
    assert write_video(tmp_path / "a" / "b" / "clip.mp4", 2).is_file()


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"yesterday's")
    with pytest.raises(RuntimeError, match="the tracker stumbled"), VideoWriter(path, 10) as writer:
        writer.write(frame_of(0))
        raise RuntimeError("the tracker stumbled")
    assert path.read_bytes() == b"yesterday's"
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_a_video_without_frames_is_an_error(tmp_path):
    path = tmp_path / "clip.mp4"
    with pytest.raises(InputError, match=r"clip\.mp4: .*no frames"), VideoWriter(path, 10):
        assert os.listdir(tmp_path)  # the temporary file
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("limit", "frames"), [(100_000, 100), (4_000, 1)])
def test_a_full_disk_leaves_no_video_and_ends_in_one_line(tmp_path, limit, frames):
    """While encoding or at the end; a file size limit stands in for the disk."""
    script = (
        "import resource, sys, numpy as np\n"
        "from queryinst_vis.errors import InputError\n"
        "from queryinst_vis.video import VideoWriter\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "noise = np.random.default_rng(0)\n"
        "try:\n"
        "    with VideoWriter(sys.argv[1], 10) as writer:\n"
        f"        for _ in range({frames}):\n"
        "            writer.write(noise.integers(0, 255, (96, 128, 3), dtype=np.uint8))\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    path = tmp_path / "clip.mp4"
    assert run_script(script, path).strip() == f"cannot write {path}: File too large"
    assert os.listdir(tmp_path) == []


def test_an_output_folder_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "clip.mp4"
    with pytest.raises(InputError, match=r"cannot write .*clip.mp4"):
        write_video(path, 1)


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (np.zeros((HEIGHT, WIDTH), np.uint8), r"expected \(H, W, 3\) uint8 RGB, got \(48, 64\)"),
        (np.zeros((HEIGHT, WIDTH, 4), np.uint8), r"got \(48, 64, 4\) uint8"),
        (np.zeros((HEIGHT, WIDTH, 3), np.float32), "float32"),
        (np.zeros((HEIGHT, 32, 3), np.uint8), "frame of 32x48 pixels in a video of 64x48"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(tmp_path, frame, complaint):
    with (
        pytest.raises(ValueError, match=complaint),
        VideoWriter(tmp_path / "clip.mp4", 10) as writer,
    ):
        writer.write(frame_of(0))
        writer.write(frame)
    assert os.listdir(tmp_path) == []


# Encoders


def test_colour_metadata_is_written(video):
    with av.open(str(video)) as container:
        context = container.streams.video[0].codec_context
        assert context.color_primaries == context.color_trc == context.colorspace == 1  # BT.709
        assert context.color_range == 1  # limited


def test_x264_is_always_available_and_unknown_encoders_are_refused():
    assert find_encoder("libx264") == "libx264"
    with pytest.raises(InputError, match=r"'x265': .*auto, libx264"):
        find_encoder("x265")


def test_an_encoder_that_the_build_lacks_is_refused(monkeypatch):
    monkeypatch.setitem(ENCODERS, "h264_none", ENCODERS["libx264"])
    with pytest.raises(InputError, match=r"h264_none: .*FFmpeg"):
        find_encoder("h264_none")


def test_an_encoder_whose_hardware_is_missing_is_refused(monkeypatch):
    options = ENCODERS["libx264"]._replace(pixel_format="rgb24")  # which x264 does not take
    monkeypatch.setitem(ENCODERS, "libx264", options)
    with pytest.raises(InputError, match=r"libx264: .*\(Inv"):
        find_encoder("libx264")


@pytest.mark.parametrize("works", [True, False])
def test_auto_selects_a_working_hardware_encoder(monkeypatch, works):
    def fault_of(name, size):
        return None if works and name == "h264_amf" and size == (320, 180) else "no such device"

    monkeypatch.setattr(encoders, "fault_of", fault_of)
    assert find_encoder("auto", (320, 180)) == ("h264_amf" if works else "libx264")
    assert find_encoder("auto", (8000, 6000)) == "libx264", "beyond the limits of the hardware"


def test_auto_depends_on_the_size_of_the_video(tmp_path, monkeypatch):
    monkeypatch.setitem(ENCODERS, "h264_amf", ENCODERS["libx264"])  # not in this build, if used
    monkeypatch.setattr(
        encoders,
        "fault_of",
        lambda name, size: None if name == "h264_amf" and size[0] > 200 else "too small",
    )
    with VideoWriter(tmp_path / "clip.mp4", 10, encoder="auto") as writer:
        writer.write(np.zeros((96, 128, 3), np.uint8))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_the_encoder_is_checked_before_any_work_and_only_for_videos(video, tmp_path, monkeypatch):
    monkeypatch.setitem(ENCODERS, "h264_none", ENCODERS["libx264"])
    source = open_source(video)
    with pytest.raises(InputError, match="h264_none"):
        OutputPlan(tmp_path, source, TrackOptions(save=["video"], encoder="h264_none"))
    OutputPlan(tmp_path, source, TrackOptions(save=["json"], encoder="h264_none"))


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "libx264"])
def test_hardware_encoders_write_videos_of_the_same_quality(tmp_path, name):
    try:
        find_encoder(name)
    except InputError as error:
        pytest.skip(str(error))
    frames = [np.full((256, 320, 3), 40 * index, np.uint8) for index in range(6)]
    with VideoWriter(tmp_path / "clip.mp4", 10, encoder=name) as writer:
        for frame in frames:
            writer.write(frame)
    np.testing.assert_allclose(list(VideoReader(tmp_path / "clip.mp4")), frames, atol=6)


def test_frame_conversion_in_another_thread_gives_the_same_video(tmp_path):
    frames = [frame_of(index) for index in range(5)]
    with ThreadPoolExecutor(1) as thread:
        converted = list(thread.map(VideoWriter.convert, frames))
    for frame, other in zip(frames, converted, strict=True):
        np.testing.assert_array_equal(VideoWriter.convert(frame).to_ndarray(), other.to_ndarray())
    for name, written in (("plain", frames), ("converted", converted)):
        with VideoWriter(tmp_path / f"{name}.mp4", 10) as writer:
            for frame in written:
                writer.write(frame)
    # compared as decoded pictures: x264 output may differ between runs
    plain, other = (list(VideoReader(tmp_path / f"{name}.mp4")) for name in ("plain", "converted"))
    np.testing.assert_allclose(np.int16(plain), np.int16(other), atol=8)
