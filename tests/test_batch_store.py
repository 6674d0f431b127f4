"""Data sets on S3 (moto's server) with injected network faults: files are complete or absent."""

import itertools
import socket
import threading
import time
from urllib.parse import quote

import pytest

from queryinst_vis.batch import store as store_module
from queryinst_vis.batch.compaction import compact
from queryinst_vis.batch.store import Store
from queryinst_vis.batch.tables import done_keys
from queryinst_vis.errors import InputError
from tests.batch_support import find, track_all, use_tiny_model, write_clip

pyarrow = pytest.importorskip("pyarrow", reason="object stores need pyarrow: extra 'batch'")
parquet = pytest.importorskip("pyarrow.parquet")
moto = pytest.importorskip("moto.moto_server.werkzeug_app", reason="needs moto[server]")
serving = pytest.importorskip("werkzeug.serving")

KEY = "AKIATESTKEY"
SECRET = "s3cr3t"
SILENCE = 5.0  # seconds; the client waits for three


class FaultyServer:
    """Moto's S3 server with injected faults.

    Attributes:
        fault: function from an HTTP method to "500", "400" (which the client itself does not
            retry), "cut" (the connection ends during the upload), "lost" (the request is
            executed, but its response lost), "silence" (no response until the client times out)
            or None.
        injected: the faults so far.
    """

    def __init__(self):
        self.fault = lambda method: None
        self.injected = []
        self._s3 = moto.DomainDispatcherApplication(moto.create_backend_app)
        self._server = serving.make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _answer(self, environ, start_response):
        fault = self.fault(environ["REQUEST_METHOD"])
        if fault is None:
            return self._s3(environ, start_response)
        self.injected.append(fault)
        if fault.isdigit():
            environ["wsgi.input"].read()
            start_response(f"{fault} Error", [("Content-Length", "0")])
            return [b""]
        if fault == "silence":
            time.sleep(SILENCE)
        elif fault == "cut":
            environ["wsgi.input"].read(10)
        else:
            b"".join(self._s3(environ, lambda *_: None))
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return []

    def stop(self):
        self._server.shutdown()


@pytest.fixture(scope="module")
def server():
    server = FaultyServer()
    yield server
    server.stop()


@pytest.fixture
def bucket(server, request, monkeypatch):
    """A function that returns addresses in a bucket of this test."""
    monkeypatch.setattr(store_module, "PAUSE", 0.01)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    host = quote(f"127.0.0.1:{server.port}", safe="")
    query = f"endpoint_override={host}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    name = f"bucket-{abs(hash(request.node.name))}"

    def address(path):
        return f"s3://{KEY}:{SECRET}@{name}/{path}?{query}"

    system, _ = store_module.file_system_of(address(""))
    system.create_dir(name)
    yield address
    server.fault = lambda method: None


def test_files_are_complete_or_absent(bucket, tmp_path):
    store = Store(bucket("out"))
    assert SECRET not in store.name and store.name.endswith("/out")
    assert store.read("a/b.txt") is None and store.list("a") == {}
    store.put_bytes(b"hello", "a/b.txt")
    (tmp_path / "large").write_bytes(bytes(12 << 20))
    store.put(tmp_path / "large", "a/large")
    assert store.list("a") == {"b.txt": 5, "large": 12 << 20}
    assert store.read("a/b.txt") == b"hello"
    store.delete("a/b.txt")
    store.delete("a/b.txt")
    assert list(store.list("a")) == ["large"]


def test_a_run_reads_from_and_writes_to_a_store(bucket, tmp_path, monkeypatch):
    use_tiny_model(monkeypatch)
    videos, out = Store(bucket("videos")), bucket("out")
    for number in range(2):
        clip = write_clip(tmp_path / f"{number}.mp4", 3 + number)
        videos.put(clip, f"day/{number}.mp4")
    _, summary = track_all([bucket("videos")], out, streams=2)
    assert summary.done == 2, str(summary)
    _, local = track_all([tmp_path], tmp_path / "local")
    assert local.done == 2
    row = Store(out).open_parquet(f"videos/{min(Store(out).list('videos'))}").read().to_pylist()[0]
    assert row["path"].startswith("s3://bucket-") and SECRET not in str(row)
    assert compact(Store(out)) == 6
    plan, _ = track_all([bucket("videos/day/*.mp4")], out)
    assert (len(plan.todo), plan.done) == (0, 2)


@pytest.mark.parametrize(
    "fault", ["500", "cut", "lost", pytest.param("silence", marks=pytest.mark.slow)]
)
def test_network_faults_lose_nothing(bucket, server, tmp_path, monkeypatch, fault):
    use_tiny_model(monkeypatch)
    clips = [write_clip(tmp_path / f"{number}.mp4", 3) for number in range(3)]
    counts = itertools.count()

    def inject(method):  # a file is written by three requests: the faults hit each kind
        return fault if method in ("PUT", "POST") and next(counts) % 10 == 0 else None

    server.fault = inject
    _, summary = track_all(clips, bucket("out"))
    server.fault = lambda method: None
    assert summary.done == 3 and fault in server.injected
    store = Store(bucket("out"))
    for table in ("videos", "tracks", "detections"):
        names = list(store.list(table))
        assert len(names) == 3
        for name in names:
            store.open_parquet(f"{table}/{name}").read()
    assert len(done_keys(store)) == 3


@pytest.mark.parametrize("fault", ["500", "cut"])
def test_videos_are_read_despite_network_faults(bucket, server, tmp_path, monkeypatch, fault):
    use_tiny_model(monkeypatch)
    clips = [write_clip(tmp_path / "clips" / f"{number}.mp4", 3 + number) for number in range(2)]
    for clip in clips:
        Store(bucket("videos")).put(clip, clip.name)
    counts = itertools.count()
    videos = bucket("videos")
    [first, second] = find([videos])

    def inject(method):
        return fault if method in ("GET", "HEAD") and next(counts) % 5 == 0 else None

    server.fault = inject
    _, summary = track_all([videos], tmp_path / "out")
    server.fault = lambda method: None
    assert summary.done == 2 and fault in server.injected, str(summary)
    track_all([tmp_path / "clips"], tmp_path / "local")
    for table in ("tracks", "detections"):
        ours, local = (
            [row["frame"] if "frame" in row else row["track_id"] for row in rows(out, table)]
            for out in (tmp_path / "out", tmp_path / "local")
        )
        assert sorted(ours) == sorted(local)
    assert {first.name, second.name} == {"0", "1"}


def rows(out, table):
    return parquet.read_table(out / table).to_pylist()


def test_retries_of_a_failing_store_are_bounded(bucket, server, tmp_path, monkeypatch):
    out = bucket("out")
    clip = write_clip(tmp_path / "clip.mp4", 2)
    requests = []

    def inject(method):
        requests.append(method)
        return "400" if method == "PUT" else None

    store = Store(out)
    server.fault = inject
    monkeypatch.setattr(store_module, "ATTEMPTS", 3)
    with pytest.raises(InputError, match=r"/out/clip\.mp4: failed 3 times in \d+ s") as caught:
        store.put(clip, "clip.mp4")
    assert SECRET not in str(caught.value)
    by_count = len(requests)
    monkeypatch.setattr(store_module, "RETRY_TIMEOUT", 0.0)
    with pytest.raises(InputError, match="failed 1 times"):
        store.put(clip, "clip.mp4")
    server.fault = lambda method: None
    assert len(requests) - by_count == by_count / store_module.ATTEMPTS
    assert store.read("clip.mp4") is None


def test_an_unwritable_table_is_an_output_failure(tmp_path, monkeypatch):
    use_tiny_model(monkeypatch)
    clip = write_clip(tmp_path / "clip.mp4", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tracks").write_text("a file where a folder should be")
    _, summary = track_all([clip], tmp_path / "out", attempts=1)
    assert [each.kind for each in summary.failures] == ["output"]


def test_an_empty_folder_is_rejected_without_printing_the_secret(bucket):
    with pytest.raises(InputError, match="contains no video") as caught:
        find([bucket("nothing")])
    assert SECRET not in str(caught.value)
