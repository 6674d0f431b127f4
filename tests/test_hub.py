"""Weights from the Hugging Face Hub, which a local server stands in for."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants, file_download

from queryinst_vis import VideoTracker, cli
from queryinst_vis.checkpoints import transfer
from queryinst_vis.checkpoints.catalogue import find_weights
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.errors import InputError
from queryinst_vis.models.backbone import Backbone
from queryinst_vis.models.build import build_model
from queryinst_vis.utils import hub
from tests.tiny import tiny_config

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """One model, ``someone/tracker``, with chosen files; counts the bytes sent."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.licence = "apache-2.0"
        self.sent: list[str] = []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        path = self.path.partition("?")[0]
        if path == "/":
            return self._send(b"the hub")
        if not path.startswith(("/api/models/someone/tracker", "/someone/tracker/resolve/")):
            return self._refuse("RepoNotFound")
        if path.startswith("/api/"):
            revision = path.partition("/revision/")[2] or "main"
            if revision not in ("main", "v1", COMMIT):
                return self._refuse("RevisionNotFound")
            files = [
                {"rfilename": name, "size": len(content), "blobId": "0" * 40}
                for name, content in self.server.files.items()
            ]
            info = {"id": "someone/tracker", "sha": COMMIT, "siblings": files}
            info["cardData"] = {"license": self.server.licence}
            return self._send(json.dumps(info).encode(), {"Content-Type": "application/json"})
        name = path.split("/", 5)[5]
        if name not in self.server.files:
            return self._refuse("EntryNotFound")
        if self.command == "GET":
            self.server.sent.append(name)
        etag = f'"{abs(hash(name)):040x}"'
        return self._send(self.server.files[name], {"ETag": etag, "X-Repo-Commit": COMMIT})

    def _refuse(self, code):
        self._send(b"{}", {"X-Error-Code": code}, status=404)

    def _send(self, body, headers=None, status=200):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        """Keep the tests' output quiet."""


def ask(monkeypatch, address):
    """Set the address of the hub."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # older releases keep a copy there
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of huggingface_hub, in online mode."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "hub"


@pytest.fixture
def weights(tmp_path):
    save_weights(tmp_path / "tiny.safetensors", build_model(tiny_config()), tiny_config())
    return (tmp_path / "tiny.safetensors").read_bytes()


@pytest.fixture
def server(cache, weights, monkeypatch):
    with Hub() as server:
        server.files = {"README.md": b"# A tracker", "tiny.safetensors": weights}
        ask(monkeypatch, server.address)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def nobody(cache, monkeypatch):
    """An unreachable hub."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        ask(monkeypatch, f"http://127.0.0.1:{unused.getsockname()[1]}")
        yield


@pytest.mark.parametrize(
    "address",
    [
        "hf://someone/tracker",
        "hf://someone/tracker/tiny.safetensors",
        "hf://someone/tracker@v1",
        f"hf://someone/tracker/tiny.safetensors@{COMMIT}",
    ],
)
def test_hub_weights_are_loaded_as_a_model(server, weights, capsys, address):
    path = find_weights(address)
    assert path.read_bytes() == weights
    size = f"{len(weights) / 1e6:.1f} MB"
    said = f"fetching tiny.safetensors of someone/tracker: {size}, licence: apache-2.0\n"
    assert capsys.readouterr().err.startswith(said)
    assert VideoTracker.from_pretrained(address, "cpu").class_names == tiny_config().model.classes


def test_hub_weights_are_downloaded_once(server, capsys):
    find_weights("hf://someone/tracker")
    capsys.readouterr()
    assert cli.main(["weights", "hf://someone/tracker"]) == 0
    shown = capsys.readouterr()
    assert shown.out.strip().endswith("tiny.safetensors") and "fetching" not in shown.err
    assert server.sent == ["tiny.safetensors"]


def test_downloaded_hub_weights_need_no_network(server, weights, monkeypatch):
    address = "hf://someone/tracker/tiny.safetensors"
    find_weights(address)
    ask(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "why_no_answer", lambda endpoint: "it is down")
    assert find_weights(address).read_bytes() == weights
    assert find_weights("hf://someone/tracker").read_bytes() == weights
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_weights(address).read_bytes() == weights
    with pytest.raises(InputError, match="HF_HUB_OFFLINE"):
        find_weights("hf://someone/other")


def test_model_safetensors_is_preferred(server, weights):
    server.files["model.safetensors"] = weights
    assert find_weights("hf://someone/tracker").name == "model.safetensors"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://tracker", "expected hf://OWNER/NAME, .*with @REVISION"),
        ("hf://no..one/tracker", "error of the Hugging Face Hub"),
        ("hf://someone/else", "has no such model, or it is private; check OWNER/NAME"),
        ("hf://someone/tracker@v2", "no such revision"),
        ("hf://someone/tracker/tin.safetensors", "no such file; .* are: tiny.safetensors"),
        ("hf://someone/tracker/README.md", "weights are .safetensors or .ckpt files"),
    ],
)
def test_an_unknown_hub_model_is_refused_in_one_line(server, capsys, address, message):
    with pytest.raises(InputError, match=message):
        find_weights(address)
    assert cli.main(["weights", address]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(InputError, match=message):
        VideoTracker.from_pretrained(address)
    assert server.sent == []


def test_several_weight_files_require_a_choice(server):
    server.files["other.safetensors"] = b""
    with pytest.raises(InputError, match=r"tiny\.saf.*, other\.saf"):
        find_weights("hf://someone/tracker")
    server.files = {"README.md": b""}
    with pytest.raises(InputError, match=r"no \.safetensors file"):
        find_weights("hf://someone/tracker")


def test_a_file_of_another_project_is_not_executed(server):
    server.files = {"model.safetensors": b"\x80\x04cos\nsystem\n."}
    with pytest.raises(InputError, match="convert"):
        load_model("hf://someone/tracker", "cpu")


def test_without_a_connection_there_are_no_retries(nobody, monkeypatch):
    """One request, without the retries of huggingface_hub."""
    asked = []
    ask_once = hub.why_no_answer
    monkeypatch.setattr(hub, "why_no_answer", lambda end: asked.append(end) or ask_once(end))
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waits for another try"))
    with pytest.raises(InputError, match=r"127\.0\.0\.1 cannot be reached"):
        find_weights("hf://someone/tracker/tiny.safetensors")
    assert len(asked) == 1
    with pytest.raises(InputError, match=r"resnet18\.tv_in1k: "):
        Backbone("resnet18", pretrained=True)
    assert len(asked) == 2
    assert not constants.HF_HUB_OFFLINE


def test_an_unresponsive_hub_times_out(cache, monkeypatch):
    monkeypatch.setattr(hub, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ask(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(InputError, match=r"127.0.0.1 (does not answer|cannot be reached)"):
            find_weights("hf://someone/tracker/tiny.safetensors")


def test_missing_pretrained_weights_are_refused():
    with pytest.raises(InputError, match="timm has no pretrained weights"):
        Backbone("cspresnet50d", pretrained=True)


def test_loading_a_config_downloads_nothing(server):
    config = tiny_config()
    with pytest.raises(InputError, match=r"train.init_weights .*'queryinst-vis weights hf://some"):
        transfer.initialise_from(build_model(config), config, "hf://someone/tracker")
    assert server.sent == []
