"""Live sources: frames as they arrive, and one-line errors."""

import os
import re
import socket
import struct
import threading
import time
from fractions import Fraction
from urllib.parse import quote, unquote

import av
import numpy as np
import pytest

from queryinst_vis.errors import InputError
from queryinst_vis.video import LiveReader, VideoReader, VideoWriter
from queryinst_vis.video.http import HttpFile
from tests.clips import HEIGHT, WIDTH, index_of, write_video, write_with_pyav
from tests.http_support import HEAD, in_chunks, replying, served
from tests.simulated_time import JumpingClock


def indices(source):
    return [index_of(arrival.rgb()) for arrival in LiveReader(source)]


@pytest.fixture(scope="module")
def broadcast(tmp_path_factory):
    """20 frames as a network camera sends them."""
    path = tmp_path_factory.mktemp("live") / "camera.ts"
    return write_with_pyav(path, format="mpegts", g="5", bf="0")


def test_a_live_file_is_played_at_its_frame_rate(tmp_path):
    path = write_video(tmp_path / "clip.mp4", frames=6, fps=10)
    arrivals = list(LiveReader(path, JumpingClock()))
    assert [index_of(arrival.rgb()) for arrival in arrivals] == list(range(6))
    assert arrivals[0].rgb().shape == (HEIGHT, WIDTH, 3)
    assert [arrival.seconds for arrival in arrivals] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_overdue_frames_of_a_live_file_are_returned_immediately(tmp_path):
    clock, seen = JumpingClock(), []
    for arrival in LiveReader(write_video(tmp_path / "clip.mp4", frames=6, fps=10), clock):
        seen.append(arrival.seconds)
        clock.time += 0.25  # processing takes as long as two and a half frames
    assert seen == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1.25])


def test_a_pipe_is_read_as_fast_as_data_arrives(tmp_path, broadcast):
    pipe = tmp_path / "camera"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=[broadcast.read_bytes()], daemon=True).start()
    assert indices(pipe) == list(range(20))


def test_a_url_is_read_and_shown_without_credentials(broadcast):
    with served({"/yard/cam.ts": broadcast.read_bytes()}) as (address, asked):
        reader = LiveReader(address.replace("://", "://me:secret@") + "/yard/cam.ts?token=secret")
        assert [index_of(arrival.rgb()) for arrival in reader] == list(range(20))
    assert reader.fault is None
    assert reader.name.startswith("127.0.0.1_") and reader.name.endswith("_yard_cam.ts")
    assert set(asked) == {"/yard/cam.ts?token=secret"}


def test_a_playlist_is_refused_without_fetching_its_entries(broadcast):
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n/other.ts\n#EXT-X-ENDLIST\n"
    files = {"/live.m3u8": playlist.encode(), "/other.ts": broadcast.read_bytes()}
    with (
        served(files) as (address, asked),
        pytest.raises(InputError, match=r"live\.m3u8: .*Playlists"),
    ):
        LiveReader(f"{address}/live.m3u8")
    assert asked and "/other.ts" not in asked


def test_a_stream_joined_midway_starts_at_the_first_decodable_frame(tmp_path, broadcast):
    path = tmp_path / "late.ts"
    data = broadcast.read_bytes()
    path.write_bytes(data[len(data) * 2 // 5 // 188 * 188 :])
    seen = indices(path)
    assert 5 <= len(seen) <= 15 and seen == list(range(20 - len(seen), 20))


def test_an_interrupted_source_yields_all_received_frames(broadcast):
    data = broadcast.read_bytes()
    with served({"/cam.ts": data}, promised=2 * len(data)) as (address, _):
        reader = LiveReader(f"{address}/cam.ts")
        assert len(list(reader)) == 20
    assert reader.fault == f"the connection ended after {len(data)} of {2 * len(data)} bytes"


def test_a_source_that_ends_before_its_first_frame_is_an_error(tmp_path):
    path = tmp_path / "empty.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.start_encoding()
    with pytest.raises(InputError, match=r"empty\.avi: .*\(it ended\)"):
        list(LiveReader(path))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("none.mp4", "live source none.mp4: no such file or device"),
        (".", "is a folder; its images can only be read without"),
        ("notes.txt", "contains no video stream"),
        ("concat:a.ts|b.ts", "no such file or device"),
        ("file:///etc/hostname", "'file' is not a supported scheme; URLs must begin"),
        ("http://127.0.0.1:9/x?token=secret", "http://127.0.0.1:9/x: cannot be opened as a video"),
        ("rtsp://me:secret@127.0.0.1:9/x", "rtsp://127.0.0.1:9/x: cannot be opened as a video"),
        ("/dev/null", "live source /dev/null: cannot be opened as a video"),
    ],
)
def test_a_bad_source_ends_in_one_line(source, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("hello world\n" * 50)
    with pytest.raises(InputError) as caught:
        list(LiveReader(source))
    message = str(caught.value)
    assert complaint in message and "secret" not in message and "\n" not in message


def test_reading_a_live_source_as_a_file_is_refused_with_advice(tmp_path):
    os.mkfifo(tmp_path / "camera")
    for source in (tmp_path / "camera", "rtsp://127.0.0.1/x"):
        with pytest.raises(InputError, match="are read live"):
            VideoReader(source)


# Recordings and broken connections


@pytest.fixture(scope="module")
def reordered(tmp_path_factory):
    """20 frames of which the decoder buffers some until the end."""
    path = tmp_path_factory.mktemp("live") / "camera.ts"
    return write_with_pyav(path, format="mpegts", g="10", bf="3").read_bytes()


def test_a_response_without_a_length_is_complete(reordered):
    with replying(reordered, HEAD + b"\r\n") as address:
        reader = LiveReader(address)
        assert [index_of(arrival.rgb()) for arrival in reader] == list(range(20))
    assert reader.fault is None


def test_a_chunked_response_is_complete_with_its_last_chunk(reordered):
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    with replying(in_chunks(reordered), head, b"0\r\n\r\n") as address:
        reader = LiveReader(address)
        assert [index_of(arrival.rgb()) for arrival in reader] == list(range(20))
    assert reader.fault is None
    with replying(in_chunks(reordered)[: len(reordered) // 2], head) as address:
        reader = LiveReader(address)
        seen = [index_of(arrival.rgb()) for arrival in reader]
    assert seen[:5] == list(range(5)) and len(seen) < 20
    assert reader.fault == "the connection was closed early"


def test_frames_buffered_in_the_decoder_are_returned_after_an_error(reordered):
    head = HEAD + b"Content-Length: %d\r\n\r\n" % (2 * len(reordered))
    with replying(reordered, head) as address:
        reader = LiveReader(address)
        assert [index_of(arrival.rgb()) for arrival in reader] == list(range(20))
    assert "the connection ended after" in reader.fault


def test_a_recording_at_a_url_is_played_at_its_frame_rate(tmp_path):
    recording = write_with_pyav(tmp_path / "clip.mp4", frames=6)  # its index is at the end
    with served({"/clip.mp4": recording.read_bytes()}, ranges=True) as (address, _):
        arrivals = list(LiveReader(f"{address}/clip.mp4", JumpingClock()))
    assert [index_of(arrival.rgb()) for arrival in arrivals] == list(range(6))
    assert [arrival.seconds for arrival in arrivals] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_a_recording_at_a_url_is_read_like_a_file(tmp_path):
    recording = write_with_pyav(tmp_path / "clip.mp4", frames=30)
    with served({"/a/clip.mp4": recording.read_bytes()}) as (address, _):
        reader = VideoReader(f"{address}/a/clip.mp4?token=secret", stride=2)
        assert [index_of(frame) for frame in reader] == list(range(0, 30, 2))
    assert reader.path.name == "clip.mp4" and reader.path.is_file()
    folder = reader.path.parent
    del reader
    assert not folder.exists()


@pytest.mark.parametrize("name", ["a%00b.mp4", "é" * 200 + ".mp4", ""])
def test_a_recording_at_any_url_is_downloaded_with_progress(tmp_path, capsys, name):
    recording = write_with_pyav(tmp_path / "clip.mp4", frames=3)
    place = "/" + quote(unquote(name))
    with served({place: recording.read_bytes()}) as (address, _):
        reader = VideoReader(address + place)
    assert [index_of(frame) for frame in reader] == list(range(3))
    assert capsys.readouterr().err.startswith(reader.path.name[:20])


@pytest.mark.parametrize(
    ("head", "complaint"),
    [
        (b"\r\n", "has no length, so it may be endless; read it live"),
        (b"Content-Length: 999999\r\n\r\n", "the connection ended after"),
    ],
)
def test_a_truncated_recording_at_a_url_is_refused(reordered, head, complaint):
    with replying(reordered, HEAD + head) as address:
        with pytest.raises(InputError, match=complaint):
            VideoReader(address)
        if b"Length" in head:
            reader = VideoReader(address, allow_partial=True)
            assert [index_of(frame) for frame in reader] == list(range(20))


@pytest.mark.parametrize("place", ["ftp://127.0.0.1:{port}/x", "file:///etc/passwd"])
def test_redirects_are_followed_only_to_http(place):
    elsewhere = socket.create_server(("127.0.0.1", 0))
    place = place.format(port=elsewhere.getsockname()[1])
    head = f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nConnection: close\r\n\r\n".encode()
    message = "redirects to .*, which is not an http URL|Redirection .* not allowed"
    with replying(b"", head) as address, pytest.raises(InputError, match=message):
        LiveReader(address)
    elsewhere.settimeout(0.1)
    with elsewhere, pytest.raises(TimeoutError):
        elsewhere.accept()


def test_a_missing_recording_is_refused_in_one_line(tmp_path):
    with served({}) as (address, _), pytest.raises(InputError, match=r"/x.mp4: .*404"):
        VideoReader(f"{address}/x.mp4?token=secret")
    with pytest.raises(InputError, match="refused"):
        VideoReader("http://127.0.0.1:9/x.mp4")


@pytest.mark.parametrize(
    "content", [b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(500), b"<MPD>" + bytes(500)]
)
def test_pictures_and_playlists_are_refused_with_advice(content):
    with (
        served({"/x": content}) as (address, _),
        pytest.raises(InputError, match="URL of the stream"),
    ):
        LiveReader(f"{address}/x")


def test_a_playlist_file_is_refused(tmp_path, broadcast):
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{broadcast}\n")
    with pytest.raises(InputError, match=r"list\.m3u8: .*Playlists"):
        VideoReader(playlist)


class RtspCamera:
    """Sends MPEG-TS over RTP in the RTSP connection (RFC 2326, 10.12), then exits."""

    SDP = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n{}"
        "m=video 0 RTP/AVP 33\r\na=control:0\r\n"
    )

    def __init__(self, data, seconds=None):
        self._data = data
        self._sdp = self.SDP.format("" if seconds is None else f"a=range:npt=0-{seconds}\r\n")
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"rtsp://127.0.0.1:{self._server.getsockname()[1]}/x"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        connection, _ = self._server.accept()
        with connection, connection.makefile("rb") as requests:
            for request in self._requests(requests):
                method, _, rest = request.partition(" ")
                sequence = re.search(r"CSeq: *\d+", rest)[0]
                status, head, body = "200 OK", "Session: 1", ""
                if method == "DESCRIBE":
                    head, body = f"Content-Length: {len(self._sdp)}", self._sdp
                elif method == "SETUP" and "TCP" in rest:
                    head += "\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1"
                elif method == "SETUP":
                    status = "461 Unsupported transport"
                reply = f"RTSP/1.0 {status}\r\n{sequence}\r\n{head}\r\n\r\n{body}"
                connection.sendall(reply.encode())
                if method == "PLAY":
                    self._play(connection)
                    return

    def _requests(self, file):
        lines = []
        for line in file:
            lines.append(line.decode())
            if line == b"\r\n":
                yield "".join(lines)
                lines = []

    def _play(self, connection):
        for number, at in enumerate(range(0, len(self._data), 188 * 7)):
            packet = struct.pack(">BBHII", 0x80, 33, number, 900 * number, 1)
            packet += self._data[at : at + 188 * 7]
            connection.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
            time.sleep(0.002)


@pytest.mark.parametrize(
    ("seconds", "fault"), [(None, "the connection ended"), (60, None)], ids=["camera", "recording"]
)
def test_only_the_end_of_an_rtsp_stream_without_duration_is_an_interruption(
    broadcast, seconds, fault
):
    """Where an RTSP server is killed, FFmpeg reports an ordinary end of the file."""
    data = broadcast.read_bytes()
    reader = LiveReader(RtspCamera(data[: len(data) * 2 // 3], seconds).address)
    seen = [index_of(arrival.rgb()) for arrival in reader]
    assert seen[:5] == list(range(5)) and len(seen) < 20
    assert reader.fault == fault


@pytest.mark.parametrize(
    "content",
    [
        "ffconcat version 1.0\nfile camera.ts\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{folder}/camera.ts\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_file_played_live_opens_no_other_files(tmp_path, broadcast, content):
    (tmp_path / "camera.ts").write_bytes(broadcast.read_bytes())
    disguised = tmp_path / "clip.mp4"
    disguised.write_text(content.format(folder=tmp_path))
    with pytest.raises(InputError, match=r"clip.mp4: cannot be opened as a video"):
        LiveReader(disguised, JumpingClock())


def test_the_pixel_aspect_ratio_of_a_live_file_is_known(tmp_path):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10, pixel_aspect=Fraction(16, 11)) as writer:
        writer.write(np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))
    reader = LiveReader(path, JumpingClock())
    assert len(list(reader)) == 1
    assert reader.pixel_aspect == Fraction(16, 11)


def test_the_connection_of_a_source_is_closed_at_its_end_and_when_it_is_refused(
    broadcast, monkeypatch
):
    closed = []
    monkeypatch.setattr(HttpFile, "close", lambda self: closed.append(self))
    with served({"/cam.ts": broadcast.read_bytes(), "/x": b"no video"}) as (address, _):
        assert len(indices(f"{address}/cam.ts")) == 20
        assert len(closed) == 1
        with pytest.raises(InputError):
            LiveReader(f"{address}/x")
        assert len(closed) == 2, "once each"
