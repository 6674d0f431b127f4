"""OpenVINO and NNCF without the reports of their use that they would send to Google Analytics."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SENDER = "openvino_telemetry"


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Importing and using OpenVINO or NNCF in the block contacts nobody.

    Both ask for consent only after the first reports, but go without the package that sends them:
    here they cannot import it. A program that imported OpenVINO before has decided for itself.
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
