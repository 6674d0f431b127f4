"""HTTP servers for live sources: files, ranges, and broken connections."""

import socket
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def served(files, promised=None, ranges=False):
    """A web server with these ``{path: bytes}``; yields its address and the requested paths.

    It may announce more bytes than it sends, and it supports range requests.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = files.get(self.path.partition("?")[0])
            start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if ranges else 0
            self.send_response(404 if content is None else 206 if start else 200)
            if ranges:
                self.send_header("Accept-Ranges", "bytes")
                content = content[start:]
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


@contextmanager
def replying(data, head, end=b""):
    """A server that sends these bytes for every request and then closes the connection."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, suppress(OSError):
                    connection.recv(65536)
                    connection.sendall(head + data + end)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/cam.ts"
    finally:
        server.close()


def in_chunks(data):
    return b"".join(
        b"%x\r\n%s\r\n" % (len(part), part)
        for part in (data[at : at + 1000] for at in range(0, len(data), 1000))
    )


HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
