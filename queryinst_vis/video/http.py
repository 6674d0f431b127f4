"""Videos at http URLs.

FFmpeg's client treats a truncated chunked response as complete, and a complete
response without a length as truncated. Python's client distinguishes them.
"""

from __future__ import annotations

from hashlib import sha256
from http.client import HTTPException, HTTPMessage, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import (
    HTTPBasicAuthHandler,
    HTTPDigestAuthHandler,
    HTTPPasswordMgrWithDefaultRealm,
    HTTPRedirectHandler,
    OpenerDirector,
    Request,
    build_opener,
)

from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import shortened
from queryinst_vis.utils.progress import ProgressBar

PATIENCE = 10.0  # seconds without data from a network source
_BLOCK = 1 << 20  # bytes
_LONGEST_NAME = 255  # maximum bytes of a file name


class HttpFile:
    """The response of an http or https URL, as a file for PyAV; reading never raises.

    Args:
        address: the URL, optionally with user name and password.

    Attributes:
        length: total bytes; None: unknown, so it may be endless.
        fault: why the response was truncated, "" if it was not.
        headers: of the response.

    Raises:
        OSError: no connection, or an error response.
        ValueError: not a URL.
    """

    def __init__(self, address: str) -> None:
        self.fault = ""
        self._address, self._opener = _opener(address)
        self._position = 0
        self._reply = self._request(0)
        self.headers = self._reply.headers
        length = self.headers.get("Content-Length", "")
        self.length = int(length) if length.isdecimal() else None
        self._takes_ranges = self.headers.get("Accept-Ranges") == "bytes"

    def read(self, size: int) -> bytes:
        """Up to ``size`` available bytes; none at the end."""
        try:
            data = self._reply.read1(size)
        except (OSError, HTTPException) as error:
            self.fault = self.fault or explain(error)  # FFmpeg may read again
            return b""
        self._position += len(data)
        is_short = self.length is not None and self._position < self.length
        if not data and is_short and not self.fault:
            self.fault = f"the connection ended after {self._position} of {self.length} bytes"
        return data

    def seekable(self) -> bool:
        """Whether the server supports range requests."""
        return self._takes_ranges and self.length is not None

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        """Seek to a position.

        Raises:
            OSError: the server does not support it.
        """
        base = (0, self._position, self.length or 0)[whence]
        if base + offset != self._position:
            self._reply.close()
            self._reply = self._request(base + offset)
            self._position = base + offset
        return self._position

    def close(self) -> None:
        """Close the connection."""
        self._reply.close()

    def _request(self, start: int) -> HTTPResponse:
        request = Request(self._address, headers={"User-Agent": "queryinst-vis"})
        if start:
            request.add_header("Range", f"bytes={start}-")
        reply = self._opener.open(request, timeout=PATIENCE)
        if start and reply.status != 206:  # partial content
            reply.close()
            self.fault = "the server does not support range requests"
            raise OSError(self.fault)
        return reply


def download(address: str, folder: Path, allow_partial: bool = False) -> Path:
    """Save a recording.

    Args:
        address: http or https URL.
        folder: target folder; the file is named as in the URL.
        allow_partial: keep partial data if the connection breaks.

    Returns:
        The file.

    Raises:
        InputError: no connection, an endless response, or the connection broke.
    """
    shown = without_secrets(address)
    try:
        source = HttpFile(address)
    except (OSError, HTTPException, ValueError) as error:
        raise InputError(f"video {shown}: cannot be read ({explain(error)})") from error
    if source.length is None:
        source.close()
        raise InputError(
            f"video {shown}: has no length, so it may be endless; read it live (track --live)"
        )
    name = Path(unquote(urlsplit(address).path).replace("\0", "")).name
    path = folder / (shortened(name, _LONGEST_NAME) or "video")
    try:
        with ProgressBar(path.name, source.length, unit="bytes") as bar, path.open("wb") as file:
            while data := source.read(_BLOCK):
                file.write(data)
                bar.advance(len(data))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        source.close()
    if source.fault and not allow_partial:
        raise InputError(
            f"video {shown}: {source.fault}; try again, or keep the partial file with "
            "allow_partial (track --allow-partial)"
        )
    return path


def is_http(source: str | Path) -> bool:
    """Whether this is an http or https URL."""
    return str(source).lower().startswith(("http://", "https://"))


def has_length(address: str) -> bool:
    """Whether the response has a length; otherwise it may be live.

    Also true without a response, so that reading it reports the error.
    """
    try:
        file = HttpFile(address)
    except (OSError, HTTPException, ValueError):
        return True
    file.close()
    return file.length is not None


def without_secrets(address: str) -> str:
    """A URL without user, password and query, which may contain a token.

    Raises:
        InputError: not a URL.
    """
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise InputError(f"not a valid URL ({error})") from error
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def origin_of(source: str | Path) -> str:
    """An identifier of a source, without passwords and tokens.

    The query of a URL may identify the video and may contain a token, so it is replaced by its
    hash.
    """
    text = str(source)
    if "://" not in text:
        path = Path(text).absolute()
        # the name may be a link, which is a source of its own
        return str(path.parent.resolve() / path.name if ".." in path.parts else path)
    _, _, query = text.partition("?")
    mark = f"?{sha256(query.encode()).hexdigest()[:12]}" if query else ""
    return without_secrets(text) + mark


class _WebRedirects(HTTPRedirectHandler):
    """Follows redirects only to http and https; Python's default also allows ftp."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> Request | None:
        if not is_http(newurl):
            reason = f"redirects to {without_secrets(newurl)}, which is not an http URL"
            raise HTTPError(req.full_url, code, reason, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(address: str) -> tuple[str, OpenerDirector]:
    """The URL without credentials, and an opener that uses them."""
    parts = urlsplit(address)
    user, _, place = parts.netloc.rpartition("@")
    bare = urlunsplit(parts._replace(netloc=place))
    if not user:
        return bare, build_opener(_WebRedirects)
    name, _, password = user.partition(":")
    passwords = HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, bare, unquote(name), unquote(password))
    handlers = HTTPBasicAuthHandler(passwords), HTTPDigestAuthHandler(passwords)
    return bare, build_opener(_WebRedirects, *handlers)


def explain(error: Exception) -> str:
    """Description of an error."""
    if isinstance(error, URLError) and not isinstance(error, HTTPError):
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, TimeoutError):
        return f"no data for {PATIENCE:.0f} seconds"
    if isinstance(error, IncompleteRead):
        return "the connection was closed early"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
