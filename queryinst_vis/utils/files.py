"""Reading JSON with clear errors, and writing files atomically.

Unfinished files and folders have hidden names that end with the machine, the process and eight
random digits. Whatever stops a command, ``remove_temporaries`` removes its own; those of a process
that was killed go when the next one writes to the same folder. Only files of dead processes of the
same machine, boot and container are removed: nothing is known about processes elsewhere, so on a
shared file system their files stay. A process id that was given to another program keeps a file a
while longer, never the other way round.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.utils.interrupt import signals_held

_PROGRAM = "queryinst-vis"
_BLOCK = 1 << 20  # bytes that are read at a time
_TEMPORARY = 100  # bytes of a file's name in that of its temporary file, of 255 in all
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}

_unfinished: dict[Path, Path] = {}  # temporary files and folders, and what they are to become
_finished: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("finished", default=None)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    The temporary file keeps the suffix (writers choose formats by it) and vanishes when the
    block raises. Missing parent folders are made. Within ``files_together`` the file appears at
    the end of that block instead.

    Raises:
        InputError: the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    goal = _unfinished.get(path, path)  # what a user has heard of
    temporary = _temporary_beside(path, path.stem, path.suffix)
    waits = False
    try:
        with _one_line(goal):
            if path.is_dir():
                raise InputError(f"cannot write {goal}: is a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(path.parent)
            temporary.touch(exist_ok=False)
        try:
            yield temporary
        except InputError:  # of another file that is written meanwhile
            raise
        except OSError as error:
            if error.errno in _DISK_ERRORS:
                raise _cannot_write(goal, error) from error
            raise
        except Exception as error:  # libraries have their own types for a full disk
            if os.strerror(errno.ENOSPC) in str(error):
                raise InputError(f"cannot write {goal}: {os.strerror(errno.ENOSPC)}") from error
            raise
        with _one_line(goal):
            _give_default_permissions(temporary)
        waits = _appear(temporary, path)
    finally:
        if not waits:
            _discard(temporary)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder to fill, which takes the place of ``path`` like an ``atomic_path``.

    A folder that is there already is replaced with all that is in it.

    Raises:
        InputError: the folder cannot be made or written, or ``path`` is a file.
    """
    path = Path(path)
    temporary = _temporary_beside(path, path.name)
    waits = False
    try:
        with _one_line(path):
            if path.exists() and not path.is_dir():
                raise InputError(f"cannot write {path}: is a file, and must be a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(path.parent)
            temporary.mkdir()
        yield temporary
        waits = _appear(temporary, path)
    finally:
        if not waits:
            _discard(temporary)


def _appear(temporary: Path, path: Path) -> bool:
    """Give what is finished its name, or leave that to ``files_together``: then True.

    A file within something unfinished takes its place there at once.
    """
    together = _finished.get()
    if together is None or path in _unfinished:
        _replace([(temporary, path)])
        return False
    together.append((temporary, path))
    return True


@contextmanager
def files_together() -> Iterator[None]:
    """Files that ``atomic_path`` writes in the block appear when it ends well: all, or none."""
    if _finished.get() is not None:  # the outer block decides
        yield
        return
    finished: list[tuple[Path, Path]] = []
    token = _finished.set(finished)
    try:
        yield
        _replace(finished)
    finally:
        _finished.reset(token)
        for temporary, _ in finished:
            _discard(temporary)


def _replace(pairs: list[tuple[Path, Path]]) -> None:
    """Move temporary files to their places; where one cannot be moved, the others go back.

    Files that were replaced by then stay so; a replaced folder comes back, too.
    """
    new: list[Path] = []
    old: list[tuple[Path, Path]] = []  # folders, which cannot be replaced in one step
    with signals_held():
        for temporary, path in pairs:
            try:
                is_new = not path.exists()
                if temporary.is_dir() and not is_new:
                    aside = _temporary_beside(path, path.name)
                    path.rename(aside)
                    old.append((aside, path))
                    is_new = True
                temporary.replace(path)
            except OSError as error:
                for other in new:
                    _remove(other)
                for aside, other in old:
                    aside.rename(other)
                    _unfinished.pop(aside, None)
                raise _cannot_write(path, error) from error
            if is_new:
                new.append(path)
        for aside, _ in old:
            _discard(aside)


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {path}: {error.strerror or error}")


def _temporary_beside(path: Path, stem: str, suffix: str = "") -> Path:
    """A new name beside ``path``, noted before it exists so that no signal comes in between."""
    name = f".{shortened(stem, _TEMPORARY)}-{machine_id()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(name + suffix)
    _unfinished[temporary] = _unfinished.get(path, path)
    return temporary


@cache
def machine_id() -> str:
    """Eight digits for the machine, its boot and its container, in which process ids are unique."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return f"{zlib.crc32(' '.join(parts).encode(errors='replace')):08x}"


def _remove_leftovers(folder: Path) -> None:
    """Remove what dead processes of this machine left in a folder."""
    if os.name != "posix":
        return
    pattern = re.compile(rf"\..*-{machine_id()}-(\d+)-[0-9a-f]{{8}}(\..*)?", re.DOTALL)
    try:
        names = os.listdir(folder)
    except PermissionError:  # a folder may be written without being readable
        return
    for name in names:
        found = pattern.fullmatch(name)
        if found and folder / name not in _unfinished and not _is_alive(int(found[1])):
            _discard(folder / name)


def _is_alive(process: int) -> bool:
    """Whether a process of that number runs, other than this one."""
    if process == os.getpid():  # which knows its own files: an earlier process had the number
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def remove_temporaries() -> None:
    """Remove the unfinished files and folders of this process, at its end."""
    own = f"-{machine_id()}-{os.getpid()}-"  # a forked process leaves those of its parent alone
    with signals_held():
        for temporary in [path for path in _unfinished if own in path.name]:
            _discard(temporary)


def _discard(temporary: Path) -> None:
    _remove(temporary)
    _unfinished.pop(temporary, None)


def _remove(path: Path) -> None:
    """Remove a file or folder, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def check_not_read(target: str | Path, *sources: str | Path | None) -> None:
    """Raise an InputError where writing ``target`` would replace a file that is read from."""
    if Path(target).resolve() in {Path(s).resolve() for s in sources if s is not None}:
        raise InputError(f"{target}: is also an input; write to another file")


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder to fill, which takes the place of ``path`` when the block ends well.

    Args:
        path: a folder that does not exist or is empty.

    Raises:
        InputError: it is not empty, or its parent cannot be written.
    """
    path = Path(path)
    temporary = _temporary_beside(path, path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path} is not an empty folder; use a new one or empty it first")
        temporary.mkdir()
        yield temporary
        with signals_held():
            if path.exists():
                path.rmdir()
            temporary.rename(path)
    except OSError as error:
        reason = error.strerror if error.filename in (None, str(temporary)) else error
        raise InputError(f"cannot write to folder {path}: {reason}") from error
    finally:
        _discard(temporary)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder of this user's alone, in the system's place for temporary files, for the block.

    Raises:
        InputError: it cannot be made.
    """
    temporary = _temporary_beside(Path(tempfile.gettempdir()) / _PROGRAM, _PROGRAM)
    try:
        with _one_line(temporary):
            _remove_leftovers(temporary.parent)
            temporary.mkdir(mode=0o700)
        yield temporary
    finally:
        _discard(temporary)


def natural_key(path: Path) -> tuple[object, ...]:
    """Sorts ``frame2`` before ``frame10``, folder by folder: runs of digits count as numbers."""
    return tuple(
        ([(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", part)], part)
        for part in path.parts
    )


def shortened(name: str, size: int) -> str:
    """The first ``size`` bytes of a file's name, in whole characters, so that more can follow."""
    data = os.fsencode(name)
    if len(data) <= size:
        return name
    return os.fsdecode(data[:size].decode(errors="ignore").encode())


def _give_default_permissions(path: Path) -> None:
    """Outputs follow the umask, whatever mode a library gave them."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_json_atomically(path: str | Path, value: Any) -> None:
    """Write ``value`` as JSON to ``path``, all of it or nothing.

    Raises:
        InputError: it cannot be written, or a number in it is infinite or NaN.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        try:
            json.dump(value, file, allow_nan=False)
        except ValueError as error:  # Python reads such numbers from files, but JSON has none
            raise InputError(
                f"cannot write {path}: it would contain an infinite or NaN number, which is "
                "not JSON; correct that number in the input"
            ) from error


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
