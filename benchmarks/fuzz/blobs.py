"""Corruption of arbitrary bytes, as by disks, networks and users."""

from __future__ import annotations

import gzip
import random

FOREIGN = {
    "nothing": b"",
    "one byte": b"\x00",
    "text": b"hello, world\n",
    "an HTML page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n",
    "a zip's end alone": b"PK\x05\x06" + bytes(18),
    "a pickle that calls": b"cos\nsystem\n(S'touch executed'\ntR.",
    "a playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    "a list for FFmpeg": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "zeros": bytes(20000),
    "deep JSON": b"[" * 50000,
}
"""Contents of another type."""

NUMBERS = [0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63]


def corrupt_bytes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """``data`` with one to three errors, mostly near its ends, and their description."""
    if rng.random() < 0.1:
        name = rng.choice([*FOREIGN, "gzip"])
        return (gzip.compress(data, mtime=0) if name == "gzip" else FOREIGN[name]), name
    notes = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        data, note = rng.choice(_FAULTS)(data, rng)
        notes.append(note)
    return data, ", ".join(notes)


def _random_offset(data: bytes, rng: random.Random) -> int:
    size = len(data)
    near = rng.random()
    if near < 0.4:
        return rng.randrange(min(size, 600) or 1)
    if near < 0.6:
        return max(0, size - 1 - rng.randrange(min(size, 600) or 1))
    return rng.randrange(size or 1)


def _cut(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    at = _random_offset(data, rng)
    return data[:at], f"cut at {at} of {len(data)}"


def _flip(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    changed = bytearray(data)
    count = rng.choice([1, 1, 4, 32])
    for _ in range(count if data else 0):
        changed[_random_offset(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed), f"{count} bits flipped"


def _overwrite(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    at, size = _random_offset(data, rng), rng.choice([1, 4, 16, 300, 4096])
    fill = rng.choice([bytes(size), b"\xff" * size, rng.randbytes(size)])
    fill = fill[: max(0, len(data) - at)]
    return data[:at] + fill + data[at + len(fill) :], f"{len(fill)} bytes overwritten at {at}"


def _number(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A wrong length, count or offset."""
    at, width = _random_offset(data, rng), rng.choice([1, 2, 4, 8])
    order = rng.choice(["little", "big"])
    value = rng.choice(NUMBERS) % 256**width
    field = value.to_bytes(width, order)[: max(0, len(data) - at)]
    return data[:at] + field + data[at + len(field) :], f"{value} ({width} bytes) at {at}"


def _remove(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    at, size = _random_offset(data, rng), rng.choice([1, 7, 188, 1000])
    return data[:at] + data[at + size :], f"{size} bytes lost at {at}"


def _repeat(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    at, size = _random_offset(data, rng), rng.choice([1, 8, 500, 5000])
    return data[: at + size] + data[at:], f"{size} bytes twice at {at}"


def _insert(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    at, size = _random_offset(data, rng), rng.choice([1, 3, 64, 2000])
    return data[:at] + rng.randbytes(size) + data[at:], f"{size} bytes too many at {at}"


def _append(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    tail = rng.choice([b"\n", bytes(1000), rng.randbytes(3000), data[:5000]])
    return data + tail, f"{len(tail)} bytes behind the end"


_FAULTS = (
    _cut,
    _cut,
    _flip,
    _flip,
    _overwrite,
    _number,
    _number,
    _remove,
    _repeat,
    _insert,
    _append,
)
