"""Live sources: frames as they come, and one clear line where none can come."""

import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import pytest

from queryinst_vis.errors import InputError
from queryinst_vis.video import LiveReader
from tests.clips import HEIGHT, WIDTH, index_of, write_video, write_with_pyav


def indices(source):
    return [index_of(arrival.rgb()) for arrival in LiveReader(source)]


@contextmanager
def served(files, promised=None):
    """A web server with these ``{path: bytes}``; yields its address and the paths asked for.

    It may promise more bytes than it has, and so break off.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = files.get(self.path.partition("?")[0])
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(promised or len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def broadcast(tmp_path_factory):
    """20 frames as they come from a camera on the network."""
    path = tmp_path_factory.mktemp("live") / "camera.ts"
    return write_with_pyav(path, format="mpegts", g="5", bf="0")


def test_a_file_is_played_at_its_own_pace(tmp_path):
    path = write_video(tmp_path / "clip.mp4", frames=6, fps=10)
    arrivals = list(LiveReader(path))
    assert [index_of(arrival.rgb()) for arrival in arrivals] == list(range(6))
    assert arrivals[0].rgb().shape == (HEIGHT, WIDTH, 3)
    for number, arrival in enumerate(arrivals):
        late = arrival.seconds - arrivals[0].seconds - number / 10
        assert -1e-6 < late < 5, "a frame may be late on a busy machine, but never early"


def test_a_pipe_is_read_as_fast_as_it_is_filled(tmp_path, broadcast):
    pipe = tmp_path / "camera"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=[broadcast.read_bytes()], daemon=True).start()
    assert indices(pipe) == list(range(20))


def test_an_address_is_read_and_named_without_its_secrets(broadcast):
    with served({"/yard/cam.ts": broadcast.read_bytes()}) as (address, asked):
        reader = LiveReader(address.replace("://", "://me:secret@") + "/yard/cam.ts?token=secret")
        assert [index_of(arrival.rgb()) for arrival in reader] == list(range(20))
    assert reader.fault is None
    assert reader.name.startswith("127.0.0.1_") and reader.name.endswith("_yard_cam.ts")
    assert set(asked) == {"/yard/cam.ts?token=secret"}


def test_a_playlist_is_refused_before_what_it_names_is_fetched(broadcast):
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n/other.ts\n#EXT-X-ENDLIST\n"
    files = {"/live.m3u8": playlist.encode(), "/other.ts": broadcast.read_bytes()}
    with served(files) as (address, asked), pytest.raises(InputError, match="cannot be opened"):
        LiveReader(f"{address}/live.m3u8")
    assert asked and "/other.ts" not in asked


def test_a_broadcast_joined_midway_begins_with_what_can_be_decoded(tmp_path, broadcast):
    path = tmp_path / "late.ts"
    data = broadcast.read_bytes()
    path.write_bytes(data[len(data) * 2 // 5 // 188 * 188 :])
    seen = indices(path)
    assert 5 <= len(seen) <= 15 and seen == list(range(20 - len(seen), 20))


def test_a_source_that_breaks_off_has_shown_what_it_had(broadcast):
    data = broadcast.read_bytes()
    with served({"/cam.ts": data}, promised=2 * len(data)) as (address, _):
        reader = LiveReader(f"{address}/cam.ts")
        assert len(list(reader)) == 20
    assert reader.fault == "Input/output error"


def test_a_source_that_ends_before_its_first_frame(tmp_path):
    path = tmp_path / "empty.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.start_encoding()
    with pytest.raises(InputError, match=r"empty.avi: no picture came .* \(it ended\)"):
        list(LiveReader(path))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("none.mp4", "live source none.mp4: no such file or device"),
        (".", "is a folder, not a video"),
        ("notes.txt", "holds no pictures, so it is not a video"),
        ("concat:a.ts|b.ts", "no such file or device"),
        ("file:///etc/hostname", "'file' is no address that can be opened; those that can begin"),
        ("http://127.0.0.1:9/x?token=secret", "http://127.0.0.1:9/x: cannot be opened as a video"),
        ("rtsp://me:secret@127.0.0.1:9/x", "rtsp://127.0.0.1:9/x: cannot be opened as a video"),
        ("/dev/null", "live source /dev/null: cannot be opened as a video"),
    ],
)
def test_a_bad_source_is_one_line(source, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("hello world\n" * 50)
    with pytest.raises(InputError) as caught:
        list(LiveReader(source))
    message = str(caught.value)
    assert complaint in message and "secret" not in message and "\n" not in message


def test_reading_a_source_that_is_no_file_as_one_says_what_to_do(tmp_path):
    from queryinst_vis.video import VideoReader

    os.mkfifo(tmp_path / "camera")
    for source in (tmp_path / "camera", "rtsp://127.0.0.1/x"):
        with pytest.raises(InputError, match="are read live"):
            VideoReader(source)
