"""Each video is decoded in its own process, whose failures stay contained."""

import errno
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.shared_memory import SharedMemory
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="object stores are read by pyarrow: extra 'batch'")

from queryinst_vis.batch import decoding
from queryinst_vis.batch.decoding import DecodedVideo, VideoFailedError
from queryinst_vis.batch.options import RunOptions
from queryinst_vis.errors import InputError
from queryinst_vis.video import VideoReader
from tests.batch_support import find, write_clip

TIMEOUT = 60.0  # seconds; not part of what is tested


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", 40)


@pytest.fixture
def begin(tmp_path):
    sources = []

    def begin(path, **settings):
        [video] = find([path])
        sources.append(DecodedVideo(video, tmp_path, RunOptions("out", **settings)))
        return sources[-1]

    yield begin
    for source in sources:
        source.close()


def opened(source):
    until = time.monotonic() + TIMEOUT
    while not source.is_open():
        assert time.monotonic() < until
        time.sleep(0.01)
    return source


def decoder_process():
    [process] = multiprocessing.active_children()
    return process


def test_frames_equal_those_of_the_reader(begin, clip):
    source = opened(begin(clip))
    assert (source.name, source.fps, len(source), source.path) == ("clip", 10, 40, clip)
    found = list(source.frames())
    for frame, image in zip(found, VideoReader(clip), strict=True):
        np.testing.assert_array_equal(frame.image, image)
    assert [frame.number for frame in found] == list(range(40))
    assert source.ended and source.poll() is None


def test_the_decoder_does_not_import_torch():
    program = "import sys, queryinst_vis.batch.decoder_process; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr


def test_an_unreadable_video_is_named(begin, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(VideoFailedError, match=r"broken\.mp4") as caught:
        opened(begin(tmp_path / "broken.mp4"))
    assert caught.value.kind == "input"


def test_a_crash_is_reported_with_its_signal(begin, clip):
    source = opened(begin(clip))
    os.kill(decoder_process().pid, signal.SIGSEGV)
    with pytest.raises(VideoFailedError, match="SIGSEGV") as caught:
        list(source.frames())
    assert caught.value.kind == "crash"


def test_a_decoder_that_hangs_is_killed(begin, clip, monkeypatch):
    source = opened(begin(clip, decode_silence=60))
    os.kill(decoder_process().pid, signal.SIGSTOP)
    clock = itertools.count(time.monotonic(), 10)  # ten seconds pass between two checks
    simulated = SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda seconds: None)
    monkeypatch.setattr(decoding, "time", simulated)
    with pytest.raises(VideoFailedError, match="no frame for 60 s") as caught:
        list(source.frames())
    assert caught.value.kind == "hang"
    assert not multiprocessing.active_children()


def test_a_decoder_that_exceeds_its_time_is_killed(begin, clip):
    source = begin(clip, decode_time=0.0001)
    time.sleep(0.001)
    with pytest.raises(VideoFailedError, match="--decode-time"):
        opened(source)


@pytest.mark.skipif(os.name != "posix", reason="limits on memory are POSIX's")
def test_a_decoder_that_exceeds_its_memory_fails(begin, clip):
    with pytest.raises(VideoFailedError) as caught:
        opened(begin(clip, decode_memory=1 << 20))
    assert caught.value.kind in ("memory", "crash")
    assert isinstance(caught.value, InputError)


@pytest.mark.skipif(os.name != "posix", reason="names of shared memory are POSIX's")
def test_a_kill_cannot_leave_the_shared_memory_of_an_open_video_behind(begin, clip, monkeypatch):
    rings = []

    def create(**arguments):
        rings.append(SharedMemory(**arguments))
        return rings[-1]

    monkeypatch.setattr(decoding, "SharedMemory", create)
    source = opened(begin(clip))
    frames = source.frames()
    next(frames)
    [ring] = rings
    with pytest.raises(FileNotFoundError):
        SharedMemory(ring.name)  # the memory lasts as long as a process has mapped it
    assert len(list(frames)) == 39


def test_closing_ends_the_process(begin, clip):
    source = opened(begin(clip))
    source.poll()
    source.close()
    assert not multiprocessing.active_children()


def test_the_time_limit_counts_only_waiting_for_the_decoder(begin, clip, monkeypatch):
    elsewhere = [0.0]  # seconds that the consumer has spent on other videos
    real = time.monotonic
    simulated = SimpleNamespace(monotonic=lambda: real() + elsewhere[0], sleep=time.sleep)
    monkeypatch.setattr(decoding, "time", simulated)
    source = opened(begin(clip, decode_time=30, decode_silence=1e9))
    numbers = []
    for frame in source.frames():
        numbers.append(frame.number)
        elsewhere[0] += 100
    assert numbers == list(range(40))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_shortage_of_shared_memory_is_a_failure_with_advice(begin, clip, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(VideoFailedError, match=r"MB of shared memory.*--shm-size") as caught:
        opened(begin(clip))
    assert caught.value.kind == "memory"
