"""The folder of configs, and the error message of a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from queryinst_vis.config import find_config, load_config
from queryinst_vis.errors import InputError

CONFIGS = find_config("people").parent


def complaint(path: Path | str, overrides: list[str] | None = None) -> str:
    """The one-line error that ``load_config`` raises."""
    with pytest.raises(InputError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message
