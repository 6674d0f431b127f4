"""Importing OpenVINO and NNCF without their telemetry to Google Analytics."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SENDER = "openvino_telemetry"


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Import and use OpenVINO or NNCF without telemetry.

    Both send reports before they ask for consent, but work without the package that sends them,
    whose import is blocked here. Has no effect if OpenVINO has already been imported.
    """
    missing = object()
    before = sys.modules.get(_SENDER, missing)
    sys.modules[_SENDER] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is missing:
            del sys.modules[_SENDER]
        else:
            sys.modules[_SENDER] = before  # type: ignore[assignment]
