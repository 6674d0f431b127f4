"""Who may talk to the server: the page that the command has printed the address of, nobody else.

The server listens on the loopback address, which every user and every web page of the machine can
reach. So a request needs the secret of the printed address (or the cookie that it is exchanged
for), must name this machine as its host (a foreign name that resolves to it is an attack: DNS
rebinding), and must not come from another site's page.
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
"""Bytes of a request: a polygon of ten thousand points has some 200,000."""

PATIENCE = 10.0
"""Seconds in which a request's body has to be there."""

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
    """Lets requests of the page through to ``app``, and refuses all others.

    Args:
        app: what is guarded.
        token: the secret of the printed address.
        cookie: name of the cookie that keeps it.
    """

    def __init__(self, app: ASGIApp, token: str, cookie: str) -> None:
        self._app, self._token, self._cookie = app, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return  # nothing but requests is served: a socket is closed unanswered
        request = Request(scope)
        is_told = self._is_secret(request.query_params.get("token"))
        refusal = self._refusal(request, is_told)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(message, is_told and refusal is None)
            await send(message)

        answer = self._app if refusal is None else refusal
        await answer(scope, receive, send_guarded)

    def _refusal(self, request: Request, is_told: bool) -> PlainTextResponse | None:
        headers = request.headers
        host = headers.get("host", "")
        if not _is_here(host):
            return _refuse(f"this server is not '{host[:100]}'; open the address that was printed")
        if not _is_own_page(request.method, headers, f"http://{host}"):
            return _refuse("another site's page may not ask this server for anything")
        if not (is_told or self._is_secret(request.cookies.get(self._cookie))):
            return _refuse(
                "open the address that 'queryinst-vis review' has printed, token and all"
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
    """The JSON that a request carries.

    Raises:
        HTTPException: it is too large, takes too long, or is no JSON.
    """
    try:
        body = await asyncio.wait_for(_read_body(request), PATIENCE)
    except asyncio.TimeoutError as error:
        raise _hang_up(HTTPStatus.REQUEST_TIMEOUT, "the request has no end") from error
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "the request is no JSON") from error


async def _read_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise _hang_up(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request is too large")
    return body


def _hang_up(status: HTTPStatus, why: str) -> HTTPException:
    """An answer after which nothing more is read of the connection."""
    return HTTPException(status, why, headers={"Connection": "close"})


def _is_here(host: str) -> bool:
    """Whether a Host header names this machine; through a tunnel the port may be another one."""
    name, _, port = host.partition(":")
    return name in _HOSTS and (not port or port.isdecimal())


def _is_own_page(method: str, headers: Headers, own: str) -> bool:
    """Whether a request comes from the page itself, or from nobody's page."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if method not in ("GET", "HEAD"):  # browsers always say where a POST comes from
        return origin == own and site in ("none", "same-origin")
    is_visit = headers.get("sec-fetch-mode") == "navigate"  # a link; the answer is nobody else's
    return origin in (None, own) and (site in ("none", "same-origin") or is_visit)


def _refuse(reason: str) -> PlainTextResponse:
    return PlainTextResponse(f"Refused: {reason}.\n", HTTPStatus.FORBIDDEN)
