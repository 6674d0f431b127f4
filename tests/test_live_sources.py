"""Pipes, cameras and network streams as frame sources."""

import os
import subprocess
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest

from queryinst_vis import cli
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.video import live_source
from queryinst_vis.video.frames import Selection
from queryinst_vis.video.live import LiveReader
from queryinst_vis.video.source import known_length, open_source
from tests.clips import HEIGHT, WIDTH, index_of, indices, write_noise, write_video, write_with_pyav
from tests.http_support import HEAD, in_chunks, replying
from tests.moving_clips import copy_stream, write_moving
from tests.simulated_time import JumpingClock

# Pipes, cameras, streams


def test_a_named_pipe_is_read_frame_by_frame(tmp_path):
    clip = write_with_pyav(tmp_path / "clip.ts", format="mpegts", g="5")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=[clip.read_bytes()], daemon=True).start()
    source = open_source(pipe, Selection(start=0.5, stride=5))
    assert known_length(source) is None and not source.is_live
    assert indices(source) == [5, 10, 15]


def piped(tmp_path, data):
    """A named pipe into which another thread writes."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=[data], daemon=True).start()
    return open_source(pipe)


def test_the_clock_of_joined_recordings_goes_on_in_a_pipe(tmp_path):
    clip = write_moving(tmp_path / "clip.ts", rate=20, format="mpegts", bf="0")
    seconds = [frame.seconds for frame in piped(tmp_path, 2 * clip.read_bytes()).frames()]
    np.testing.assert_allclose(np.diff(seconds), 0.05, atol=1e-3)
    assert len(seconds) == 120


def test_packets_of_a_pipe_that_cannot_be_decoded_are_counted(tmp_path, monkeypatch):
    clip = write_with_pyav(tmp_path / "clip.ts", format="mpegts", g="1", bf="0")
    source, whole = piped(tmp_path, clip.read_bytes()), LiveReader.__iter__

    def lossy(reader):
        yield from whole(reader)
        reader.undecodable = 3

    monkeypatch.setattr(LiveReader, "__iter__", lossy)
    with pytest.warns(InputWarning, match="3 packets could not be decoded"):
        assert len(list(source.frames())) == 20


@pytest.mark.parametrize("option", ["strict", "allow_partial"])
def test_checks_that_need_all_frames_are_refused_for_a_pipe(tmp_path, option):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not known in advance"):
        open_source(tmp_path / "pipe", **{option: True})


STDIN = """
import sys
from queryinst_vis.video.source import open_source
source = open_source("-")
print(source.name, [frame.number for frame in source.frames()][-1])
"""


def test_a_dash_reads_standard_input_from_a_pipe_or_file(tmp_path):
    clip = write_with_pyav(tmp_path / "clip.mkv")
    command = [sys.executable, "-c", STDIN]
    with clip.open("rb") as file:
        of_file = subprocess.run(command, stdin=file, capture_output=True, text=True)
    of_pipe = subprocess.run(command, input=clip.read_bytes(), capture_output=True)
    assert of_file.stdout == of_pipe.stdout.decode() == "stdin 19\n"


def test_a_piped_mp4_with_its_index_at_the_end_is_refused_with_advice(tmp_path):
    clip = tmp_path / "clip.mp4"  # larger than what FFmpeg keeps of a pipe
    copy_stream(write_noise(tmp_path / "noise.mp4", frames=120), clip)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def fill():
        with suppress(BrokenPipeError):
            pipe.write_bytes(clip.read_bytes())

    threading.Thread(target=fill, daemon=True).start()
    with pytest.raises(InputError, match=r"index .* pipe"):
        list(open_source(pipe).frames())


def test_a_missing_camera_is_refused_in_one_line(capsys):
    for camera in (97, "97"):
        with pytest.raises(InputError, match=r"camera 97: .*/dev/video97 "):
            open_source(camera)
    assert cli.main(["track", "97"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_frame_range_is_refused_for_a_live_source(tmp_path):
    path = write_video(tmp_path / "clip.mp4")
    for selection in (Selection(start=1), Selection(end_frame=3), Selection(stride=2)):
        with pytest.raises(InputError, match="stride, start and end"):
            open_source(path, selection, live=True)


def test_a_url_is_live_exactly_if_it_has_no_length(tmp_path, monkeypatch):
    data = write_with_pyav(tmp_path / "clip.ts", format="mpegts", g="5").read_bytes()
    with replying(data, HEAD + b"\r\n") as address:
        source = open_source(address)
        assert source.is_live
        assert list(source.frames())[-1].image.shape == (HEIGHT, WIDTH, 3)
    with replying(data, HEAD + b"Content-Length: %d\r\n\r\n" % len(data)) as address:
        source = open_source(address)
        assert not source.is_live and indices(source) == list(range(20))


def test_an_interrupted_network_stream_is_reopened(tmp_path, monkeypatch):
    clock = JumpingClock()
    monkeypatch.setattr(live_source, "WAITS", (1.0, 2.0, 4.0))
    data = write_with_pyav(tmp_path / "clip.ts", format="mpegts", g="5", bf="0").read_bytes()
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    with replying(in_chunks(data), head) as address:  # no end: the connection breaks
        frames = live_source.Reconnecting(address, clock)
        seen = []
        with pytest.warns(InputWarning, match=r"in 1 s \(attempt 1 of 3\)"):
            for arrival in frames:
                seen.append(index_of(arrival.rgb()))
                if len(seen) > 30:
                    break
    assert seen[:20] == list(range(20)) and seen[20:25] == list(range(5)) and clock.waits == [1.0]


def test_reconnecting_gives_up_after_the_configured_attempts(tmp_path, monkeypatch):
    clock = JumpingClock()
    data = write_with_pyav(tmp_path / "clip.ts", format="mpegts", g="5", bf="0").read_bytes()
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    with replying(in_chunks(data), head) as address:
        frames = live_source.Reconnecting(address, clock)

        def refuse(*_):
            raise InputError("gone")

        monkeypatch.setattr(live_source, "LiveReader", refuse)
        with pytest.warns(InputWarning, match=r"attempt 5 of 5"):
            seen = list(frames)
    assert len(seen) == 20 and clock.waits == list(live_source.WAITS)
    assert frames.fault == "the connection was closed early"


# Decoders


def test_a_live_source_is_connected_to_only_once(monkeypatch):
    """Some cameras allow a single connection: none is spent on probing for a recording."""
    opened = []
    monkeypatch.setattr("queryinst_vis.video.source.has_length", lambda address: 1 / 0)
    monkeypatch.setattr(
        "queryinst_vis.video.source.LiveSource", lambda source, *rest: opened.append(source)
    )
    open_source("http://camera/stream", live=True)
    assert opened == ["http://camera/stream"]
