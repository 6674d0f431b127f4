"""Storage of a data set: a local folder, or an object store accessed through ``pyarrow.fs``."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from queryinst_vis.errors import InputError, first_line
from queryinst_vis.formats.track_tables import import_pyarrow
from queryinst_vis.utils.files import atomic_path, flush_to_disk
from queryinst_vis.video.http import without_secrets

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

T = TypeVar("T")

ATTEMPTS = 5
"""Maximum attempts per operation on an object store, with pauses of 0.5, 1, 2 and 4 seconds."""

RETRY_TIMEOUT = 60.0
"""Seconds after which a failed operation is not retried: one attempt may take several requests,
which the store's own client retries as well."""

PAUSE = 0.5  # seconds before the second attempt
_BLOCK = 8 << 20  # bytes; object stores take parts of at least 5 MiB


def file_system_of(address: str) -> tuple[FileSystem, str]:
    """The file system of a URI such as ``s3://bucket/folder``, and the path in it.

    Raises:
        InputError: pyarrow does not support the file system, or it cannot be reached.
    """
    import_pyarrow()
    from pyarrow import fs

    try:
        return fs.FileSystem.from_uri(address)
    except Exception as error:  # pyarrow raises many types for invalid URIs
        raise InputError(f"{without_secrets(address)}: {first_line(error)}") from error


class Store:
    """A folder of files that are written atomically.

    A local file is written under a temporary name, flushed to disk and renamed. An object is
    written by one request or by a multipart upload, and is invisible until that is complete. All
    operations are idempotent; those that fail are retried, up to ``ATTEMPTS`` attempts or
    ``RETRY_TIMEOUT``.

    Args:
        address: a folder or a URI that ``pyarrow.fs`` supports, such as ``s3://bucket/folder``.

    Attributes:
        name: the address without secrets.

    Raises:
        InputError: as for ``file_system_of``.
    """

    def __init__(self, address: str | Path) -> None:
        text = str(address)
        self._folder: Path | None = None if "://" in text else Path(text)
        self.name = text if self._folder else without_secrets(text)
        if self._folder is None:
            self._system, self._root = file_system_of(text)

    def put(self, file: Path, name: str) -> None:
        """Copy a local file to ``name``, replacing an existing file.

        Raises:
            InputError: it cannot be written.
        """
        if self._folder is not None:
            self._write(self._folder / name, partial(shutil.copyfile, file))
            return

        def upload() -> None:
            with file.open("rb") as source:
                block = source.read(_BLOCK)  # before the upload starts
                with self._system.open_output_stream(self._path(name), buffer_size=0) as target:
                    while block:
                        target.write(block)
                        block = source.read(_BLOCK)

        self._retry(upload, name)

    def put_bytes(self, data: bytes, name: str) -> None:
        """Write a small file.

        Raises:
            InputError: it cannot be written.
        """
        if self._folder is not None:
            self._write(self._folder / name, lambda path: path.write_bytes(data))
            return

        def upload() -> None:
            with self._system.open_output_stream(self._path(name)) as target:
                target.write(data)

        self._retry(upload, name)

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if it does not exist."""
        if self._folder is not None:
            path = self._folder / name
            return path.read_bytes() if path.is_file() else None

        def download() -> bytes | None:
            try:
                with self._system.open_input_stream(self._path(name)) as file:
                    return file.read()
            except FileNotFoundError:
                return None

        return self._retry(download, name)

    def list(self, folder: str = "", *, recursive: bool = False) -> dict[str, int]:
        """Sizes in bytes of the files in a folder, by relative path; without hidden files."""
        if self._folder is not None:
            local = self._folder / folder
            paths = local.rglob("*") if recursive else local.glob("*")
            names = {path.relative_to(local).as_posix(): path for path in paths}
            return {
                name: path.stat().st_size
                for name, path in sorted(names.items())
                if not path.name.startswith(".") and path.is_file()
            }
        from pyarrow import fs

        base = self._path(folder).rstrip("/")
        selector = fs.FileSelector(base, allow_not_found=True, recursive=recursive)
        found: list[FileInfo] = self._retry(lambda: self._system.get_file_info(selector), folder)
        return {
            info.path[len(base) + 1 :]: info.size
            for info in sorted(found, key=lambda info: info.path)
            if info.type == fs.FileType.File
        }

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        if self._folder is not None:
            (self._folder / name).unlink(missing_ok=True)
            return

        def remove() -> None:
            with suppress(FileNotFoundError):
                self._system.delete_file(self._path(name))

        self._retry(remove, name)

    def open_parquet(self, name: str) -> Any:
        """Open a file as ``pyarrow.parquet.ParquetFile``, for reading in batches.

        Raises:
            InputError: it is damaged.
        """
        from pyarrow import ArrowInvalid, parquet

        try:
            if self._folder is not None:
                return parquet.ParquetFile(self._folder / name)
            return self._retry(
                lambda: parquet.ParquetFile(self._system.open_input_file(self._path(name))), name
            )
        except ArrowInvalid as error:
            raise InputError(f"{self.name}/{name}: is damaged ({first_line(error)})") from error

    def _write(self, path: Path, write: Callable[[Path], object]) -> None:
        """Write a local file; once this returns, it survives a power failure."""
        with atomic_path(path) as temporary:
            write(temporary)
            flush_to_disk(temporary)
        flush_to_disk(path.parent)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _retry(self, request: Callable[[], T], name: str) -> T:
        """Repeat a request until it succeeds, within ``ATTEMPTS`` and ``RETRY_TIMEOUT``."""
        start = time.monotonic()
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            try:
                return request()
            except PermissionError as error:
                raise InputError(f"{self.name}/{name}: {first_line(error)}") from error
            except OSError as error:
                last = error
            spent = time.monotonic() - start
            if spent > RETRY_TIMEOUT:
                break
        raise InputError(
            f"{self.name}/{name}: failed {attempt + 1} times in {spent:.0f} s ({first_line(last)})"
        ) from last
