"""Verify that weights files and their configs cannot trigger requests or read secrets.

A local server replaces the Hugging Face hub and all proxies, and records requests; an environment
variable contains a secret, which must not appear in any output or request. Each attack is a weights
file whose config names a remote source, loaded in a separate process. Positive controls, which do
make a request or read the variable, show that the checks work::

    python -m benchmarks.untrusted_weights

The exit status is 1 if an attack succeeded or a control was not detected.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from queryinst_vis.checkpoints.weights import FORMAT, save_weights
from queryinst_vis.config import Config, config_to_dict
from queryinst_vis.models.build import build_model

ROOT = Path(__file__).parents[1]
VARIABLE = "FUZZ_SECRET"
BACKBONE = "model.backbone.name"
LOAD = (
    "import sys; from queryinst_vis import VideoTracker; "
    "VideoTracker.from_pretrained(sys.argv[1], device='cpu')"
)
CONTROLS = {
    "control: timm fetches from the hub": "import timm; timm.create_model('hf-hub:a/b')",
    "control: a reference is resolved": (
        "from omegaconf import OmegaConf; "
        f"print(OmegaConf.to_container(OmegaConf.create({{'a': '${{oc.env:{VARIABLE}}}'}}), "
        "resolve=True))"
    ),
}
"""Positive controls: programs that do what the attacks attempt, which must be detected."""

ATTACKS: dict[str, tuple[str, Any]] = {
    "hf-hub:": (BACKBONE, "hf-hub:a/b"),
    "hf_hub:": (BACKBONE, "hf_hub:a/b"),
    "hf-hub: with the secret": (BACKBONE, f"hf-hub:a/${{oc.env:{VARIABLE}}}"),
    "local-dir:": (BACKBONE, "local-dir:{folder}"),
    "http address as a name": (BACKBONE, "http://127.0.0.1:{port}/a"),
    "backbone weights at an address": ("model.backbone.weights", "http://127.0.0.1:{port}/a.pth"),
    "backbone weights on the hub": ("model.backbone.weights", "hf://a/b"),
    "initial weights at an address": ("train.init_weights", "http://127.0.0.1:{port}/a.pth"),
    "annotations at an address": ("data.train.annotations", "http://127.0.0.1:{port}/a.json"),
    "a class that is the secret": ("model.classes", [f"${{oc.env:{VARIABLE}}}"]),
    "a class that is the secret or x": ("model.classes", [f"${{oc.env:{VARIABLE},x}}"]),
    "a transform that is a function": ("input.transforms", [{"name": "os.system", "command": "x"}]),
}
"""Config key and malicious value, by description."""


@dataclass
class RecordingServer:
    """A server that answers every request with 404 and records it.

    Attributes:
        server: the listening socket.
        requests: the beginning of each request.
    """

    server: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return int(self.server.getsockname()[1])

    def _listen(self) -> None:
        while True:
            connection, _ = self.server.accept()
            with connection:
                connection.settimeout(2)
                try:
                    self.requests.append(connection.recv(4096).decode(errors="replace")[:80])
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                except OSError:
                    self.requests.append("a connection without a request")


def main() -> int:
    """Run all attacks and controls; returns the exit status."""
    server, secret = RecordingServer(), secrets.token_hex(8)
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = _environment(server, secret, folder)
        weights = folder / "valid.safetensors"
        config = Config()
        config.model.classes, config.model.backbone.name = ["a"], "resnet18"
        config.model.num_stages, config.model.num_queries = 1, 4
        save_weights(weights, build_model(config).eval(), config)
        for what, program in CONTROLS.items():
            detected = _run(program, [], environment, server, secret)
            failures += not detected
            print(f"{'detected' if detected else 'MISSED':10}{what}  {', '.join(detected)}")
        for what, (key, value) in {"no attack": ("seed", 0), **ATTACKS}.items():
            path = _write_attack(weights, folder / "attack.safetensors", config, key, value, server)
            effects = _run(LOAD, [str(path)], environment, server, secret)
            failures += bool(effects)
            print(f"{'SUCCEEDED' if effects else 'blocked':10}{what}  {', '.join(effects)}")
    print(f"{len(ATTACKS)} attacks, {failures} failures")
    return 1 if failures else 0


def _environment(server: RecordingServer, secret: str, home: Path) -> dict[str, str]:
    """Environment variables that direct requests to the hub or to any proxy to the server."""
    address = f"http://127.0.0.1:{server.port}"
    names = ("HF_ENDPOINT", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    plain = {key: value for key, value in os.environ.items() if not key.lower().startswith("hf_")}
    return {
        **plain,
        **dict.fromkeys(names, address),
        "no_proxy": "127.0.0.1",
        "HF_HUB_OFFLINE": "0",
        "HOME": str(home),
        "HF_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        VARIABLE: secret,
    }


def _write_attack(
    source: Path, path: Path, config: Config, key: str, value: Any, server: RecordingServer
) -> Path:
    """Valid weights except for one value of their config."""
    text = (
        json.dumps(value).replace("{folder}", str(path.parent)).replace("{port}", str(server.port))
    )
    values = config_to_dict(config)
    *groups, leaf = key.split(".")
    holder = values
    for group in groups:
        holder = holder[group]
    holder[leaf] = json.loads(text)
    save_file(load_file(source), path, {"format": FORMAT, "config": json.dumps(values)})
    return path


def _run(
    program: str,
    words: list[str],
    environment: dict[str, str],
    server: RecordingServer,
    secret: str,
) -> list[str]:
    """Run a program, whatever its exit status; return its requests and leaks of the secret."""
    server.requests.clear()
    run = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    effects = [
        f"requested {text.splitlines()[0] if text else 'nothing'}" for text in server.requests
    ]
    if secret in run.stdout + run.stderr or any(secret in text for text in server.requests):
        effects.append("leaked the secret")
    return effects


if __name__ == "__main__":
    sys.exit(main())
