"""Tracking keeps the number, timestamp and aspect ratio of every frame in all outputs."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest

from queryinst_vis import cli
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.formats.convert_results import convert_results
from queryinst_vis.formats.track_lines import read_track_lines, write_track_lines
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference import track
from queryinst_vis.inference.track import track_video
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.review.index import open_index
from queryinst_vis.video import VideoReader, VideoWriter
from queryinst_vis.video.frames import Selection
from tests.tiny import HEIGHT, WIDTH, draw_frame
from tests.tracking_support import FRAMES, KnowingTracker


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setattr(track, "load_tracker", lambda *_: KnowingTracker())
    return tmp_path / "out"


@pytest.fixture
def damaged(tmp_path):
    """A video of key frames, of which frames 0, 5 and 6 are corrupted."""
    path = tmp_path / "in" / "clip.mp4"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "1", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(draw_frame(number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for number in (0, 5, 6):
        data = data.replace(packets[number], b"\xff" * len(packets[number]))
    path.write_bytes(data)
    return path


def timed(path):
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def test_damaged_frames_keep_their_place_marked_and_empty(damaged, out):
    with pytest.warns(InputWarning, match=r"clip.mp4: damaged: frames 0, 5-6 \(3 of 12\)"):
        summary = track_video(damaged, out)
    assert summary.frames == FRAMES
    entries = json.loads((out / "results.json").read_text())
    masks = entries[0]["segmentations"]
    assert [number for number, mask in enumerate(masks) if mask is None] == [0, 5, 6]
    shown = list(VideoReader(out / "clip.mp4"))
    assert len(shown) == FRAMES
    for number, image in enumerate(shown):
        red, green, blue = image[1, 1].astype(int)  # the border
        is_marked = red > 150 and max(green, blue) < 120
        assert is_marked == (number in (0, 5, 6))
    assert shown[0][HEIGHT // 2 : -8, 8:-8].max() < 40, "black"


def test_tracks_jsonl_marks_damaged_frames_and_readers_accept_the_mark(damaged, out, tmp_path):
    with pytest.warns(InputWarning, match="damaged"):
        track_video(damaged, out, save=["json", "jsonl"])
    path = out / "tracks.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert [line["frame"] for line in lines if "damaged" in line] == [0, 5, 6]
    assert all(line["damaged"] and line["instances"] == [] for line in lines if "damaged" in line)
    with TrackStore() as tracks:
        video = read_track_lines(path, tracks)
        marked = [frame.number for frame in tracks.frames() if frame.is_damaged]
        write_track_lines(tmp_path / "again.jsonl", tracks, video)
    assert marked == [0, 5, 6]
    assert (tmp_path / "again.jsonl").read_text().splitlines()[1:] == (
        path.read_text().splitlines()[1:]
    )
    convert_results(path, tmp_path / "converted.json")
    masks, expected = (
        [entry["segmentations"] for entry in json.loads(file.read_text())]
        for file in (tmp_path / "converted.json", out / "results.json")
    )
    assert masks == expected
    assert len(open_index(path, tmp_path / "index")) == FRAMES


def test_stream_repeats_the_last_good_frame_marked_as_damaged(damaged):
    tracker = KnowingTracker()
    with pytest.warns(InputWarning, match="damaged"):
        streamed = list(VideoTracker.stream(tracker, damaged))
    found = [detections for _, detections in streamed]
    assert [d.of_damaged_frame for d in found] == [n in (0, 5, 6) for n in range(FRAMES)]
    assert all(len(d) == 0 for d in found if d.of_damaged_frame)
    images = [image for image, _ in streamed]
    assert not images[0].any()
    np.testing.assert_array_equal(images[5], images[4])
    np.testing.assert_array_equal(images[6], images[4])


def test_strict_refuses_damaged_frames(damaged, out):
    with pytest.raises(InputError, match=r"frame 0 \(1 of 12\)"):
        track_video(damaged, out, strict=True)
    assert cli.main(["track", str(damaged), "--out", str(out), "--strict"]) == 2
    assert not (out / "results.json").exists()


def test_a_varying_frame_rate_is_kept(tmp_path, out):
    seconds = [0.0, 1.0, 2.0, *np.arange(3, 3.9, 0.1)]
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, None, is_endless=False) as writer:
        for number, second in enumerate(seconds):
            writer.write(draw_frame(number), second)
    assert VideoReader(path).is_variable
    track_video(path, out)
    assert timed(out / "clip.mp4") == pytest.approx(seconds, abs=1e-3)
    assert b"moof" not in (out / "clip.mp4").read_bytes()
    for entry in json.loads((out / "results.json").read_text()):
        assert entry["seconds"] == pytest.approx(seconds, abs=1e-3)
    track_video(path, out, stride=3)
    assert timed(out / "clip.mp4") == pytest.approx(seconds[::3], abs=1e-3)


def test_a_constant_frame_rate_is_saved_without_times(damaged, out):
    with pytest.warns(InputWarning):
        track_video(damaged, out)
    assert VideoReader(out / "clip.mp4").fps == 10.0
    assert all("seconds" not in entry for entry in json.loads((out / "results.json").read_text()))


@pytest.mark.parametrize("aspect", [Fraction(2), Fraction(3, 4)])
def test_the_pixel_aspect_ratio_is_kept(tmp_path, out, aspect):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10, pixel_aspect=aspect) as writer:
        for number in range(3):
            writer.write(draw_frame(number))
    assert VideoReader(path).pixel_aspect == aspect
    track_video(path, out)
    assert VideoReader(out / "clip.mp4").pixel_aspect == aspect
    with av.open(str(out / "clip.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == aspect


@pytest.mark.parametrize("name", ["x" * 240 + ".mp4", "x" * 252 + ".ts", "\u00e9" * 125 + ".mp4"])
def test_file_names_of_maximum_length_are_supported(tmp_path, out, name):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10) as writer:
        for number in range(3):
            writer.write(draw_frame(number))
    summary = track_video(path.rename(tmp_path / name), out)
    assert summary.files[0].is_file() and summary.files[0].name.startswith(name[:100])
    assert len(list(out.iterdir())) == 5


def test_a_folder_without_images_is_refused_with_the_supported_formats(tmp_path, out, capsys):
    assert cli.main(["track", str(tmp_path), "--out", str(out)]) == 2
    assert "expected .jpg, .png" in capsys.readouterr().err


def test_the_shorthands_of_a_selection_change_nothing_else(video, out):
    chosen = track_video(video, out / "a", selection=Selection(stride=3), max_frames=2)
    assert chosen.frames == 2
    lines = (out / "a" / "tracks.jsonl").read_text().splitlines()[1:]
    assert [json.loads(line)["frame"] for line in lines] == [0, 3]
    assert track_video(video, out / "b", selection=Selection(max_frames=2), stride=3).frames == 2
