"""Serving the review page until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

import uvicorn

from queryinst_vis.errors import InputError
from queryinst_vis.review.session import ReviewSession
from queryinst_vis.review.web.app import make_app
from queryinst_vis.review.web.frame_images import FrameImages
from queryinst_vis.review.web.guard import Guard

_CONNECTIONS = 64  # concurrent; a browser opens at most six


def serve(
    session: ReviewSession, port: int, formats: Sequence[str], on_ready: Callable[[str], object]
) -> None:
    """Serve the review page on the loopback address until the process is interrupted.

    Args:
        session: the review session.
        port: port to listen on; 0: any free port.
        formats: export formats.
        on_ready: called with the address, which contains the secret, once the server is ready.

    Raises:
        InputError: the port is in use.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(_listen(port))
        port = listener.getsockname()[1]
        images = None
        if session.source is not None:
            images = FrameImages(session.source, session.index.numbers, session.size)
            stack.callback(images.close)
        token = secrets.token_urlsafe(32)
        app = Guard(make_app(session, images, formats), token, f"queryinst-vis-review-{port}")
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            http="h11",
            ws="none",
            lifespan="off",
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=2,
        )
        on_ready(f"http://127.0.0.1:{port}/?token={token}")
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(
            f"port {port}: not available ({error}); choose another one with --port, or any free "
            "port with --port 0"
        ) from error
    return listener
