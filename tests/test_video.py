"""Reading videos: every frame, in order, upright, in constant memory."""

import av
import numpy as np
import pytest

from queryinst_vis.errors import InputError
from queryinst_vis.video import VideoReader, VideoWriter
from queryinst_vis.video import reader as reading
from queryinst_vis.video.decode import Picture
from tests.clips import HEIGHT, WIDTH, index_of, run_script, write_video, write_with_pyav


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4")


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


def test_two_iterations_are_independent(video):
    reader = VideoReader(video)
    pairs = zip(reader, reader, strict=True)
    assert [(index_of(a), index_of(b)) for a, b in pairs] == [(i, i) for i in range(20)]


def test_frames_may_be_modified_by_the_caller(video):
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
def test_stride_and_max_frames_select_frames(video, stride, max_frames, expected):
    reader = VideoReader(video, stride, max_frames)
    assert [index_of(frame) for frame in reader] == expected
    assert len(reader) == len(expected)


def test_a_stride_lowers_the_frame_rate_to_keep_the_speed(video):
    assert VideoReader(video, stride=4).fps == 2.5


@pytest.mark.parametrize("name", ["stride", "max_frames"])
def test_stride_and_max_frames_below_one_are_refused(video, name):
    with pytest.raises(InputError, match=f"{name} .* got 0"):
        VideoReader(video, **{name: 0})


def test_matroska_without_a_frame_count_in_its_header_is_counted(tmp_path):
    reader = VideoReader(write_with_pyav(tmp_path / "clip.mkv"))
    assert len(reader) == 20
    assert [index_of(frame) for frame in reader] == list(range(20))


def test_a_stream_joined_midway_starts_at_its_first_key_frame(tmp_path):
    path = write_with_pyav(tmp_path / "clip.ts", frames=20, g="10", bf="0")
    starts = [packet.pos for packet in av.open(str(path)).demux(video=0) if packet.is_keyframe]
    data = path.read_bytes()
    path.write_bytes(data[starts[1] // 2 // 188 * 188 :])  # within the first ten frames
    reader = VideoReader(path)
    assert [index_of(frame) for frame in reader] == list(range(10, 20))
    assert len(reader) == 10


def test_a_trimmed_mp4_is_not_reported_as_truncated(tmp_path):
    """Phones trim with an edit list: frames leave the index, not the header's count."""
    path = write_with_pyav(tmp_path / "clip.mp4", frames=20, g="5", bf="0")
    data = bytearray(path.read_bytes())
    duration = data.index(b"elst") + 12  # of the only edit (ISO 14496-12, 8.6.6)
    data[duration : duration + 4] = (500).to_bytes(4, "big")  # milliseconds, of 2000
    path.write_bytes(data)
    assert av.open(str(path)).streams.video[0].frames == 20
    reader = VideoReader(path)
    assert [index_of(frame) for frame in reader] == [0, 1, 2, 3, 4]
    assert len(reader) == 5


def test_a_colon_in_a_file_name_is_not_a_protocol(video, tmp_path, monkeypatch):
    (tmp_path / "take:2.mp4").write_bytes(video.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert len(VideoReader("take:2.mp4")) == 20


def test_decoder_messages_do_not_deadlock_with_the_gil(tmp_path):
    """They would wait for the GIL, held by the thread that closes the video and waits for them."""
    path = write_video(tmp_path / "clip.mp4")
    av.logging.set_level(av.logging.ERROR)  # as torchvision does that has a video reader
    assert len(list(VideoReader(path))) == 20
    assert av.logging.get_level() is None


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    """In a child process, with a peak of its own; 300 frames are 415 MB."""
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


# Times


def test_frames_have_timestamps_at_a_constant_rate(tmp_path):
    with VideoWriter(tmp_path / "even.mp4", 8) as writer:
        for index in range(5):
            writer.write(np.full((48, 64, 3), 40 * index, np.uint8))
    path = tmp_path / "even.mp4"
    assert [time for time, _ in VideoReader(path).timed()] == pytest.approx(np.arange(5) / 8)
    assert [time for time, _ in VideoReader(path, stride=2).timed()] == [0.0, 0.25, 0.5]
    pairs = zip(VideoReader(path).timed(), VideoReader(path), strict=True)
    assert all(np.array_equal(timed, frame) for (_, timed), frame in pairs)


def test_frames_have_timestamps_at_a_variable_rate(tmp_path):
    times = [0.0, 0.1, 0.15, 1.0, 1.7]
    with VideoWriter(tmp_path / "varying.mp4", fps=None) as writer:
        for time in times:
            writer.write(np.zeros((48, 64, 3), np.uint8), time)
    found = [time for time, _ in VideoReader(tmp_path / "varying.mp4").timed()]
    assert found == pytest.approx(times, abs=1e-3)


def test_timestamps_increase_even_if_the_files_do_not(tmp_path, monkeypatch):
    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        for _ in range(6):
            writer.write(np.zeros((48, 64, 3), np.uint8))
    path = tmp_path / "clip.mp4"
    claimed = [None, 0.5, 0.5, 0.2, None, 3.0]
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    pictures = [Picture(*pair) for pair in zip(claimed, decoded, strict=True)]
    monkeypatch.setattr(reading, "decode", lambda *_: (picture for picture in pictures))
    reader = VideoReader(path)
    times = [time for time, _ in reader.timed()]
    assert times == pytest.approx([0.0, 0.5, 0.6, 0.7, 0.8, 3.0])
