"""``run.json``: the provenance of the files of a run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import read_json

RUN_FILE = "run.json"
FORMAT = "queryinst-vis run"
VERSION = 1

_ENDS = 1 << 20  # bytes at each end of a file that are hashed


def fingerprint(path: Path) -> dict[str, Any] | None:
    """A fingerprint of a file or folder that does not depend on its path, without a full read.

    Returns:
        For a file, its size in bytes and the SHA-256 of its first and last MiB; for a folder, the
        number of files and the SHA-256 of their names and sizes. None if it is missing or neither.
    """
    try:
        if path.is_dir():
            return _fingerprint_of_folder(path)
        if not path.is_file():
            return None
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.sha256(file.read(_ENDS))
            file.seek(max(_ENDS, size - _ENDS))
            digest.update(file.read(_ENDS))
    except OSError:
        return None
    return {"bytes": size, "sha256_of_ends": digest.hexdigest()}


def _fingerprint_of_folder(folder: Path) -> dict[str, Any]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    lines = "".join(f"{path.name}\0{path.stat().st_size}\n" for path in files)
    digest = hashlib.sha256(lines.encode(errors="surrogateescape"))
    return {"files": len(files), "sha256_of_names": digest.hexdigest()}


def read_run(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's ``run.json``; None if there is no valid one."""
    if not (folder / RUN_FILE).is_file():
        return None
    try:
        content = read_json(folder / RUN_FILE, "run")
    except InputError:
        return None
    is_run = isinstance(content, dict) and content.get("format") == FORMAT
    return content if is_run else None


def source_of_run(run: dict[str, Any] | None) -> dict[str, Any]:
    """The source of a run; empty if unknown."""
    source = (run or {}).get("source")
    return source if isinstance(source, dict) else {}


def origin_of_run(folder: Path) -> str | None:
    """The hash of the source's address in a folder's ``run.json``; None if there is none."""
    found = source_of_run(read_run(folder)).get("origin_sha256")
    return found if isinstance(found, str) else None
