"""The notebooks in docs/ run as they are written, cell by cell, without a kernel."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))


def run_cell(source: str, name: str, names: dict) -> object:
    """Run a cell in a namespace; returns the value of its last expression, if any."""
    tree = ast.parse(source, name)
    shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), names)
    return shown and eval(compile(ast.Expression(shown.value), name, "eval"), names)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run all cells of a notebook in an empty folder; returns their values."""
    pytest.importorskip("pandas", reason="pandas is not installed (pip install -e '.[tables]')")
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)

    def run_all(path: Path) -> list[object]:
        names: dict = {"__name__": "__main__"}
        cells = json.loads(path.read_text())["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        return [
            run_cell(source, f"{path.name}, cell {number}", names)
            for number, source in enumerate(sources)
        ]

    return run_all


def test_the_notebook_turns_a_video_into_a_table(run, tmp_path):
    pd = pytest.importorskip("pandas")
    shown = run(ROOT / "docs" / "notebooks" / "video_to_table.ipynb")
    detections, tracks = (pd.read_csv(f"{name}.csv") for name in ("detections", "tracks"))
    assert detections["frame"].nunique() > 12 and tracks["frames"].sum() == len(detections)
    assert set(tracks["class_name"]) <= {"circle", "square", "triangle", "star", "cross", "ring"}
    assert tracks["last"].max() <= 23 / 24 + 1e-6
    _, table, result, summary, _, crop, _, player = shown
    assert len(table) == 5 and len(summary) == len(tracks)
    assert "<img" in result._repr_html_() and crop.width > 1
    assert "<iframe" in player._repr_html_()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
