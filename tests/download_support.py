"""A local web server for one file, with configurable failures."""

from __future__ import annotations

import hashlib
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 40_000  # 10 MB

SHA256 = hashlib.sha256(CONTENT).hexdigest()

WRONG = "0" * 64


class Server(ThreadingHTTPServer):
    """Serves ``content`` at any path, and records the requests.

    Attributes:
        cut: close the connection after so many bytes of each answer.
        resumes: obeys Range headers.
        length: says how long the answer is.
        status, redirect: answer with this status, without content, and this Location.
        ranges: the Range header of every request, None where there was none.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.resumes, self.length = CONTENT, None, True, True
        self.redirect, self.status = None, None
        self.ranges = []

    def url(self, name="weights-5a8f1998.pth"):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers["Range"]
        server.ranges.append(wanted)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.resumes else 0
        body = b"" if server.status else server.content[start:]
        self.send_response(server.status or (416 if not body else 206 if start else 200))
        if server.redirect:
            self.send_header("Location", server.redirect)
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut])

    def log_message(self, *_):
        """Keep the tests' output quiet."""


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())
