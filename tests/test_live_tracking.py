"""Live tracking: newest frame first, real-time video, and no loss on Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from queryinst_vis import cli
from queryinst_vis.errors import InputError
from queryinst_vis.inference import live
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.live import Latencies, track_live
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.models.build import build_model
from queryinst_vis.video import LiveReader, VideoReader, VideoWriter
from queryinst_vis.video.frames import Selection
from queryinst_vis.video.source import LiveSource
from tests.clips import write_with_pyav
from tests.simulated_time import SteppedClock
from tests.tiny import draw_frame, tiny_config
from tests.tracking_support import KnowingTracker

FRAMES, FPS = 12, 20
PROCESSED = [0, 3, 6, 10, 11]
"""Frames that a tracker sees which takes the time of 3.4 frames for each."""
LATENCIES = [170, 190, 210, 180, 300]
"""Milliseconds from the arrival of each to its detections."""


class SlowTracker(KnowingTracker):
    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def update(self, frame, time=None):
        self.clock.advance(3.4 / FPS)
        return super().update(frame, time)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "in" / "clip.mp4"
    with VideoWriter(path, FPS) as writer:
        for index in range(FRAMES):
            writer.write(draw_frame(index))
    return path


@pytest.fixture
def clock():
    clock = SteppedClock(end=(FRAMES - 1) / FPS)
    yield clock
    clock.advance(FRAMES)  # lets a source go that was left before its end


@pytest.fixture
def slow(clock, monkeypatch):
    tracker = SlowTracker(clock)
    monkeypatch.setattr(live, "load_tracker", lambda *_: tracker)
    return tracker


@pytest.fixture
def played(video, clock):
    """Open the video as a live source driven by the clock."""

    def played(max_frames=None):
        return LiveSource(video, Selection(max_frames=max_frames), clock=clock)

    return played


def track(source, out, max_frames=None):
    """Track one live source."""
    options = TrackOptions(selection=Selection(max_frames=max_frames))
    [summary] = track_live([source], [out], options)
    return summary


def times(path):
    """When each frame of a video is shown, in seconds."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


# The newest frame


def test_a_slow_tracker_processes_the_newest_frame_and_drops_older_ones(played, tmp_path, slow):
    summary = track(played(), tmp_path / "out")
    assert slow.frames == PROCESSED
    assert summary.tracked.frames == len(PROCESSED)
    assert summary.dropped == FRAMES - len(PROCESSED)
    assert summary.fault is None


def test_latency_is_measured_from_arrival_to_detections(played, tmp_path, slow):
    summary = track(played(), tmp_path / "out")
    assert (summary.median, summary.percentile_95) == (np.median(LATENCIES), max(LATENCIES))


def test_the_annotated_video_has_real_time_timestamps_and_matching_results(played, tmp_path, slow):
    summary = track(played(), tmp_path / "out")
    annotated, results, lines, timeline, run = summary.tracked.files
    assert [path.name for path in summary.tracked.files] == [
        *("clip.mp4", "results.json", "tracks.jsonl", "timeline.png", "run.json")
    ]
    shown = times(annotated)
    assert shown == pytest.approx([number / FPS for number in PROCESSED], abs=1e-3)
    entries = json.loads(results.read_text())
    assert {len(entry["segmentations"]) for entry in entries} == {len(shown)}
    assert len(lines.read_text().splitlines()) == 1 + len(shown)
    assert json.loads(run.read_text())["source"]["frame_times"] == pytest.approx(shown, abs=1e-3)
    assert timeline.stat().st_size > 0


def test_the_summary_gives_dropped_frames_and_latency(played, tmp_path, slow):
    summary = track(played(max_frames=2), tmp_path / "out", max_frames=2)
    text = str(summary)
    assert summary.tracked.frames == 2
    assert "4 frames dropped" in text, "1, 2, and 4, 5 while frame 3 was processed"
    assert "170 ms (median), 190 ms (95th percentile)" in text


def test_an_interrupted_source_leaves_its_files_and_an_error(played, tmp_path, monkeypatch, slow):
    def break_off(reader):
        yield from whole(reader)
        reader.fault = "unplugged"

    whole = LiveReader.__iter__
    monkeypatch.setattr(LiveReader, "__iter__", break_off)
    summary = track(played(), tmp_path / "out")
    assert str(summary).endswith("ended unexpectedly: unplugged")
    assert len(os.listdir(tmp_path / "out")) == 5
    assert json.loads((tmp_path / "out/run.json").read_text())["source"]["fault"] == "unplugged"


def test_latency_percentiles_are_within_2_ms_of_numpy():
    latencies = Latencies()
    given = np.random.default_rng(0).exponential(0.1, 1001)
    for seconds in given:
        latencies.add(seconds)
    for share in (0.5, 0.95):
        assert latencies.percentile(share) == pytest.approx(1000 * np.quantile(given, share), abs=2)
    latencies.add(10**9)
    assert latencies.percentile(1.0) == 60_000


# Python and the command line


def test_stream_accepts_a_live_source(played, clock):
    tracker = SlowTracker(clock)
    assert len(list(tracker.stream(played()))) == len(PROCESSED)
    assert tracker.frames == PROCESSED


@pytest.mark.parametrize("option", [{"stride": 2}, {"batch": 2}])
def test_stride_and_batch_are_refused_for_live_sources(video, option, capsys):
    with pytest.raises(InputError, match="newest frame"):
        KnowingTracker().stream(video, live=True, **option)
    [(name, value)] = option.items()
    assert cli.main(["track", str(video), "--live", f"--{name}", str(value)]) == 2
    assert "live source" in capsys.readouterr().err


def test_a_bad_source_is_refused_before_weights_are_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(live, "load_tracker", None)  # must not be reached
    monkeypatch.chdir(tmp_path)
    assert cli.main(["track", "none", "--live", "--out", "out"]) == 2
    assert "no such file or device" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_the_live_source_is_never_overwritten(video, slow):
    before = video.read_bytes()
    with pytest.raises(InputError, match="would replace it"):
        track(LiveSource(video, Selection()), video.parent)
    assert video.read_bytes() == before


# Ctrl-C


@pytest.fixture
def camera(tmp_path):
    """A pipe with seven seconds of video that then stays open without data.

    FFmpeg probes five seconds of a stream before it reports its content.
    """
    broadcast = write_with_pyav(tmp_path / "camera.ts", 70, format="mpegts", g="5", bf="0")
    pipe, unplugged = tmp_path / "camera", threading.Event()
    os.mkfifo(pipe)

    def send():
        with pipe.open("wb") as file:
            file.write(broadcast.read_bytes())
            file.flush()
            unplugged.wait()

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    yield pipe
    unplugged.set()
    sender.join(timeout=10)


# the command line, and a word on standard output after every frame
TALKING = """
import sys
from queryinst_vis import cli
from queryinst_vis.inference import live
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.tracker import VideoTracker

follow_video = VideoTracker.follow_video

def follow_and_tell(self, frames, **options):
    for found in follow_video(self, frames, **options):
        print("tracked", flush=True)
        yield found

VideoTracker.follow_video = follow_and_tell
sys.exit(cli.main(sys.argv[1:]))
"""


def start_tracking(source, out):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    words = ["track", str(source), "--live", "--max-size", "64", "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-c", TALKING, *words, "--weights", "shapes"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_ctrl_c_finishes_the_files_even_if_the_camera_is_silent(camera, tmp_path, number):
    out = tmp_path / "out"
    process = start_tracking(camera, out)
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    assert process.stdout.readline() == "tracked\n"
    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)
    watchdog.cancel()
    assert process.returncode == 0, errors
    assert f"wrote {out / 'camera.mp4'}" in printed and "frames dropped" in printed
    names = ["camera.mp4", "results.json", "run.json", "timeline.png", "tracks.jsonl"]
    assert sorted(os.listdir(out)) == names
    frames = 1 + printed.count("tracked\n")
    assert len(VideoReader(out / "camera.mp4")) == frames
    entries = json.loads((out / "results.json").read_text())
    assert all(len(entry["segmentations"]) == frames for entry in entries)


def test_ctrl_c_before_the_first_frame_leaves_nothing(video, tmp_path, monkeypatch, slow):
    """The source is open, the weights are loaded, and no frame arrives."""
    unplugged = threading.Event()

    def stay_silent(_):
        os.kill(os.getpid(), signal.SIGINT)
        unplugged.wait(60)
        yield from ()

    monkeypatch.setattr(LiveReader, "__iter__", stay_silent)
    assert cli.main(["track", str(video), "--live", "--out", str(tmp_path / "out")]) == 130
    unplugged.set()
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.slow
def test_ctrl_c_works_while_ffmpeg_waits_for_the_first_byte(tmp_path):
    pipe = tmp_path / "camera"
    os.mkfifo(pipe)
    process = start_tracking(pipe, tmp_path / "out")
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    with pipe.open("wb"):  # returns once the other side has opened it, too
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    watchdog.cancel()
    assert process.returncode == 130
    assert errors == "queryinst-vis: error: interrupted\n"
    assert not (tmp_path / "out").exists()


def two_cameras(folder, monkeypatch, *names, frames=FRAMES):
    """Files played as cameras, and a tracker with a network for them."""
    torch.manual_seed(0)
    config = tiny_config()
    tracker = VideoTracker(Detector(build_model(config), config))
    monkeypatch.setattr(live, "load_tracker", lambda *_: tracker)
    for name in names:
        with VideoWriter(folder / f"{name}.mp4", FPS) as writer:
            for index in range(frames):
                writer.write(draw_frame(index % 8))
    return [str(folder / f"{name}.mp4") for name in names]


def test_several_live_sources_are_tracked_concurrently(tmp_path, monkeypatch):
    cameras = two_cameras(tmp_path, monkeypatch, "left", "right", frames=30 * FPS)
    out = tmp_path / "out"
    words = ["track", *cameras, "--live", "--max-frames", "3", "--save", "jsonl"]
    assert cli.main([*words, "--out", str(out)]) == 0
    for name in ("left", "right"):
        lines = (out / name / "tracks.jsonl").read_text().splitlines()
        frames = [json.loads(line) for line in lines[1:]]
        assert [frame["frame"] for frame in frames] == [0, 1, 2]
        assert frames[0]["seconds"] == 0 and len(frames[0]["instances"]) == 5
    assert cli.main([*words, "--streams", "1", "--out", str(out)]) == 2


def test_a_live_source_that_fails_does_not_end_the_others(tmp_path, monkeypatch, capsys):
    cameras = two_cameras(tmp_path, monkeypatch, "bad", "good")
    whole = LiveReader.__iter__

    def fail_if_bad(reader):
        if reader.name == "bad":
            raise InputError("live source bad: no decodable frame was received")
        yield from whole(reader)

    monkeypatch.setattr(LiveReader, "__iter__", fail_if_bad)
    out = tmp_path / "out"
    assert cli.main(["track", *cameras, "--live", "--save", "jsonl", "--out", str(out)]) == 2
    errors = capsys.readouterr().err
    assert "warning: live source bad: no decodable frame was received; the other" in errors
    assert errors.strip().endswith("error: live source bad: no decodable frame was received")
    assert (out / "good" / "tracks.jsonl").is_file() and not os.listdir(out / "bad")
