"""Access control of the review server: only the page at the printed address has access.

The server listens on the loopback address, which all users and web pages on the machine can reach.
A request therefore needs the secret in the printed address (or the cookie that replaces it), must
have this machine as its host (to prevent DNS rebinding), and must not come from another site.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 1 << 20
"""Maximum size of a request body in bytes; a polygon of 10,000 points has about 200,000."""

BODY_TIMEOUT = 10.0
"""Time limit for receiving a request body, in seconds."""

_HOSTS = {"127.0.0.1", "localhost"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware that passes requests of the page to ``app`` and rejects all others.

    Args:
        app: the application.
        token: the secret in the printed address.
        cookie: name of the cookie that stores it.
    """

    def __init__(self, app: ASGIApp, token: str, cookie: str) -> None:
        self._app, self._token, self._cookie = app, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            return  # only HTTP is served: web sockets are closed
        request = Request(scope)
        has_token = self._is_secret(request.query_params.get("token"))
        refusal = self._refusal(request, has_token)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(message, has_token and refusal is None)
            await send(message)

        app = self._app if refusal is None else refusal
        await app(scope, receive, send_guarded)

    def _refusal(self, request: Request, has_token: bool) -> PlainTextResponse | None:
        headers = request.headers
        host = headers.get("host", "")
        if not _is_local_host(host):
            return _refuse(f"this server is not '{host[:100]}'; open the printed address")
        if not _is_own_page(request.method, headers, f"http://{host}"):
            return _refuse("requests from pages of other sites are not allowed")
        if not (has_token or self._is_secret(request.cookies.get(self._cookie))):
            return _refuse(
                "open the complete address, with token, that 'queryinst-vis review' printed"
            )
        return None

    def _is_secret(self, text: str | None) -> bool:
        return text is not None and hmac.compare_digest(text.encode(), self._token.encode())

    def _add_headers(self, message: MutableMapping[str, Any], sets_cookie: bool) -> None:
        headers = MutableHeaders(scope=message)
        for name, value in _HEADERS.items():
            headers[name] = value
        if sets_cookie:
            value = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
            headers.append("Set-Cookie", value)


async def read_json(request: Request) -> Any:
    """The JSON body of a request.

    Raises:
        HTTPException: the body is too large, takes too long, or is not JSON.
    """
    try:
        body = await asyncio.wait_for(_read_body(request), BODY_TIMEOUT)
    except asyncio.TimeoutError as error:
        raise _closing_error(HTTPStatus.REQUEST_TIMEOUT, "the request took too long") from error
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "the request is not JSON") from error


async def _read_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise _closing_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request is too large")
    return body


def _closing_error(status: HTTPStatus, why: str) -> HTTPException:
    """An error response that closes the connection."""
    return HTTPException(status, why, headers={"Connection": "close"})


def _is_local_host(host: str) -> bool:
    """Whether a Host header names this machine; the port may differ behind a tunnel."""
    name, _, port = host.partition(":")
    return name in _HOSTS and (not port or port.isdecimal())


def _is_own_page(method: str, headers: Headers, own: str) -> bool:
    """Whether a request comes from the page itself, or from no page."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if method not in ("GET", "HEAD"):  # browsers send the origin of every POST
        return origin == own and site in ("none", "same-origin")
    is_visit = headers.get("sec-fetch-mode") == "navigate"  # a link: no page sees the response
    return origin in (None, own) and (site in ("none", "same-origin") or is_visit)


def _refuse(reason: str) -> PlainTextResponse:
    return PlainTextResponse(f"Refused: {reason}.\n", HTTPStatus.FORBIDDEN)
