"""Reading JSON with clear errors, and writing files atomically.

Temporary files and folders have hidden names that end with the machine, the process id and eight
random digits. ``remove_temporaries`` removes those of the current process when a command ends for
any reason; those of a killed process are removed by the next one that writes to the same folder.
Only files of dead processes of the same machine, boot and container are removed, since the state of
processes on other machines that share the file system is unknown. If a process id is in use again,
the file is removed later.
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
import stat
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
_BLOCK = 1 << 20  # bytes per read
_TEMPORARY = 100  # maximum bytes of the original name in a temporary name (limit: 255)
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}

_unfinished: dict[Path, Path] = {}  # temporary files and folders, and their targets
_finished: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("finished", default=None)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path next to ``path``, which it replaces when the block succeeds.

    The temporary file has the same suffix, since writers choose formats by it, and is removed if
    the block raises. Missing parent folders are created. Inside ``files_together``, the file is
    moved at the end of that block instead.

    Raises:
        InputError: the folder cannot be created or written, or the disk is full.
    """
    path = Path(path)
    target = _unfinished.get(path, path)  # the path known to the user
    temporary = _temporary_beside(path, path.stem, path.suffix)
    is_postponed = False
    try:
        with _as_input_error(target):
            if path.is_dir():
                raise InputError(f"cannot write {target}: is a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(path.parent)
            temporary.touch(exist_ok=False)
        try:
            yield temporary
        except InputError:  # for another file
            raise
        except OSError as error:
            if error.errno in _DISK_ERRORS:
                raise _cannot_write(target, error) from error
            raise
        except Exception as error:  # libraries raise various types if the disk is full
            if os.strerror(errno.ENOSPC) in str(error):
                raise InputError(f"cannot write {target}: {os.strerror(errno.ENOSPC)}") from error
            raise
        with _as_input_error(target):
            _set_default_permissions(temporary)
        is_postponed = _publish(temporary, path)
    finally:
        if not is_postponed:
            _discard(temporary)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder, which replaces ``path`` as for ``atomic_path``.

    An existing folder is replaced with all its content.

    Raises:
        InputError: the folder cannot be created or written, or ``path`` is a file.
    """
    path = Path(path)
    temporary = _temporary_beside(path, path.name)
    is_postponed = False
    try:
        with _as_input_error(path):
            if path.exists() and not path.is_dir():
                raise InputError(f"cannot write {path}: is a file, not a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(path.parent)
            temporary.mkdir()
        yield temporary
        is_postponed = _publish(temporary, path)
    finally:
        if not is_postponed:
            _discard(temporary)


def _publish(temporary: Path, path: Path) -> bool:
    """Move a finished file to its path; returns True if ``files_together`` does this later.

    A file inside an unfinished folder is moved immediately.
    """
    together = _finished.get()
    if together is None or path in _unfinished:
        _replace([(temporary, path)])
        return False
    together.append((temporary, path))
    return True


@contextmanager
def files_together() -> Iterator[None]:
    """Publish the files written by ``atomic_path`` in the block together: all or none."""
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
    """Move temporary files to their paths; if one fails, new files are removed again.

    In this case, replaced folders are restored, but replaced files are not.
    """
    new: list[Path] = []
    old: list[tuple[Path, Path]] = []  # folders, which cannot be replaced atomically
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
def _as_input_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {path}: {error.strerror or error}")


def _temporary_beside(path: Path, stem: str, suffix: str = "") -> Path:
    """A new name next to ``path``, registered before creation in case of a signal."""
    name = f".{shortened(stem, _TEMPORARY)}-{machine_id()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(name + suffix)
    _unfinished[temporary] = _unfinished.get(path, path)
    return temporary


@cache
def machine_id() -> str:
    """Eight digits that identify machine, boot and container: the scope of process ids."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return f"{zlib.crc32(' '.join(parts).encode(errors='replace')):08x}"


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of dead processes of this machine from a folder."""
    if os.name != "posix":
        return
    pattern = re.compile(rf"\..*-{machine_id()}-(\d+)-[0-9a-f]{{8}}(\..*)?", re.DOTALL)
    try:
        names = os.listdir(folder)
    except PermissionError:  # a folder may be writable but not readable
        return
    for name in names:
        found = pattern.fullmatch(name)
        if found and folder / name not in _unfinished and not _is_alive(int(found[1])):
            _discard(folder / name)


def _is_alive(process: int) -> bool:
    """Whether another process with this id is running."""
    if process == os.getpid():  # an earlier process had this id: own files are registered
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def remove_temporaries() -> None:
    """Remove the temporary files and folders of this process, when it ends."""
    own = f"-{machine_id()}-{os.getpid()}-"  # not those of the parent of a forked process
    with signals_held():
        for temporary in [path for path in _unfinished if own in path.name]:
            _discard(temporary)


def _discard(temporary: Path) -> None:
    _remove(temporary)
    _unfinished.pop(temporary, None)


def _remove(path: Path) -> None:
    """Remove a file or folder, ignoring errors."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def check_not_read(target: str | Path, *sources: str | Path | None) -> None:
    """Raise an InputError if ``target`` is one of the other files of a command."""
    if Path(target).resolve() in {Path(s).resolve() for s in sources if s is not None}:
        raise InputError(f"{target}: is also an input or another output; write to another file")


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder that becomes the new folder ``path`` when the block succeeds.

    Args:
        path: a folder that does not exist or is empty.

    Raises:
        InputError: the folder is not empty, or its parent cannot be written.
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
    """A private folder in the system's temporary directory, removed after the block.

    Raises:
        InputError: the folder cannot be created.
    """
    temporary = _temporary_beside(Path(tempfile.gettempdir()) / _PROGRAM, _PROGRAM)
    try:
        with _as_input_error(temporary):
            _remove_leftovers(temporary.parent)
            temporary.mkdir(mode=0o700)
        yield temporary
    finally:
        _discard(temporary)


def natural_key(path: Path) -> tuple[object, ...]:
    """Sort key for natural order: ``frame2`` before ``frame10``, folder by folder."""
    return tuple(
        ([(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", part)], part)
        for part in path.parts
    )


def shortened(name: str, size: int) -> str:
    """A file name truncated to at most ``size`` bytes, without splitting characters."""
    data = os.fsencode(name)
    if len(data) <= size:
        return name
    return os.fsdecode(data[:size].decode(errors="ignore").encode())


def _set_default_permissions(path: Path) -> None:
    """Give a file the mode of a new one, regardless of the mode set by a library."""
    # the umask can be read only by changing it, for all threads: create a file instead
    new = _temporary_beside(path, path.name)
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    path.chmod(stat.S_IMODE(new.stat().st_mode))
    _discard(new)


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def flush_to_disk(path: Path) -> None:
    """Flush a file, or the names in a folder, so that a power failure loses nothing; POSIX only."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json_atomically(path: str | Path, value: Any) -> None:
    """Write ``value`` as JSON to ``path``, atomically.

    Raises:
        InputError: the file cannot be written, or the value contains an infinite or NaN number.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        try:
            json.dump(value, file, allow_nan=False)
        except ValueError as error:  # Python's parser accepts such numbers, but JSON does not
            raise InputError(
                f"cannot write {path}: it would contain an infinite or NaN number, which is "
                "not valid JSON; correct that number in the input"
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
