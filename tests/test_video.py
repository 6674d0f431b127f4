"""Video files: frames go in and come out again, and bad files are told from good ones."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from queryinst_vis.errors import InputError
from queryinst_vis.video import VideoReader, VideoWriter

HEIGHT, WIDTH = 48, 64


def frame_of(index, height=HEIGHT, width=WIDTH):
    """Flat grey that says which frame it is, and a red corner that says which way up."""
    frame = np.full((height, width, 3), 40 + 3 * index, dtype=np.uint8)
    frame[: height // 3, : width // 3] = (220, 20, 20)
    return frame


def index_of(frame):
    """The frame number that ``frame_of`` hid in the grey."""
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


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4")


# Reading


def test_a_reader_knows_length_rate_and_size(video):
    reader = VideoReader(video)
    assert (len(reader), reader.fps, reader.height, reader.width) == (20, 10.0, HEIGHT, WIDTH)


def test_frames_come_in_order_as_rgb(video):
    frames = list(VideoReader(video))
    assert [index_of(frame) for frame in frames] == list(range(20))
    assert all(f.shape == (HEIGHT, WIDTH, 3) and f.dtype == np.uint8 for f in frames)
    red, green, blue = frames[0][:10, :10].reshape(-1, 3).mean(axis=0)
    assert red > 200 and green < 50 and blue < 50


def test_every_iteration_starts_at_the_first_frame(video):
    reader = VideoReader(video)
    assert index_of(next(iter(reader))) == 0
    assert [index_of(frame) for frame in reader] == list(range(20))


def test_two_iterations_do_not_disturb_each_other(video):
    reader = VideoReader(video)
    pairs = zip(reader, reader, strict=True)
    assert [(index_of(a), index_of(b)) for a, b in pairs] == [(i, i) for i in range(20)]


def test_frames_are_the_callers_own(video):
    first, second = list(VideoReader(video, max_frames=2))
    first[:] = 0
    assert index_of(second) == 1


@pytest.mark.parametrize(
    ("stride", "max_frames", "expected"),
    [
        (1, None, list(range(20))),
        (3, None, [0, 3, 6, 9, 12, 15, 18]),
        (1, 4, [0, 1, 2, 3]),
        (3, 4, [0, 3, 6, 9]),
        (3, 100, [0, 3, 6, 9, 12, 15, 18]),
        (20, None, [0]),
        (100, None, [0]),
    ],
)
def test_stride_and_max_frames(video, stride, max_frames, expected):
    reader = VideoReader(video, stride, max_frames)
    assert [index_of(frame) for frame in reader] == expected
    assert len(reader) == len(expected)


def test_a_stride_lowers_the_rate_so_that_the_speed_stays(video):
    assert VideoReader(video, stride=4).fps == 2.5


@pytest.mark.parametrize("name", ["stride", "max_frames"])
def test_stride_and_max_frames_below_one_are_refused(video, name):
    with pytest.raises(InputError, match=f"clip.mp4: {name} must be 1 or more, got 0"):
        VideoReader(video, **{name: 0})


def test_matroska_without_a_frame_count_in_its_header_is_counted(tmp_path):
    reader = VideoReader(write_with_pyav(tmp_path / "clip.mkv"))
    assert len(reader) == 20
    assert [index_of(frame) for frame in reader] == list(range(20))


def test_a_broadcast_that_was_joined_midway_starts_at_its_first_key_frame(tmp_path):
    path = write_with_pyav(tmp_path / "clip.ts", frames=20, g="10", bf="0")
    starts = [packet.pos for packet in av.open(str(path)).demux(video=0) if packet.is_keyframe]
    data = path.read_bytes()
    path.write_bytes(data[starts[1] // 2 // 188 * 188 :])  # within the first ten frames
    reader = VideoReader(path)
    assert [index_of(frame) for frame in reader] == list(range(10, 20))
    assert len(reader) == 10


def test_a_trimmed_mp4_is_not_taken_for_a_cut_one(tmp_path):
    """Phones trim by an edit list; the frames beyond it leave the index, not the header's count."""
    path = write_with_pyav(tmp_path / "clip.mp4", frames=20, g="5", bf="0")
    data = bytearray(path.read_bytes())
    duration = data.index(b"elst") + 12  # of the only edit (ISO 14496-12, 8.6.6)
    data[duration : duration + 4] = (500).to_bytes(4, "big")  # milliseconds, of 2000
    path.write_bytes(data)
    assert av.open(str(path)).streams.video[0].frames == 20
    reader = VideoReader(path)
    assert [index_of(frame) for frame in reader] == [0, 1, 2, 3, 4]
    assert len(reader) == 5


# (a, b, c, d) of the display matrix, where the red corner of the stored picture then shows
@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((1, 0, 0, 1), (0, 0)),
        ((0, 1, -1, 0), (0, -1)),  # a quarter turn clockwise: top right
        ((-1, 0, 0, -1), (-1, -1)),
        ((0, -1, 1, 0), (-1, 0)),
    ],
)
def test_frames_are_turned_as_phones_ask_for(video, tmp_path, matrix, corner):
    reader = VideoReader(_with_display_matrix(video, tmp_path / "turned.mp4", matrix))
    frames = list(reader)
    sideways = matrix[0] == 0
    assert (reader.height, reader.width) == ((WIDTH, HEIGHT) if sideways else (HEIGHT, WIDTH))
    assert {frame.shape for frame in frames} == {(reader.height, reader.width, 3)}
    red, green, blue = (int(channel) for channel in frames[0][corner])
    assert red > 200 and green < 50 and blue < 50
    assert frames[0].flags.c_contiguous


def _with_display_matrix(source, target, matrix):
    """Copy an mp4 with another matrix in its track header (ISO 14496-12, 8.3.2)."""
    data = bytearray(source.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (entry << 16 for entry in matrix)
    values = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    data[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    target.write_bytes(data)
    return target


def test_a_colon_in_the_name_is_no_protocol(video, tmp_path, monkeypatch):
    (tmp_path / "take:2.mp4").write_bytes(video.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert len(VideoReader("take:2.mp4")) == 20


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    """In a process of its own, whose peak nothing else has raised; 300 frames are 415 MB."""
    path = tmp_path / "long.mp4"
    frame = np.zeros((576, 800, 3), dtype=np.uint8)
    with VideoWriter(path, 30) as writer:
        for index in range(300):
            frame[:, index : index + 100] = index % 256
            writer.write(frame)
    script = (
        "import resource, sys, time\n"
        "from queryinst_vis.video import VideoReader\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "for number, frame in enumerate(VideoReader(sys.argv[1])):\n"
        "    time.sleep(0.001)\n"
        "    before = peak() if number == 30 else (before if number > 30 else 0)\n"
        "print(number + 1, peak() - before)\n"
    )
    frames, megabytes = map(int, run_script(script, path).split())
    assert frames == 300
    assert megabytes < 60


# Files that are no good


def _refused(path):
    """The one line with which a reader refuses a file, on opening or on the way."""
    with pytest.raises(InputError) as caught:
        for _ in VideoReader(path):
            pass
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_a_missing_file(tmp_path):
    assert _refused(tmp_path / "none.mp4").endswith("none.mp4: no such file")


def test_a_folder(tmp_path):
    assert "is a folder, not a video" in _refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello world\n" * 50], ids=["empty", "text"])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "notes.txt"])
def test_a_file_that_is_no_video(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert "video" in _refused(path)


def test_a_file_with_sound_only(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        sound.rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    assert "holds no picture" in _refused(path)


def test_an_mp4_that_was_cut_in_half(tmp_path):
    """Ours have their index in front, as downloads do: they open, but half of it is missing."""
    path = write_noise(tmp_path / "clip.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "cut off or damaged: its header promises 40 frames" in _refused(path)


def test_an_mp4_that_lost_its_index_at_the_end(tmp_path):
    path = write_with_pyav(tmp_path / "clip.mp4")  # recorders write the index last
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "copy or download it again" in _refused(path)


def test_an_avi_that_was_cut_in_half(tmp_path):
    path = write_with_pyav(tmp_path / "clip.avi", frames=60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    _refused(path)


def test_a_file_that_breaks_midway_says_after_which_frame(tmp_path):
    path = write_noise(tmp_path / "clip.mp4")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8000] = b"\xff" * 8000
    path.write_bytes(data)
    reader = VideoReader(path)
    shown = 0
    with pytest.raises(InputError, match=r"clip.mp4: damaged after frame \d+ of 40") as caught:
        for _ in reader:
            shown += 1
    assert 0 < shown < 40
    assert f"after frame {shown} of" in str(caught.value)


def test_a_damaged_file_leaves_no_noise_on_the_terminal(tmp_path, capfd):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"\x00\x00\x00\x20ftypisom" + b"\x17" * 4000)
    _refused(path)
    assert capfd.readouterr() == ("", "")


# Writing


def test_written_videos_are_h264_that_plays_everywhere(video):
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.frames == 20
    data = video.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays while it loads


def test_colours_survive(tmp_path):
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


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"yesterday's")
    with pytest.raises(RuntimeError, match="the tracker stumbled"), VideoWriter(path, 10) as writer:
        writer.write(frame_of(0))
        raise RuntimeError("the tracker stumbled")
    assert path.read_bytes() == b"yesterday's"
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_a_video_without_frames_is_an_error(tmp_path):
    path = tmp_path / "clip.mp4"
    with pytest.raises(InputError, match=r"clip.mp4: no frame was given"), VideoWriter(path, 10):
        assert os.listdir(tmp_path)  # the temporary file
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("limit", "frames"), [(100_000, 100), (4_000, 1)])
def test_a_full_disk(tmp_path, limit, frames):
    """While encoding or only at the end; a limit on the size of files stands in for the disk."""
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


def test_a_folder_that_cannot_be_made(tmp_path):
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
        (np.zeros((HEIGHT, 32, 3), np.uint8), r"frame of shape \(48, 32, 3\) in a video of"),
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
def test_real_videos(name, frames, fps, size, tmp_path):
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
    _refused(half)
