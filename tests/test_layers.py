"""Which subpackages may import which: downwards only, without cycles."""

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

FOUNDATIONS = {"errors", "config", "utils", "masks"}
FORMATS = FOUNDATIONS | {"formats"}
STRUCTURES = FOUNDATIONS | {"structures"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "utils": {"errors"},
    "masks": {"errors", "utils"},
    "formats": {"errors", "utils", "masks"},
    "drawing": {"errors", "utils", "masks"},
    "structures": {"errors", "utils", "masks", "drawing"},
    "models": STRUCTURES,
    "losses": STRUCTURES,
    "tracking": STRUCTURES,
    "video": {"errors", "utils"},
    "data": FORMATS | STRUCTURES,
    "evaluation": {"errors", "utils", "masks", "formats"},
    "visualization": FORMATS | STRUCTURES | {"evaluation", "drawing"},
    "checkpoints": FORMATS | STRUCTURES | {"models", "tracking", "data"},
    "inference": FORMATS
    | STRUCTURES
    | {"models", "tracking", "video", "data", "drawing", "visualization", "checkpoints"},
    "training": FORMATS
    | STRUCTURES
    | {"models", "losses", "tracking", "data", "evaluation", "drawing", "visualization"}
    | {"checkpoints", "inference"},
    "benchmark": FORMATS
    | STRUCTURES
    | {"models", "tracking", "video", "data", "checkpoints", "inference"},
    "report": FORMATS
    | STRUCTURES
    | {"video", "data", "drawing", "evaluation", "visualization", "inference", "__version__"},
    "batch": FORMATS
    | STRUCTURES
    | {"tracking", "video", "drawing", "inference", "report", "__version__"},
    "review": FORMATS | STRUCTURES | {"video", "data", "evaluation", "visualization", "inference"},
    "interop": STRUCTURES
    | {"models", "losses", "tracking", "checkpoints", "inference", "training"},
    "weights": set(),
}
"""The allowed edges; ``cli`` and the top-level modules are above all others."""

TOP = {"cli", "__init__", "__main__"}

TORCH_FREE = ("formats", "evaluation", "masks")
"""Importing these must not import torch; ``masks.paste`` is left out."""


def subpackage_of(path: Path, package: Path = PACKAGE) -> str:
    """``models`` for queryinst_vis/models/roi.py, ``config`` for queryinst_vis/config/schema.py."""
    return path.relative_to(package).with_suffix("").parts[0]


def imported_subpackages(source: str) -> Iterator[str]:
    """The subpackages that a module imports, anywhere in it."""
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
    """The subpackages that each imports."""
    edges: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        name = subpackage_of(path, package)
        edges.setdefault(name, set()).update(set(imported_subpackages(path.read_text())) - {name})
    return edges


def forbidden(edges: dict[str, set[str]]) -> list[str]:
    """The edges that ``MAY_IMPORT`` does not list."""
    return [
        f"{name} -> {other}"
        for name, others in sorted(edges.items())
        if name not in TOP
        for other in sorted(others - MAY_IMPORT[name])
    ]


def cycle(edges: dict[str, set[str]]) -> list[str] | None:
    """A cycle of imports between subpackages, or None."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_subpackages_import_only_along_allowed_edges():
    assert forbidden(edges_of(PACKAGE)) == []


def test_subpackages_do_not_import_one_another_in_a_cycle():
    assert cycle(edges_of(PACKAGE)) is None


def test_the_allowed_edges_are_acyclic():
    assert cycle(MAY_IMPORT) is None


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
    for name, other in (("inference", "training"), ("training", "inference")):
        (tmp_path / name).mkdir()
        source = f"def late():\n    from queryinst_vis.{other} import thing\n"
        (tmp_path / name / "a.py").write_text(source)
    assert set(cycle(edges_of(tmp_path)) or ()) == {"inference", "training"}


def test_file_formats_and_evaluation_do_not_import_torch():
    """Importing torch would dominate the start-up time and memory of scoring a file."""
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for name in TORCH_FREE
        for path in sorted((PACKAGE / name).glob("*.py"))
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
