"""Every command line of README.md and docs/ parses and names existing configs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from queryinst_vis.cli import parse_arguments
from queryinst_vis.config.names import find_config

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = re.compile(r"```(?:sh|bash|console)?\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`(queryinst-vis [^`]+)`")
PLACEHOLDERS = re.compile(r"\b(?:COMMAND|[A-Z]+_OR_[A-Z]+)\b|\.\.\.")


def commands() -> list:
    """``(words, place)`` of every command, with its continued lines joined."""
    found = []
    for page in PAGES:
        text = page.read_text()
        blocks = [match[1].replace("\\\n", " ") for match in SHELL.finditer(text)]
        lines = [line.strip() for block in blocks for line in block.splitlines()]
        cells = (match[1] for match in INLINE.finditer(SHELL.sub("", text)))
        lines += [cell for cell in cells if len(cell.split()) > 3]  # others are file names
        for line in dict.fromkeys(lines):
            if line.startswith("queryinst-vis ") and not PLACEHOLDERS.search(line):
                words = shlex.split(line, comments=True)[1:]
                found.append(pytest.param(words, id=f"{page.name}: {line[14:70]}"))
    return found


@pytest.mark.parametrize("words", commands())
def test_every_documented_command_line_parses(words):
    if words == ["--version"] or words[-1] == "--help":
        with pytest.raises(SystemExit) as stopped:
            parse_arguments(words)
        assert stopped.value.code == 0
        return
    arguments = parse_arguments(words)
    config = str(getattr(arguments, "config", None) or "")
    if config.startswith(("configs/", "coco/", "youtube_vis/", "local/", "cityscapes/")):
        assert find_config(ROOT / config if config.startswith("configs/") else config).is_file()


def test_commands_are_found_in_code_blocks_and_in_tables():
    pages = {command.id.partition(":")[0] for command in commands()}
    assert {"README.md", "from_mmdetection.md"} <= pages
