"""A review's server in a process of its own, which tests talk to and kill."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class ReviewServer:
    """Runs until it is killed; ``url`` is the address that it has printed."""

    def __init__(self, folder, video=None, port=0):
        options = ["--port", str(port), *(["--video", str(video)] if video else [])]
        command = [sys.executable, "-m", "queryinst_vis", "review", str(folder), *options]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.url = self._process.stdout.readline().strip().removeprefix("open ")
        assert self.url, self._process.stderr.read()
        address = urlsplit(self.url)
        self.port, self.token = address.port, parse_qs(address.query)["token"][0]
        self.host = f"127.0.0.1:{self.port}"
        self.cookie = f"queryinst-vis-review-{self.port}={self.token}"

    def kill(self):
        """SIGKILL: nothing is finished."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def interrupt(self):
        """Ctrl-C; returns the exit status and what was said on standard error."""
        self._process.send_signal(signal.SIGINT)
        _, errors = self._process.communicate(timeout=20)
        return self._process.returncode, errors

    def ask(self, path, method="GET", body=None, **headers):
        """``(status, headers, body)`` of a request with the cookie, unless headers say otherwise.

        Names of headers are written with ``_`` for ``-``; None leaves one out.
        """
        sent = {"Host": self.host, "Cookie": self.cookie}
        if method == "POST":
            sent["Origin"] = f"http://{self.host}"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content


def wait_until(true, seconds=20):
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)
