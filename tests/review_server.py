"""A review server in a separate process."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class ReviewServer:
    """A running server; ``url`` is the address that it printed."""

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
        """Kill the server by SIGKILL."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def interrupt(self):
        """Press Ctrl-C; returns the exit status and standard error."""
        self._process.send_signal(signal.SIGINT)
        _, errors = self._process.communicate(timeout=20)
        return self._process.returncode, errors

    def request(self, path, method="GET", body=None, **headers):
        """Send a request, by default with the cookie; returns ``(status, headers, body)``.

        Header names have ``_`` for ``-``; None omits a header.
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
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, dict(response.getheaders()), content
