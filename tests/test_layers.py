"""Which rooms of the package may import which: downwards only, without cycles."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import queryinst_vis

PACKAGE = Path(queryinst_vis.__file__).resolve().parent

GROUND = {"errors", "config", "utils", "masks"}
FORMATS = GROUND | {"formats"}
NOUNS = GROUND | {"structures"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "utils": {"errors"},
    "masks": {"errors", "utils"},
    "formats": {"errors", "utils", "masks"},
    "drawing": {"errors", "utils", "masks"},
    "structures": {"errors", "utils", "masks", "drawing"},
    "models": NOUNS,
    "losses": NOUNS,
    "tracking": NOUNS,
    "video": {"errors", "utils"},
    "data": FORMATS | NOUNS,
    "evaluation": {"errors", "utils", "masks", "formats"},
    "visualization": FORMATS | NOUNS | {"evaluation", "drawing"},
    "checkpoints": FORMATS | NOUNS | {"models", "tracking", "data"},
    "inference": FORMATS
    | NOUNS
    | {"models", "tracking", "video", "data", "drawing", "visualization", "checkpoints"},
    "training": FORMATS
    | NOUNS
    | {"models", "losses", "tracking", "data", "evaluation", "drawing", "visualization"}
    | {"checkpoints", "inference"},
    "benchmark": FORMATS
    | NOUNS
    | {"models", "tracking", "video", "data", "checkpoints", "inference"},
    "report": FORMATS
    | NOUNS
    | {"video", "data", "drawing", "evaluation", "visualization", "inference", "__version__"},
    "batch": FORMATS
    | NOUNS
    | {"tracking", "video", "drawing", "inference", "report", "__version__"},
    "review": FORMATS | NOUNS | {"video", "data", "evaluation", "visualization", "inference"},
    "interop": NOUNS | {"models", "losses", "tracking", "checkpoints", "inference", "training"},
    "weights": set(),
}
"""The allowed edges; ``cli`` and the package's own face stand above all rooms."""

TOP = {"cli", "__init__", "__main__"}

TORCH_FREE = ("formats", "evaluation", "masks")
"""Importing these rooms must not import torch; ``masks.paste`` is left out."""


def room_of(path: Path, package: Path = PACKAGE) -> str:
    """``models`` for queryinst_vis/models/roi.py, ``config`` for queryinst_vis/config/schema.py."""
    return path.relative_to(package).with_suffix("").parts[0]


def imported_rooms(source: str) -> Iterator[str]:
    """The rooms of the package that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top == PACKAGE.name and rest:
                yield rest.split(".")[0]


def edges_of(package: Path) -> dict[str, set[str]]:
    """The rooms that each room imports."""
    edges: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        room = room_of(path, package)
        edges.setdefault(room, set()).update(set(imported_rooms(path.read_text())) - {room})
    return edges


def forbidden(edges: dict[str, set[str]]) -> list[str]:
    """The edges that ``MAY_IMPORT`` does not list."""
    return [
        f"{room} -> {other}"
        for room, others in sorted(edges.items())
        if room not in TOP
        for other in sorted(others - MAY_IMPORT[room])
    ]


def circle(edges: dict[str, set[str]]) -> list[str] | None:
    """A cycle of imports between rooms, or None."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_rooms_import_only_along_allowed_edges():
    assert forbidden(edges_of(PACKAGE)) == []


def test_rooms_do_not_import_one_another_in_a_circle():
    assert circle(edges_of(PACKAGE)) is None


def test_the_allowed_edges_are_acyclic():
    assert circle(MAY_IMPORT) is None


@pytest.mark.parametrize(
    "source",
    [
        "from queryinst_vis.cli import main\n",
        "import queryinst_vis.training.train\n",
        "def late():\n    from queryinst_vis import inference\n",
        "if TYPE_CHECKING:\n    from queryinst_vis.training.step import TrainingStep\n",
    ],
    ids=["plain", "dotted", "inside a function", "for types only"],
)
def test_a_forbidden_import_is_detected_anywhere_in_a_module(tmp_path, source):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "roi.py").write_text(source)
    assert len(forbidden(edges_of(tmp_path))) == 1


def test_a_circular_import_is_detected(tmp_path):
    for room, other in (("inference", "training"), ("training", "inference")):
        (tmp_path / room).mkdir()
        source = f"def late():\n    from queryinst_vis.{other} import thing\n"
        (tmp_path / room / "a.py").write_text(source)
    assert set(circle(edges_of(tmp_path)) or ()) == {"inference", "training"}


def test_file_formats_and_evaluation_do_not_import_torch():
    """Importing torch would dominate the start-up time and memory of scoring a file."""
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for room in TORCH_FREE
        for path in sorted((PACKAGE / room).glob("*.py"))
        if path.stem not in ("__init__", "paste")
    ]
    program = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
