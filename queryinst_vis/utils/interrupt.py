"""Handling of Ctrl-C, SIGTERM and SIGHUP: graceful stop, or an exception for cleanup."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_Handler = Callable[[int, FrameType | None], Any] | int | None

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""The signals that ask a program to stop; there is no SIGHUP on Windows."""


class StopRequest:
    """While active, the first of ``SIGNALS`` only sets ``requested``; the next one stops.

    Ignored signals (``nohup``) stay ignored. Signal handlers can be set only in the main thread;
    no effect in others.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, _Handler] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = _handlers()
            for number in self._previous:
                signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM or SIGHUP, for cleanup as on Ctrl-C.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def raise_when_terminated() -> Iterator[None]:
    """While active, SIGTERM and SIGHUP raise ``Terminated`` in the main thread.

    Existing handlers, and ignored signals (``nohup``), are kept.
    """
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked worker ends by default
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        raise Terminated(number)

    numbers = []
    if threading.current_thread() is threading.main_thread():
        numbers = [number for number, old in _handlers().items() if old == signal.SIG_DFL]
    try:
        for number in numbers:
            signal.signal(number, stop)
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _handlers() -> dict[int, _Handler]:
    """The handlers of ``SIGNALS``, without those that are ignored or not set by Python."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    return {number: old for number, old in handlers.items() if old not in (signal.SIG_IGN, None)}


@contextmanager
def signals_held() -> Iterator[None]:
    """Defer signals that stop the program until the end of the block."""
    previous: dict[int, _Handler] = {}
    if threading.current_thread() is threading.main_thread():
        previous = _handlers()
    received: list[int] = []
    try:
        for number in previous:
            signal.signal(number, lambda number, frame: received.append(number))
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    for number in received:
        signal.raise_signal(number)
