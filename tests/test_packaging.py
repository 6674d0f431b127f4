"""The repository as a whole: dependencies, packaging, entry points, safety."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest brings the same parser along
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "queryinst_vis"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES = sorted(PACKAGE.rglob("*.py"))

# Distributions whose module has another name; Fabric's TensorBoardLogger needs tensorboard.
DISTRIBUTION_OF = {
    "rerun": "rerun-sdk",
    "cv2": "opencv-python",
    "decord": "decord2",
    "PIL": "pillow",
    "vl_convert": "vl-convert-python",
    "yaml": "pyyaml",
    "huggingface_hub": "huggingface-hub",
    "lightning.fabric.loggers.TensorBoardLogger": "tensorboard",
}


@cache
def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported_modules(path: Path) -> Iterator[str]:
    """Dotted names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Dependencies


def distribution_names(requirements: list[str]) -> set[str]:
    """Names without extras and without this project, by whose name extras include others."""
    names = {re.split(r"[<>=!~;\[ ]", requirement)[0] for requirement in requirements}
    return names - {PYPROJECT["project"]["name"]}


REQUIRED = distribution_names(PYPROJECT["project"]["dependencies"])
OPTIONAL = {
    extra: distribution_names(requirements)
    for extra, requirements in PYPROJECT["project"]["optional-dependencies"].items()
}


def imported_distributions(paths: list[Path], own: set[str]) -> set[str]:
    """Distributions that the files import, besides the standard library and ``own`` modules."""
    found = set()
    for path in paths:
        for module in imported_modules(path):
            top = module.partition(".")[0]
            if top not in sys.stdlib_module_names | own:
                found.add(DISTRIBUTION_OF.get(module) or DISTRIBUTION_OF.get(top, top))
    return found


def test_every_import_is_declared_and_every_dependency_is_used():
    optional = set().union(*(names for extra, names in OPTIONAL.items() if extra != "dev"))
    assert imported_distributions(MODULES, {"queryinst_vis"}) - optional == REQUIRED


def test_what_the_tests_import_is_declared():
    paths = sorted((ROOT / "tests").glob("*.py"))
    own = {"queryinst_vis", "tests", "benchmarks", "tomli"} | {path.stem for path in paths}
    assert imported_distributions(paths, own) <= REQUIRED | OPTIONAL["dev"]


def test_every_dependency_is_documented_once_and_nothing_else_is():
    text = (ROOT / "docs" / "dependencies.md").read_text()
    names = re.findall(r"^\| `([^`]+)` \| .+ \|$", text, flags=re.MULTILINE)
    assert sorted(names) == sorted(REQUIRED.union(*OPTIONAL.values()))


# Package contents


def test_every_folder_with_code_is_a_package():
    folders = {path.parent for path in MODULES}
    assert [relative(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_packaged_weights_are_shipped():
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["queryinst_vis.weights"]
    files = [path for path in (PACKAGE / "weights").glob("*") if path.suffix != ".py"]
    files = [path for path in files if path.is_file()]
    unmatched = [
        relative(path)
        for path in files
        if not any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)
    ]
    assert unmatched == []


@pytest.mark.parametrize("room", ["report", "review.web"])
def test_page_templates_and_scripts_are_shipped(room):
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"][f"queryinst_vis.{room}"]
    room = PACKAGE.joinpath(*room.split("."))
    shipped = {path for pattern in patterns for path in room.glob(pattern)}
    files = {path for path in room.rglob("*") if path.is_file() and path.suffix != ".py"}
    assert {path for path in files if "__pycache__" not in path.parts} == shipped
    assert shipped


def test_a_wheel_holds_the_configs_once_and_finds_them(tmp_path):
    """Built from a copy, so that the working folder stays clean."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for name in ("config", "errors.py", "__init__.py"):
        copy = shutil.copytree if (PACKAGE / name).is_dir() else shutil.copy
        (tmp_path / "queryinst_vis").mkdir(exist_ok=True)
        copy(PACKAGE / name, tmp_path / "queryinst_vis" / name)
    command = [sys.executable, "setup.py", "-q", "build", "--build-lib", "built"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    ours, built = ROOT / "configs", tmp_path / "built" / "queryinst_vis" / "configs"
    files = sorted(path.relative_to(ours) for path in ours.rglob("*.yaml"))
    assert sorted(path.relative_to(built) for path in built.rglob("*.yaml")) == files
    code = (
        "from queryinst_vis.config import find_config, load_config;"
        "print(find_config('people')); load_config('coco/queryinst_r50_100q_1x')"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "built")}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path / "built",
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(run.stdout.strip()) == built / "people.yaml"


def test_all_weights_come_with_a_model_card():
    weights = sorted((PACKAGE / "weights").glob("*.safetensors"))
    assert [path.name for path in weights if not path.with_suffix(".md").exists()] == []


# Safety: files from elsewhere are read as data, and no device is assumed


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_code_path_unpickles_or_evaluates_files(path):
    for name, call in calls(path):
        assert name not in {"eval", "exec", "yaml.load", "yaml.unsafe_load", "os.system"}
        assert not name.startswith(("pickle.", "dill.", "cloudpickle.", "shelve."))
        if name == "torch.load":
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert options.get("weights_only") == "True"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_device_is_assumed(path):
    assert [name for name, _ in calls(path) if name.endswith(".cuda")] == []


# Tests are a specification: they use what users can use

# of libraries, or of protocols that are not ours to name
NOT_OURS = {"_repr_html_", "_repr_png_", "_replace", "_ops", "_schema", "_forward"}


def private_names(path: Path) -> Iterator[str]:
    """Private names that a file uses from other modules and objects."""
    for node in ast.walk(syntax_tree(path)):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
            names = [node.attr]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".setattr"):
            targets = [each.value for each in node.args if isinstance(each, ast.Constant)]
            names = [name.rpartition(".")[2] for name in targets if isinstance(name, str)]
        yield from (name for name in names if re.match("_[a-zA-Z]", name))


def test_tests_use_no_private_names():
    paths = sorted((ROOT / "tests").rglob("*.py"))
    found = {relative(path): set(private_names(path)) - NOT_OURS for path in paths}
    assert {path: names for path, names in found.items() if names} == {}


def test_test_files_are_independent_and_short():
    """They share helpers through modules and fixtures through conftest.py."""
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        imported = {module.removeprefix("tests.") for module in imported_modules(path)}
        assert not [module for module in imported if module.startswith("test_")], path.name
        assert len(path.read_text().splitlines()) <= 400, path.name


# Entry points


def test_the_console_script_exists():
    module, _, function = PYPROJECT["project"]["scripts"]["queryinst-vis"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


CHARTS = {"altair", "vl_convert", "jinja2"}
NEW_MODELS = {"timm", "wandb"}  # timm imports wandb if it is installed
EVERYTHING_HEAVY = CHARTS | NEW_MODELS | {"torch", "numpy", "lightning", "scipy", "supervision"}


@pytest.mark.parametrize(
    ("start", "unneeded"),
    [
        (
            "from queryinst_vis.cli import build_parser; build_parser().format_help()",
            EVERYTHING_HEAVY,
        ),
        ("import queryinst_vis.inference.live, queryinst_vis.report.outputs", CHARTS | NEW_MODELS),
        ("import queryinst_vis.training.log", {"altair", "vl_convert", "timm", "wandb"}),
    ],
    ids=["help", "track", "training log"],
)
def test_commands_import_slow_libraries_only_when_they_use_them(start, unneeded):
    code = f"import sys; {start}; print(sorted({unneeded} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_continuous_integration_script_is_executable():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def make_dry_run(*arguments: str) -> str:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    done = subprocess.run(
        ["make", "--dry-run", "VENV=no-such-venv", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_make_demo_sets_up_and_tracks_a_rendered_clip():
    commands = make_dry_run("demo", "-W", "out/demo/clip/videos/0000.mp4")
    assert commands.index("-m venv no-such-venv") < commands.index("pip install")
    assert commands.index("pip install") < commands.index("demo/track_video.py")
    assert "--weights shapes" in commands


def test_make_demo_takes_a_video_whose_name_has_spaces():
    commands = make_dry_run("demo", "VIDEO=my holiday's video.mp4")
    assert 'demo/track_video.py "$VIDEO"' in commands
    assert "convert_dataset" not in commands


def test_make_test_sets_up_and_runs_pytest():
    commands = make_dry_run("test")
    assert commands.index("'.[dev]'") < commands.index("-m pytest")
