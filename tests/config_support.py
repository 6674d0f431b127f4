"""Where the configs are, and the message with which a bad one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from queryinst_vis.config import find_config, load_config
from queryinst_vis.errors import InputError

CONFIGS = find_config("people").parent


def complaint(path: Path | str, overrides: list[str] | None = None) -> str:
    """The one line that ``load_config`` raises about a file."""
    with pytest.raises(InputError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message
