"""Resumable download of a file, verified by its hash."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import checksum
from queryinst_vis.utils.progress import ProgressBar

BLOCK = 1 << 20  # bytes per read
TIMEOUT = 10  # seconds without data
LARGEST = 20_000_000_000  # maximum file size in bytes
_HASH = re.compile(r"[0-9a-f]{8}.*")  # at least a prefix
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def download(
    url: str, path: Path, sha256: str, announce: Callable[[int], None] | None = None
) -> str:
    """Download a file, or resume an interrupted download.

    Until it is complete and verified, the data are in ``path`` + ``.part``, which is kept if
    the connection breaks, and resumed by the next call. A file with a wrong hash is deleted.

    Args:
        url: https, or http on the local machine.
        path: the target file, in an existing folder.
        sha256: the expected hash in hexadecimal, or its prefix.
        announce: called with the total size in bytes before the download.

    Returns:
        The file's full SHA-256.

    Raises:
        InputError: the server cannot be reached or does not have the file, the size is unknown or
            above ``LARGEST``, the connection broke, the hash is wrong, or
            ``path`` + ``.part`` is a link.
    """
    part = path.with_name(path.name + ".part")
    if not _HASH.fullmatch(sha256):
        raise InputError(f"{url}: the expected SHA-256 is {sha256!r}, not a hexadecimal hash")
    if part.is_symlink() or (part.exists() and not part.is_file()):
        raise InputError(f"{part}: is a link or not a regular file; remove it")
    try:
        _fetch(url, part, announce)
    except (OSError, HTTPException) as error:
        raise InputError(_explain(url, part, error)) from error
    found = checksum(part)
    if not found.startswith(sha256):
        part.unlink()
        raise InputError(
            f"{url}: the downloaded file has SHA-256 {found}, expected "
            f"{sha256}{'...' * (len(sha256) < 64)}; it was deleted. Try again, or download it "
            "manually and convert it with "
            "'queryinst-vis convert-checkpoint'"
        )
    part.replace(path)
    return found


def _fetch(url: str, part: Path, announce: Callable[[int], None] | None) -> None:
    """Append the missing data to ``part``, which is complete on return."""
    done = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, done)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # the file is already complete; its hash is checked later
            return
        raise
    with response:
        if response.status != 206:  # the server sends the whole file
            done = 0
        total = done + _length(response, url)
        if total > LARGEST:
            raise InputError(f"{url}: has {total / 1e9:.1f} GB, more than any checkpoint")
        if announce is not None:
            announce(total)
        with part.open("ab" if done else "wb") as file:
            done += _copy(response, file, done, total)
    if done < total:
        raise ConnectionError(f"{total - done} bytes are missing")


def _length(response: HTTPResponse, url: str) -> int:
    """The content length, which limits how much is read.

    Raises:
        InputError: missing or invalid content length.
    """
    text = response.headers.get("Content-Length")
    if text is None or not _LENGTH.fullmatch(text):
        fault = "no content length" if text is None else f"a content length of {text[:40]!r}"
        raise InputError(
            f"{url}: the server sent {fault}, so the download might never end; download the file "
            "manually and convert it with 'queryinst-vis convert-checkpoint'"
        )
    return int(text)


def _open(url: str, start: int) -> HTTPResponse:
    _check_scheme(url)
    # no content encoding, so that the data received are those of the file
    headers = {"User-Agent": "queryinst-vis", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except InputError:
        raise
    except ValueError as error:  # a server may redirect to anything
        raise InputError(f"{url}: redirects to an invalid URL ({error})") from error


def _check_scheme(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise InputError(f"{url}: only https is supported")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but only to https."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _copy(response: HTTPResponse, file: IO[bytes], done: int, total: int) -> int:
    """Copy the response to the file, with a progress bar; returns the number of bytes."""
    name = urlsplit(response.url).path.rpartition("/")[2]
    copied = 0
    with ProgressBar(name, total, unit="bytes", done=done) as progress:
        while block := response.read(BLOCK):
            copied += file.write(block)
            progress.advance(len(block))
    return copied


def _explain(url: str, part: Path, error: OSError | HTTPException) -> str:
    """The error message, mentioning the partial file if it was kept; empty ones are removed."""
    size = part.stat().st_size if part.exists() else 0
    if part.exists() and not size:
        part.unlink()
    if isinstance(error, urllib.error.HTTPError):
        return f"{url}: the server answers {error.code} {error.reason}"
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    if size:
        return (
            f"{url}: the download was interrupted after {size / 1e6:.1f} MB ({reason}); repeat the "
            f"command to resume it from {part}"
        )
    return f"{url}: cannot be downloaded ({reason})"
