"""Responses of local servers to downloads of weights and to ``track --live``."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from unittest import mock

from benchmarks.fuzz.blobs import FOREIGN, NUMBERS, corrupt_bytes
from benchmarks.fuzz.case import Case, Context
from benchmarks.fuzz.media import TRACK_FILES

ELSEWHERE = "192.0.2.1"  # an unassigned address for documentation (RFC 5737)
PATIENCE = 3  # seconds, instead of the 30 s that a download waits for data


def serve(answers: list[Iterator[bytes]]) -> int:
    """Answer one connection after the other, and none after the last answer.

    Args:
        answers: for each connection, the pieces of bytes to send before it is closed.

    Returns:
        The port on 127.0.0.1.
    """
    server = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        for pieces in answers:
            connection, _ = server.accept()
            with suppress(OSError), connection:
                connection.settimeout(10)
                connection.recv(65536)
                for piece in pieces:
                    connection.sendall(piece)
        server.close()

    threading.Thread(target=work, daemon=True).start()
    return server.getsockname()[1]


def answer(data: bytes, rng: random.Random) -> tuple[Iterator[bytes], str]:
    """An HTTP response with ``data``: its pieces, and a description of its errors."""
    kind = rng.randrange(14)
    head = b"HTTP/1.1 200 OK\r\n"
    length = b"Content-Length: %d\r\n" % len(data)
    if kind == 0:
        return iter([head, length, b"\r\n", data]), "valid"
    if kind == 1:
        return iter([head, b"\r\n", data]), "no length"
    if kind == 2:
        text = rng.choice(["abc", "-1", "", "1e3", "0x10", "9" * 40, "٣", *map(str, NUMBERS)])
        wrong_length = f"Content-Length: {text}\r\n".encode()
        return iter([head, wrong_length, b"\r\n", data]), f"length {text}"
    if kind == 3:
        return iter([head, length, b"\r\n", data[: len(data) // 2]]), "truncated"
    if kind == 4:
        status = rng.choice([204, 206, 301, 304, 400, 403, 404, 416, 429, 500, 503, 999, 42, "abc"])
        return iter([f"HTTP/1.1 {status} X\r\n\r\n".encode(), data]), f"status {status}"
    if kind == 5:
        where = [
            "file:///etc/passwd",
            f"http://{ELSEWHERE}/x",
            "ftp://x/y",
            "/again",
            "//",
            "http://[",
        ]
        place = rng.choice([*where, "data:,x", "gopher://127.0.0.1/x", ""])
        return iter([f"HTTP/1.1 302 X\r\nLocation: {place}\r\n\r\n".encode()]), f"to {place}"
    if kind == 6:
        corrupted, note = corrupt_bytes(data, rng)
        size = b"Content-Length: %d\r\n" % len(corrupted)
        return iter([head, size, b"\r\n", corrupted]), note
    if kind == 7:
        chunks = b"%x\r\n" % len(data) + data + b"\r\n" + rng.choice([b"0\r\n\r\n", b"", b"zz\r\n"])
        return iter([head, b"Transfer-Encoding: chunked\r\n\r\n", chunks]), "chunked"
    if kind == 8:
        return iter(
            [rng.choice([b"", b"\x00" * 100, b"HTTP", b"SSH-2.0-x\r\n", *FOREIGN.values()])]
        ), "not HTTP"
    if kind == 9:
        fields = rng.choice(
            [b"X: " + b"y" * 70000 + b"\r\n", b"X: y\r\n" * 500, b": \r\n", b"\xff\xfe: \xff\r\n"]
        )
        return iter([head, fields, length, b"\r\n", data]), "odd headers"
    if kind == 10:
        return iter(
            [head, b"Content-Encoding: gzip\r\n", length, b"\r\n", data]
        ), "wrongly marked as gzip"
    if kind == 11:
        return itertools.chain([head, b"\r\n"], _endless()), "endless"
    if kind == 12:
        return _silent([head, length, b"\r\n", data[:100]]), "stalls after 100 bytes"
    drops = (piece for byte in data[:40] for piece in _slowly(bytes([byte])))
    return itertools.chain([head, length, b"\r\n"], drops), "slow, then truncated"


def _silent(pieces: list[bytes]) -> Iterator[bytes]:
    yield from pieces
    time.sleep(25)


def _endless() -> Iterator[bytes]:
    """13 MB per second, so that a minute of it fits on any disk."""
    while True:
        yield bytes(1 << 16)
        time.sleep(0.005)


def _slowly(piece: bytes) -> Iterator[bytes]:
    yield piece
    time.sleep(0.02)


def download(context: Context) -> Case:
    """``weights NAME`` from a server, with leftovers of earlier runs or versions in the cache."""
    from queryinst_vis.checkpoints import catalogue
    from queryinst_vis.checkpoints import download as module

    rng = context.random
    data = (context.samples / "checkpoint" / "track_head.pth").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    answers, notes = [], []
    for _ in range(rng.choice([1, 1, 2])):
        pieces, note = answer(data, rng)
        answers.append(pieces)
        notes.append(note)
    port = serve(answers)
    name = f"fuzz-{digest[:8]}.pth"
    entry = catalogue.PublicCheckpoint(f"http://127.0.0.1:{port}/{name}", "COCO", "fuzz", "-")
    notes.append(_leave_in_cache(context, name, data, digest))

    def run() -> int:
        from queryinst_vis import cli

        with (
            mock.patch.dict(catalogue.CATALOGUE, {"fuzz": entry}),
            mock.patch.object(module, "TIMEOUT", PATIENCE),
        ):
            return cli.main(["weights", "fuzz", "--debug"])

    keeps = ["fuzz.safetensors", "pins.json", ".lock", f"{name}.part"]
    changes = [f"{name}.part", "pins.json", "*.json"]
    return Case(run, ", ".join(filter(None, notes)), ["fuzz.safetensors"], keeps, changes)


def _leave_in_cache(context: Context, name: str, data: bytes, digest: str) -> str:
    rng, part = context.random, context.folder / f"{name}.part"
    kind = rng.randrange(8)
    if kind == 0:
        part.write_bytes(data[: rng.choice([0, 1, 1000, len(data)])])
        return "partial file"
    if kind == 1:
        (context.folder / "aim").write_bytes(b"precious")
        part.symlink_to("aim")
        return "partial file is a link"
    if kind == 2:
        texts = ["", "{", "[]", "null", "7", json.dumps({name: 5}), json.dumps({name: ""})]
        texts += [
            json.dumps({name: None}),
            json.dumps({name: digest}),
            json.dumps({name: "0" * 64}),
        ]
        text = rng.choice(texts)
        (context.folder / "pins.json").write_text(text)
        return f"pins {text[:20]}"
    if kind == 3:
        part.mkdir()
        return "partial file is a folder"
    return ""


def live(context: Context) -> Case:
    """``track --live`` on a URL; FFmpeg may connect several times."""
    rng = context.random
    name = rng.choice(["clip.ts", "plain.mp4", "clip.mkv", "clip.avi", "clip.gif"])
    data = (context.samples / "video" / name).read_bytes()
    pieces, note = answer(data, rng)
    port = serve([pieces])
    words = [
        "track",
        f"http://127.0.0.1:{port}/{name}",
        "--live",
        "--max-size",
        "64",
        "--out",
        "out",
    ]
    words += ["--max-frames", "20", "--weights", str(context.samples / "tiny.safetensors")]
    outputs = ["out/*.mp4", *(f"out/{name}" for name in TRACK_FILES)]
    is_truncated = note in ("truncated", "slow, then truncated")
    must_reject = "the connection broke before the declared length" if is_truncated else None
    return Case(words, f"{name}: {note}", outputs, must_reject=must_reject, reaches=(ELSEWHERE,))
