"""The entries of docs/reference.md and the objects that they name."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
ENTRIES = re.findall(r"^::: (\S+)$", REFERENCE, re.MULTILINE)


def resolve(name: str):
    """The object of a dotted name."""
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)
