"""Bundled configs by name, as in ``train coco/queryinst_r50_100q_1x``."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

from queryinst_vis.errors import InputError

SUFFIXES = (".yaml", ".yml")
PARENTS = "_base_"
"""The folder of parent configs, which are incomplete by themselves."""


def find_config(name_or_path: str | Path, folder: Path | None = None) -> Path:
    """The file of a config given by name, or the path itself.

    Args:
        name_or_path: a file, or one of ``config_names`` (with or without ``.yaml`` and a leading
            ``configs/``).
        folder: base of relative paths; None: the working directory.

    Raises:
        InputError: neither a file nor a name; the closest names are listed.
    """
    path = Path(name_or_path) if folder is None else folder / name_or_path
    if path.is_file():
        return path
    name = _plain(name_or_path)
    shipped = _shipped()
    if name in shipped:
        return shipped[name]
    raise InputError(f"config {path}: no such file or config name; {_suggest(name)}")


def config_names() -> list[str]:
    """Names of the bundled configs, such as ``people`` and ``coco/queryinst_r50_100q_1x``."""
    return [name for name in _shipped() if not name.startswith(f"{PARENTS}/")]


@cache
def _shipped() -> dict[str, Path]:
    """The files of the bundled configs and their parents, by name."""
    package = Path(__file__).resolve().parent.parent
    # inside an installed package; next to the package in a clone
    folder = next(
        (f for f in (package / "configs", package.parent / "configs") if f.is_dir()), None
    )
    if folder is None:
        return {}
    files = sorted(file for file in folder.rglob("*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def _plain(name_or_path: str | Path) -> str:
    path = Path(name_or_path)
    path = path.with_suffix("") if path.suffix in SUFFIXES else path
    return path.as_posix().removeprefix("configs/")


def _suggest(name: str) -> str:
    """Similar names, compared as a whole or by the last part; otherwise all folders."""
    names = config_names()
    by_end = {known.rpartition("/")[2]: known for known in names}
    ends = difflib.get_close_matches(name.rpartition("/")[2], by_end, n=3, cutoff=0.5)
    near = dict.fromkeys([*difflib.get_close_matches(name, names, n=3, cutoff=0.5)])
    near |= dict.fromkeys(by_end[end] for end in ends)
    if near:
        return f"the nearest names are {', '.join(near)}"
    return f"the names are {', '.join(names) or 'missing: reinstall the package'}"
