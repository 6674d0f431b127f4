"""Reading JSON with clear errors, and writing files atomically."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError

_TEMPORARY = 100  # bytes of a file's name in that of its temporary file, of 255 in all


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    The temporary file keeps the suffix (writers choose formats by it) and vanishes when the
    block raises. Missing parent folders are made.

    Raises:
        InputError: the folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{shortened(path.stem, _TEMPORARY)}-", suffix=path.suffix, dir=path.parent
        )
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _give_default_permissions(temporary)
        try:
            os.replace(temporary, path)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_not_read(target: str | Path, *sources: str | Path | None) -> None:
    """Raise an InputError where writing ``target`` would replace a file that is read from."""
    if Path(target).resolve() in {Path(s).resolve() for s in sources if s is not None}:
        raise InputError(f"{target}: is read from; name another file to write")


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder to fill, which takes the place of ``path`` when the block ends well.

    Args:
        path: a folder that does not exist or is empty.

    Raises:
        InputError: it is not empty, or its parent cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        occupied = path.exists() and (not path.is_dir() or any(path.iterdir()))
        if not occupied:
            temporary = Path(
                tempfile.mkdtemp(prefix=f".{shortened(path.name, _TEMPORARY)}-", dir=path.parent)
            )
    except OSError as error:
        raise InputError(f"cannot write to folder {path}: {error.strerror}") from error
    if occupied:
        raise InputError(f"{path} is not an empty folder; name a new one or empty it first")
    try:
        filled = temporary / "folder"
        filled.mkdir()  # unlike mkdtemp's, which is the owner's alone, it follows the umask
        yield filled
        if path.exists():
            path.rmdir()
        filled.rename(path)
    except OSError as error:
        raise InputError(f"cannot write to folder {path}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def shortened(name: str, size: int) -> str:
    """The first ``size`` bytes of a file's name, in whole characters, so that more can follow."""
    return name.encode(errors="surrogateescape")[:size].decode(errors="ignore")


def _give_default_permissions(path: Path) -> None:
    """Undo mkstemp's owner-only mode: outputs follow the umask like any other file."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def write_json_atomically(path: str | Path, value: Any) -> None:
    """Write ``value`` as JSON to ``path``, all of it or nothing."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file)


def read_json(path: str | Path, what: str) -> Any:
    """Read a JSON file; ``what`` names its role in the error message.

    Raises:
        InputError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())  # skips a byte order mark
    except FileNotFoundError as error:
        raise InputError(f"{what} {path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:  # ValueError: also huge numbers
        raise InputError(f"{what} {path}: not readable as JSON ({error})") from error
